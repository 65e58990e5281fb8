//! Who may use what: access policies decide by cluster, namespace, service account, network and port, for new streams and for open ones.

use crate::{envoys, over_each_transport};
use isthmus_tests::{
    Config, End, Endpoint, Envoy, Gateway, Topology, Transport, UdpEcho, client,
    datagrams::{ask, client as udp_client, set_patience},
    endpoint, eventually,
    gateway::Surroundings,
    pair::{self, Pair},
    topology::{gateway, pod},
};
use serde_json::Value;
use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::net::TcpStream;

over_each_transport!(
    whoever_is_allowed_gets_through_and_others_are_reset,
    a_dry_run_denies_nobody_and_says_whom_it_would,
    a_policy_that_is_added_ends_the_streams_that_it_denies,
    local_clients_are_decided_on_as_those_of_other_clusters,
);

/// Clients of the shop's front, and of something else in the same cluster.
const WEB: u8 = 2;
const JOB: u8 = 3;
/// Whose these addresses are.
const SOURCES: &str = "sources:
  - {cidrs: [10.0.0.2], namespace: shop, serviceAccount: web, pod: web-0}
  - {cidrs: [10.0.0.0/24], namespace: shop, serviceAccount: job}";
/// What says nothing and what says that only the front of west may use the service.
const OPEN: &str = "";
const CALLERS: &str = "accessPolicies:
  - name: callers
    services: [shop/api]
    ports: [80/tcp]
    rules: [{name: web, from: [{clusters: [west], serviceAccounts: [shop/web]}]}]";
const DECISIONS: &str = "isthmus_policy_decisions_total";

fn dry(policies: &str) -> String {
    format!("{policies}\n    dryRun: true")
}

fn east_config(topology: &Topology, transport: Transport, more: &str) -> Config {
    pair::east_config(topology, transport, &[pair::endpoint()]).with("accessLog: access.log").with(more)
}

fn start<'t>(topology: &'t Topology, transport: Transport, more: &str) -> (Endpoint, Pair<'t>) {
    let east = topology.cluster("east");
    let echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let west = pair::west_config(topology, transport).with(SOURCES);
    (echo, Pair::start_with(topology, &west, &east_config(topology, transport, more)))
}

async fn connect(gateway: &Gateway<'_>, host: u8, listen: SocketAddr) -> TcpStream {
    let from = IpAddr::from([10, 0, 0, host]);
    client::connect_from(gateway.cluster().pods(), from, listen).await.unwrap()
}

/// A client's stream that works.
async fn echoed(gateway: &Gateway<'_>, host: u8, listen: SocketAddr) -> TcpStream {
    let mut stream = connect(gateway, host, listen).await;
    client::exchange(&mut stream, b"may I?").await.unwrap();
    stream
}

async fn is_reset(stream: &mut TcpStream) {
    assert_eq!(client::receive(stream).await.end, End::Error(ErrorKind::ConnectionReset));
}

/// A client that is refused: it may be so quickly that it does not see itself connected.
async fn denied(gateway: &Gateway<'_>, host: u8, listen: SocketAddr) {
    let from = IpAddr::from([10, 0, 0, host]);
    match client::connect_from(gateway.cluster().pods(), from, listen).await {
        Ok(mut stream) => is_reset(&mut stream).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// The access record of a client of west, once it is written.
fn record(gateway: &Gateway<'_>, host: u8) -> Value {
    record_of(gateway, &format!("10.0.0.{host}:"))
}

/// That of a client whose address begins so.
fn record_of(gateway: &Gateway<'_>, client: &str) -> Value {
    let path = gateway.cluster().dir().join("access.log");
    let mut found = Value::Null;
    eventually("the access record is written", || {
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of = records.filter(|record| record["client"].as_str().is_some_and(|of| of.starts_with(client)));
        found = of.reduce(|_, last| last).ok_or(text.clone())?;
        Ok(())
    });
    found
}

/// What `isthmus trace` says of the next stream, the record of each says of that one: at both gateways.
#[test]
fn a_record_says_whom_there_was_to_choose_from_and_why_not_the_others() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let dead = pod(3, 8080);
    // It is tried until it is left out, which nothing ends before the last stream.
    let outliers = "{outliers: {failures: 1, ejection: 1h, longestEjection: 1h}}";
    let pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, Transport::Tls).with("accessLog: access.log"),
        &pair::east_config(&topology, Transport::Tls, &[pair::endpoint(), dead])
            .with("accessLog: access.log")
            .with_export_policy(outliers),
    );
    let stream = || topology.block_on(async { echoed(&pair.west, WEB, pair::import()).await.local_addr().unwrap() });
    let (client, out, theirs) = eventually("a stream has met the endpoint that is left out", || {
        let client = stream().to_string();
        let record = record_of(&pair.east, &client);
        let candidates = record["choices"][0]["candidates"].as_array().cloned().unwrap_or_default();
        let out = candidates.into_iter().find(|of| of["name"] == dead.to_string() && !of["left_out"].is_null());
        out.map(|out| (client, out, record.clone())).ok_or_else(|| record.to_string())
    });
    assert!(out["left_out"].as_str().unwrap().contains("does not take connections"), "{out}");
    let choice = &theirs["choices"][0];
    assert_eq!(choice["chosen"], pair::endpoint().to_string(), "{theirs}");
    assert!(choice["candidates"][0]["score"].as_f64().is_some_and(|score| score > 0.0), "{theirs}");
    let ours = record_of(&pair.west, &client);
    let choice = &ours["choices"][0];
    assert_eq!((&choice["chosen"], &choice["candidates"][0]["share"]), (&"east".into(), &2.0.into()), "{ours}");
    assert!(choice["candidates"][0]["rtt_ms"].is_number(), "{ours}");
}

