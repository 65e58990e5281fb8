//! The rules and the dashboard of deploy/monitoring, with a real Prometheus and real gateways.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

mod grafana;
mod prometheus;

use isthmus_tests::{
    Config, Endpoint, Gateway, Load, Nginx, Part, Surroundings, Topology, Transport, UdpEcho, admin, apart, client,
    datagrams, endpoint, eventually,
    load::Reuse,
    pair,
    topology::{gateway, pod},
};
use prometheus::{Prometheus, file};
use serde_json::Value;
use std::{collections::BTreeSet, net::SocketAddr};

/// What the scripts of a panel are asked with.
const VARIABLES: [(&str, &str); 3] = [("$cluster", ".*"), ("$service", ".*"), ("$__rate_interval", "8s")];
/// A service of UDP.
const DNS: u16 = 5353;

/// Where Prometheus, on west's side, reaches a gateway's admin address.
fn admin_of(topology: &Topology, cluster: &str) -> SocketAddr {
    SocketAddr::new(topology.cluster(cluster).tunnel_address().ip(), admin::ADDRESS.port())
}

/// The same configuration, with its admin address reachable.
fn reachable(mut config: Config) -> Config {
    config.admin = SocketAddr::new("0.0.0.0".parse().unwrap(), admin::ADDRESS.port());
    config
}

/// Titles and queries of all panels, with the variables set.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap().to_owned();
            let query = VARIABLES.iter().fold(query, |query, (name, value)| query.replace(name, value));
            queries.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    queries
}

/// Names of metrics in a text, without what a histogram appends.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let ours = words.filter(|word| word.starts_with("isthmus_") || word.starts_with("process_"));
    ours.map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned()).collect()
}

