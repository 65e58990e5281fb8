//! Active checks of endpoints, by real servers.

use isthmus_tests::{
    Config, Endpoint, Gateway, GrpcHealth, Haproxy, Nginx, Topology, Transport, client, endpoint, eventually,
    pair::{self, Pair},
    topology::pod,
};
use std::{collections::BTreeSet, fs, io, net::SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The check of an endpoint, as /status has it, once it is in `state`.
fn wait_check(gateway: &Gateway<'_>, address: SocketAddr, state: &str) -> serde_json::Value {
    eventually(&format!("{address} is {state} by its check"), || {
        let status = gateway.status();
        let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
        let endpoints = services.iter().filter_map(|service| service["endpoints"].as_array()).flatten();
        let mut check = endpoints.filter(|endpoint| endpoint["address"] == address.to_string()).map(|e| &e["check"]);
        let check = check.next().cloned().unwrap_or_default();
        if check["state"] == state { Ok(check) } else { Err(check.to_string()) }
    })
}

/// East's gateway alone, with one endpoint.
fn checking<'a>(topology: &'a Topology, address: SocketAddr, policy: &'static str) -> Gateway<'a> {
    let east = topology.cluster("east");
    Gateway::start(east, &Config::new(east).exports(pair::SERVICE, &[address]).with_export_policy(policy))
}

/// What answers a request.
fn served_by(pair: &Pair<'_>) -> String {
    let answer: io::Result<String> = pair.topology.block_on(async {
        let mut stream = pair.connect().await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    });
    answer.unwrap().rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
}

#[test]
fn what_answers_with_a_wrong_status_gets_no_streams_until_it_answers_right() {
    const ASKED: usize = 40;
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let servers = [2, 3].map(|host| {
        let nginx = Nginx::start(east.pods(), east.dir(), pod(host, 8080), &format!("{host}"));
        fs::write(nginx.files().join("well"), "").unwrap();
        nginx
    });
    let addresses = [pod(2, 8080), pod(3, 8080)];
    let check = "{health: {check: http, path: /files/well, interval: 100ms, unhealthy: 2, healthy: 2}}";
    let pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, Transport::Tls),
        &pair::east_config(&topology, Transport::Tls, &addresses).with_export_policy(check),
    );
    for address in addresses {
        wait_check(&pair.east, address, "up");
    }
    let all = || (0..ASKED).map(|_| served_by(&pair)).collect::<BTreeSet<_>>();
    assert_eq!(all(), ["2", "3"].map(str::to_owned).into());

    fs::remove_file(servers[0].files().join("well")).unwrap();
    let found = wait_check(&pair.east, addresses[0], "down");
    assert_eq!(found["error"], "status 404");
    // Each core is told a moment after the check is noted.
    pair.east.wait_metric("isthmus_endpoints", &[r#"health="down""#], |count| count == 1.0);
    eventually("only the other one serves", || {
        let all = all();
        if all == ["3".to_owned()].into() { Ok(()) } else { Err(format!("{all:?}")) }
    });
    assert_eq!(all(), ["3".to_owned()].into(), "and nothing else any more");

    fs::write(servers[0].files().join("well"), "").unwrap();
    wait_check(&pair.east, addresses[0], "up");
    eventually("both serve", || if all().len() == 2 { Ok(()) } else { Err("one".into()) });
    let metrics = pair.east.metrics();
    assert!(metrics.sum("isthmus_health_checks_total", &[r#"result="failed""#]) >= 2.0);
    assert_eq!(metrics.sum("isthmus_endpoints_checked", &[r#"state="up""#]), 2.0);
}

#[test]
fn where_all_are_down_streams_are_sent_there_nevertheless() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let check = "{health: {check: http, interval: 100ms, timeout: 100ms, unhealthy: 1}}";
    let pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, Transport::Tls),
        &pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]).with_export_policy(check),
    );
    wait_check(&pair.east, pair::endpoint(), "down");
    pair.wait_echo();
}

#[test]
fn one_that_takes_no_connections_is_down_before_any_stream() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let gateway = checking(&topology, pair::endpoint(), "{health: {check: tcp, interval: 100ms, unhealthy: 2}}");
    let found = wait_check(&gateway, pair::endpoint(), "down");
    assert_eq!(found["error"], "cannot connect: connection refused");
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::hang);
    wait_check(&gateway, pair::endpoint(), "up");
}