fn whoever_is_allowed_gets_through_and_others_are_reset(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, transport, CALLERS);
    topology.block_on(async {
        drop(echoed(&pair.west, WEB, pair::import()).await);
        denied(&pair.west, JOB, pair::import()).await;
    });
    pair.east.wait_metric(DECISIONS, &["rule=\"callers:web\"", "decision=\"allow\""], |sum| sum == 1.0);
    pair.east.wait_metric(DECISIONS, &["rule=\"callers:default\"", "decision=\"deny\""], |sum| sum == 1.0);
    let allowed = record(&pair.east, WEB);
    assert_eq!(allowed["source"], "spiffe://west.e2e/ns/shop/sa/web", "{allowed}");
    assert_eq!((&allowed["source_pod"], &allowed["policy"]), (&"web-0".into(), &"callers:web".into()), "{allowed}");
    let denied = record(&pair.east, JOB);
    assert_eq!(denied["source"], "spiffe://west.e2e/ns/shop/sa/job", "{denied}");
    assert_eq!(
        (&denied["closed"], &denied["policy"]),
        (&"refused_denied".into(), &"callers:default".into()),
        "{denied}"
    );
    // West was told that a policy denies it; which one, it was not.
    pair.west.wait_metric("isthmus_streams_closed_total", &["reason=\"refused_denied\""], |sum| sum == 1.0);
}

fn a_dry_run_denies_nobody_and_says_whom_it_would(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, transport, &dry(CALLERS));
    topology.block_on(async {
        for host in [WEB, JOB] {
            drop(echoed(&pair.west, host, pair::import()).await);
        }
    });
    let record = record(&pair.east, JOB);
    assert_eq!((&record["policy"], &record["policy_dry_run"]), (&Value::Null, &"callers:default".into()), "{record}");
    pair.east.wait_metric(DECISIONS, &["decision=\"would_deny\""], |sum| sum == 1.0);
    assert_eq!(pair.east.metrics().sum(DECISIONS, &["decision=\"deny\""]), 0.0);
}

fn a_policy_that_is_added_ends_the_streams_that_it_denies(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, transport, OPEN);
    let (mut web, mut job) = topology.block_on(async {
        (echoed(&pair.west, WEB, pair::import()).await, echoed(&pair.west, JOB, pair::import()).await)
    });
    pair.east.configure(&east_config(&topology, transport, CALLERS));
    topology.block_on(async {
        is_reset(&mut job).await;
        client::exchange(&mut web, b"and I?").await.unwrap();
    });
    pair.east.wait_metric("isthmus_streams_closed_total", &["reason=\"denied\""], |sum| sum == 1.0);
    let ended = record(&pair.east, JOB);
    assert_eq!((&ended["closed"], &ended["policy"]), (&"denied".into(), &"callers:default".into()), "{ended}");
    // Nobody is allowed any more.
    pair.east.configure(&east_config(&topology, transport, "accessPolicies: [{name: closed, services: [\"*\"]}]"));
    topology.block_on(is_reset(&mut web));
    pair.east.configure(&east_config(&topology, transport, OPEN));
    pair.wait_echo();
}