#[test]
fn every_metric_that_is_asked_for_is_documented() {
    let docs = include_str!("../../docs/metrics.md");
    let documented: BTreeSet<_> = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let queries: String = panels().into_iter().map(|(_, query)| query + "\n").collect();
    let rules: String = file("rules.yaml")
        .lines()
        .filter(|line| !line.contains('#') && !line.contains("description:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let used = metrics_in(&(queries + &rules));
    let unknown: Vec<_> = used.iter().filter(|name| !documented.contains(name.as_str())).collect();
    assert!(unknown.is_empty() && used.len() > 20, "{unknown:?} of {used:?}");
}

#[test]
fn every_alert_is_in_the_handbook() {
    let docs = include_str!("../../docs/monitoring.md");
    let rules = file("rules.yaml");
    let missing: Vec<_> = alerts(&rules).into_iter().filter(|alert| !docs.contains(&format!("`{alert}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn alerts(rules: &str) -> Vec<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[test]
fn a_pair_that_is_well_fills_every_panel_and_fires_nothing() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _nginx = Nginx::start(east.pods(), &topology.dir().join("nginx"), pair::endpoint(), "hello");
    let _dns = UdpEcho::serve(east.pods(), pod(3, DNS), "dns");
    let _tcp = Endpoint::serve(east.pods(), east.tasks(), pod(3, DNS), endpoint::echo);
    let west_config = reachable(pair::west_config(&topology, Transport::Auto)).imports_both("net/dns", gateway(DNS));
    let east_config = reachable(pair::east_config(&topology, Transport::Auto, &[pair::endpoint()]));
    let east_config = east_config.exports_both("net/dns", DNS, &[pod(3, DNS).ip()]);
    let pair = pair::Pair::start_with(&topology, &west_config, &east_config);
    let load = pair.load(2, Reuse::ConnectionPerRequest, "hello");
    let asker = datagrams::client(west.pods(), gateway(DNS));
    let prometheus = Prometheus::start(
        west.edge(),
        topology.dir(),
        &[("west", admin_of(&topology, "west")), ("east", admin_of(&topology, "east"))],
    );
    for (title, query) in panels() {
        eventually(&format!("{title}: {query} returns numbers"), || {
            datagrams::ask(&asker, b"who").map_err(|e| e.to_string())?;
            let result = prometheus.query(&query);
            let is_number = |of: &Value| of["value"][1].as_str().is_some_and(|number| number != "NaN");
            if result.iter().any(is_number) { Ok(()) } else { Err(format!("{result:?}")) }
        });
    }
    let rules = prometheus.rules();
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        if let Some(name) = rule["name"].as_str().filter(|_| rule["type"] == "recording") {
            eventually(&format!("{name} is recorded"), || match prometheus.query(name).len() {
                0 => Err("nothing".into()),
                _ => Ok(()),
            });
        }
    }
    assert!(rules.len() > 20, "{}", rules.len());
    assert_eq!(prometheus.firing(), BTreeSet::new());
    drop(load);
}

/// One thing after another goes wrong, and each is said.
#[test]
fn every_alert_is_fired_by_what_it_is_for() {
    let topology = Topology::new(&["west", "east", "north"]);
    topology.make_identities_that_live("1h");
    let (west, east, north) = (topology.cluster("west"), topology.cluster("east"), topology.cluster("north"));
    let mut nginx = Nginx::start(east.pods(), &topology.dir().join("nginx"), pair::endpoint(), "hello");
    let small = "limits: {memory: 16MiB}";
    let west_config = reachable(pair::west_config(&topology, Transport::Tls)).with(small);
    let east_config = reachable(pair::east_config(&topology, Transport::Tls, &[pair::endpoint()])).with(small);
    // A clock that differs degrades the link.
    let ahead = Surroundings { clock: Some("+60s".into()), ..Surroundings::default() };
    let mut east_gateway = Gateway::start_in(east, &east_config, &ahead);
    let west_gateway = Gateway::start(west, &west_config);
    west_gateway.wait_imported(pair::SERVICE, &["east"]);
    // A gateway whose control is not there has no table, and is not ready.
    let yaml = apart::gateway_yaml(north, apart::control_address(north));
    let yaml = yaml.replace(&admin::ADDRESS.to_string(), &format!("0.0.0.0:{}", admin::ADDRESS.port()));
    let _north = Gateway::launch(north, Part::Gateway, &yaml, &Surroundings::default());
    let clusters = ["west", "east", "north"].map(|cluster| (cluster, admin_of(&topology, cluster)));
    let prometheus = Prometheus::start(west.edge(), topology.dir(), &clusters);
    let started = ["IsthmusIdentityExpires", "IsthmusControlDetached", "IsthmusNotReady", "IsthmusLinkDegraded"];
    let mut fired = BTreeSet::from(started);
    prometheus.wait_alerts(&started);
    let mut provoke = |names: &[&'static str], cause: &mut dyn FnMut()| {
        names.iter().for_each(|name| prometheus.wait_quiet(name));
        cause();
        prometheus.wait_alerts(names);
        fired.extend(names);
    };

    let stranger = format!(
        "openssl s_client -connect {} -alpn isthmus/1 </dev/null >/dev/null 2>&1 || true",
        east.tunnel_address()
    );
    provoke(&["IsthmusHandshakesRefused"], &mut || drop(west.edge().exec("sh", &["-c", &stranger])));

    provoke(&["IsthmusConfigurationRefused"], &mut || west_gateway.configure_text("nonsense: true\n"));
    west_gateway.configure(&west_config);

    let mut many = Vec::new();
    provoke(&["IsthmusMemoryShort", "IsthmusBoundReached"], &mut || {
        topology.block_on(async {
            for _ in 0..400 {
                many.extend(client::connect(west.pods(), pair::import()).await.ok());
            }
        });
    });
    drop(many);

    west_gateway.configure(&west_config.clone().with_import_policy(pair::LOCAL_HOP));
    west_gateway.wait_metric("isthmus_local_hop", &["state=\"on\""], |on| on == 1.0);
    provoke(&["IsthmusLocalHopDistrusted"], &mut || {
        west_gateway.map("ends").fill();
        eventually("a client has found no room", || {
            drop(topology.block_on(client::connect(west.pods(), pair::import())));
            let refused = west_gateway.status()["local_hop"]["refused"].as_u64();
            if refused > Some(0) { Ok(()) } else { Err(format!("{refused:?}")) }
        });
    });

    let load = Load::start(west.pods(), west.tasks(), pair::import(), 2, Reuse::ConnectionPerRequest, "hello");
    provoke(&["IsthmusServiceWithoutEndpoint", "IsthmusStreamsFail"], &mut || nginx.kill());
    drop(load);

    provoke(&["IsthmusLinkDown"], &mut || topology.cut_wan());
    topology.restore_wan();

    provoke(&["IsthmusGatewayAbsent"], &mut || east_gateway.kill());

    let rules = file("rules.yaml");
    assert_eq!(fired, alerts(&rules).into_iter().collect());
}
