use super::*;
use serde_json::json;

fn cluster(here: bool, percent: f64, message: Option<&str>) -> ClusterTrace {
    let json = json!({
        "cluster": if here { "west" } else { "east" }, "here": here, "ready": 1, "healthy": null, "live": true, "rtt_ms": 1.0,
        "part": 1.0, "percent": percent, "message": message,
    });
    serde_json::from_value(json).unwrap()
}

/// What was found: the answer of the peer on its tunnel, and to a stream.
fn found(tunnel: Option<&str>, stream: &str) -> Found {
    let (opened, reason) = if stream == "ok" { (Some(2.5), None) } else { (None, Some(stream)) };
    let service = json!({
        "cluster": "west", "service": "shop/api", "left_out": 0,
        "imports": [{"name": "shop/api:80", "listen": "127.0.0.1:1",
                     "clusters": [{"cluster": "east", "opened_ms": opened, "reason": reason, "error": reason}]}],
        "exports": [{"name": "shop/api:80", "endpoints": [{"address": "10.0.0.2:1", "connected_ms": null, "error": "refused"}]}],
    });
    let links = json!({"silent_cores": [], "links": [{"cluster": "east", "tunnels": [
        {"core": 0, "transport": "tls", "gateway": "1", "answered_ms": 1.5, "echoed_ms": 2.0, "error": tunnel},
    ]}]});
    Found { service: serde_json::from_value(service).unwrap(), links: serde_json::from_value(links).unwrap() }
}

/// The hops behind the gateway, with their marks.
fn marks(found: &Found) -> Vec<(&'static str, Mark)> {
    let hops = beyond(found, "127.0.0.1:1", &cluster(false, 100.0, None));
    hops.iter().map(|hop| (hop.hop, hop.mark)).collect()
}

#[test]
fn the_hop_that_fails_is_named_and_those_behind_it_are_not_blamed() {
    use Mark::{Failed, Ok, Skipped};
    let names = ["peer", "policy", "endpoint"];
    for (found, expected) in [
        (found(None, "ok"), [Ok, Ok, Ok]),
        (found(Some("it hangs"), "timeout"), [Failed, Skipped, Skipped]),
        (found(None, "denied"), [Ok, Failed, Skipped]),
        (found(None, "no_endpoint"), [Ok, Ok, Failed]),
        (found(None, "no_such_export"), [Ok, Skipped, Failed]),
    ] {
        let expected: Vec<_> = names.into_iter().zip(expected).collect();
        assert_eq!(marks(&found), expected, "{found:?}");
    }
    let hops = beyond(&found(None, "denied"), "127.0.0.1:1", &cluster(false, 100.0, None));
    assert_eq!(problem(&hops).unwrap(), "it fails at the policy (east): denied");
}

#[test]
fn without_a_tunnel_the_peer_is_the_hop() {
    let mut found = found(None, "no_tunnel");
    found.links.links.clear();
    assert_eq!(marks(&found)[0], ("peer", Mark::Failed));
}

#[test]
fn streams_that_stay_here_go_to_endpoints_at_once() {
    let hops = beyond(&found(None, "ok"), "127.0.0.1:1", &cluster(true, 100.0, None));
    assert_eq!(problem(&hops).unwrap(), "it fails at the endpoint (10.0.0.2:1): refused");
}

#[test]
fn a_gateway_that_would_send_a_stream_nowhere_says_why() {
    let import = json!({
        "name": "shop/api:80", "listen": "127.0.0.1:1", "affinity": "local", "weights": null, "sticky": false, "policy": {},
        "clusters": [cluster(false, 0.0, Some("no live tunnel leads there"))],
    });
    let trace =
        json!({"cluster": "west", "service": "shop/api", "imports": [import], "exports": [], "silent_cores": []});
    let trace: Trace = serde_json::from_value(trace).unwrap();
    let hop = gateway::hop(&trace, &trace.imports[0]);
    assert_eq!((hop.mark, hop.found.as_str()), (Mark::Failed, "east: no live tunnel leads there"));
}

#[test]
fn people_see_a_line_for_each_hop() {
    let hops = beyond(&found(None, "no_endpoint"), "127.0.0.1:1", &cluster(false, 100.0, None));
    let expected = "\
HOP         AT    TOOK    FOUND
√ peer      east  1.5 ms  answers on 1 tunnel (tls)
√ policy    east  -       allows it
× endpoint  east  -       no_endpoint
";
    assert_eq!(grid(&hops).to_string(), expected);
}

#[tokio::test]
async fn a_listener_that_is_not_there_and_a_name_that_nobody_has_are_told() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(listener::hop(&address.to_string()).await.mark, Mark::Failed);
    let service = "shop/api".parse().unwrap();
    assert_eq!(dns::hop(&service, Some("localhost")).await.mark, Mark::Ok);
}