fn local_clients_are_decided_on_as_those_of_other_clusters(transport: Transport) {
    let topology = Topology::west_and_east();
    let listen = gateway(18080);
    let of_own = "accessPolicies:
  - name: own
    services: [shop/*]
    rules: [{name: web, from: [{clusters: [east], namespaces: [shop], cidrs: [10.0.0.2]}]}]";
    let (_echo, pair) = start(&topology, transport, OPEN);
    let config =
        |policies: &str| east_config(&topology, transport, SOURCES).imports(pair::SERVICE, listen).with(policies);
    pair.east.configure(&config(OPEN));
    eventually("east listens", || pair.east.cluster().pods().connect(listen).map(drop).map_err(|e| e.to_string()));
    let mut job = topology.block_on(echoed(&pair.east, JOB, listen));
    pair.east.configure(&config(of_own));
    topology.block_on(async {
        is_reset(&mut job).await;
        drop(echoed(&pair.east, WEB, listen).await);
        denied(&pair.east, JOB, listen).await;
        // West's own front is another one.
        denied(&pair.west, WEB, pair::import()).await;
    });
}

mod udp {
    use super::*;

    #[test]
    fn over_tls() {
        flows_are_decided_on_too(Transport::Tls);
    }

    #[test]
    fn over_quic() {
        flows_are_decided_on_too(Transport::Quic);
    }
}

fn flows_are_decided_on_too(transport: Transport) {
    const SERVICE: &str = "net/echo";
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = UdpEcho::serve(east.pods(), pod(2, 7), "echo");
    let exports =
        |more: &str| Config::new(east).is_dialled_by(west).exports_both(SERVICE, 7, &[pod(2, 0).ip()]).with(more);
    let east = Gateway::start(east, &exports(OPEN));
    let west =
        Gateway::start(west, &Config::new(west).dials(east.cluster(), transport).imports_both(SERVICE, gateway(7)));
    west.wait_imported(SERVICE, &["east"]);
    let client = udp_client(west.cluster().pods(), gateway(7));
    ask(&client, b"may I?").unwrap();
    let opened = || east.metrics().sum("isthmus_streams_opened_total", &[]);
    let before = opened();
    // The TCP port of the same number is not meant.
    east.configure(&exports("accessPolicies: [{name: closed, services: [net/echo], ports: [7/udp]}]"));
    east.wait_metric("isthmus_streams_closed_total", &["reason=\"denied\""], |sum| sum == 1.0);
    set_patience(&client, Duration::from_millis(100));
    // The first ones may meet the old flow, which west has not ended yet.
    eventually("a new flow is denied", || {
        assert!(ask(&client, b"and now?").is_err());
        let denied = east.metrics().sum("isthmus_streams_closed_total", &["reason=\"refused_denied\""]);
        if denied >= 1.0 { Ok(()) } else { Err(east.log()) }
    });
    assert!(opened() > before);
    east.configure(&exports("accessPolicies: [{name: closed, services: [net/echo], ports: [7/tcp]}]"));
    eventually("datagrams go again", || ask(&client, b"again?").map(drop).map_err(|e| e.to_string()));
}

/// What Envoy says of its clients is believed within its own trust domain. What it says of another one's is refused.
#[test]
fn an_envoy_speaks_for_its_own_cluster_only() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let config = pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]).with(CALLERS);
    let gateway = Gateway::start(east, &config);
    let trust = envoys::trust(west, "east");
    let listens = [18081, 18082, 18083].map(isthmus_tests::topology::gateway);
    let says =
        ["spiffe://west.e2e/ns/shop/sa/web", "spiffe://east.e2e/ns/shop/sa/web", "spiffe://west.e2e/ns/shop/sa/job"];
    let _envoys: Vec<_> = listens
        .into_iter()
        .zip(says)
        .map(|(listen, id)| {
            let dir = west.dir().join(listen.port().to_string());
            std::fs::create_dir(&dir).unwrap();
            let (peer, baggage) = (east.tunnel_address(), format!("isthmus.source.id={id}"));
            Envoy::egress_saying(west.edge(), &dir, listen, peer, (envoys::AUTHORITY, &baggage), &trust)
        })
        .collect();
    topology.block_on(async {
        let connect = |listen| client::connect(west.pods(), listen);
        let mut allowed = connect(listens[0]).await.unwrap();
        client::exchange(&mut allowed, b"may I?").await.unwrap();
        for listen in &listens[1..] {
            let ended = client::receive(&mut connect(*listen).await.unwrap()).await;
            assert_eq!(ended.bytes, 0);
        }
    });
    gateway.wait_log(&["refusing a stream", "cannot speak for spiffe://east.e2e/ns/shop/sa/web"]);
    // Envoy was asked before, too, whether it listens.
    gateway.wait_metric("isthmus_streams_closed_total", &["reason=\"refused_denied\""], |sum| sum >= 2.0);
    gateway.wait_metric(DECISIONS, &["decision=\"deny\""], |sum| sum >= 1.0);
}

/// `isthmus trace` says what will be decided, and how many streams there are, before and without any.
#[test]
fn a_trace_names_the_rule_that_decides() {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, Transport::Tls, CALLERS);
    let _stream = topology.block_on(echoed(&pair.west, WEB, pair::import()));
    let east = topology.cluster("east");
    let admin = isthmus_tests::admin::ADDRESS.to_string();
    let trace = |from: &str| -> Value {
        let path = format!("/trace/{}?from={from}", pair::SERVICE);
        let (status, body) = isthmus_tests::admin::get(east.edge(), isthmus_tests::admin::ADDRESS, &path).unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let web = trace("west/shop/web");
    assert_eq!((&web["decisions"][0]["allowed"], &web["decisions"][0]["by"]), (&true.into(), &"callers:web".into()));
    assert_eq!((&web["taken"][0]["side"], &web["taken"][0]["streams"]), (&"ingress".into(), &1.into()));
    for from in ["west/shop/job", "west@10.0.0.2", "east/shop/web"] {
        let decision = &trace(from)["decisions"][0];
        assert_eq!((&decision["allowed"], &decision["by"]), (&false.into(), &"callers:default".into()), "{from}");
    }
    let args = ["trace", pair::SERVICE, "--admin", &admin, "--from", "west/shop/web"];
    let text = Surroundings::default().command(east.edge(), &args);
    assert!(text.contains("shop/api:80  allowed   callers:web  -"), "{text}");
}