#[test]
fn nginx_behind_the_proxy_protocol_can_be_checked() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start_listening(east.pods(), east.dir(), pair::endpoint(), "proxy_protocol", "served");
    let policy = "{proxyProtocol: v2, health: {check: http, expect: 200, interval: 100ms}}";
    wait_check(&checking(&topology, pair::endpoint(), policy), pair::endpoint(), "up");
}

#[test]
fn a_grpc_server_says_whether_it_serves() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let server = GrpcHealth::serve(east.pods(), east.tasks(), pair::endpoint());
    let policy = "{health: {check: grpc, grpcService: shop.Api, interval: 100ms, unhealthy: 1, healthy: 1}}";
    let gateway = checking(&topology, pair::endpoint(), policy);
    assert_eq!(wait_check(&gateway, pair::endpoint(), "down")["error"], "gRPC status 5", "it knows no such service");
    server.set("shop.Api", true);
    wait_check(&gateway, pair::endpoint(), "up");
    server.set("shop.Api", false);
    assert_eq!(wait_check(&gateway, pair::endpoint(), "down")["error"], "serving status 2");
}

#[test]
fn a_tls_server_shakes_hands_for_its_name() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let own = rcgen::generate_simple_self_signed(["api.example".to_owned()]).unwrap();
    let pem = east.dir().join("api.pem");
    fs::write(&pem, own.cert.pem() + &own.signing_key.serialize_pem()).unwrap();
    let bind = format!("ssl crt {}", pem.display());
    let _haproxy = Haproxy::start(east.pods(), east.dir(), pair::endpoint(), &bind, &["mode tcp"]);
    for (policy, state) in [
        ("{health: {check: tls, interval: 100ms}}", "up"),
        ("{health: {check: tls, host: api.example, interval: 100ms}}", "up"),
        ("{health: {check: tls, host: other.example, interval: 100ms}}", "down"),
    ] {
        wait_check(&checking(&topology, pair::endpoint(), policy), pair::endpoint(), state);
    }
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pod(3, 8080), endpoint::echo);
    let policy = "{health: {check: tls, interval: 100ms, timeout: 100ms}}";
    wait_check(&checking(&topology, pod(3, 8080), policy), pod(3, 8080), "down");
}

/// All of its time is the endpoint's, and a stream that waits for it is not the check's business.
#[test]
fn one_that_hangs_is_down_and_the_gateway_goes_on() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _hangs = Endpoint::serve(east.pods(), east.tasks(), pod(2, 8080), endpoint::hang);
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pod(3, 8080), |mut stream| async move {
        let mut first = [0];
        if stream.read(&mut first).await? == 1 && first == *b"G" {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            return stream.shutdown().await;
        }
        stream.write_all(&first).await?;
        endpoint::echo(stream).await
    });
    let check = "{health: {check: http, interval: 200ms, timeout: 100ms, unhealthy: 2}}";
    let pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, Transport::Tls),
        &pair::east_config(&topology, Transport::Tls, &[pod(2, 8080), pod(3, 8080)]).with_export_policy(check),
    );
    let found = wait_check(&pair.east, pod(2, 8080), "down");
    assert_eq!(found["error"], "no answer within 100 ms");
    pair.east.wait_metric("isthmus_endpoints", &[r#"health="down""#], |count| count == 1.0);
    pair.wait_echo();
    topology.block_on(async {
        for _ in 0..20 {
            let mut stream = pair.connect().await.unwrap();
            client::exchange(&mut stream, b"are you well?").await.unwrap();
        }
    });
}
