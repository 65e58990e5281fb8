use super::*;
use crate::cmd::admin as fetch;
use isthmus_gateway::{
    admin::{self, AdminSources, Readiness},
    metrics::Metrics,
    status::{CoreQuery, CoreReport, ExtraStatus},
};
use serde_json::json;
use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncWriteExt, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

fn status() -> serde_json::Value {
    json!({
        "cluster": "west", "clusterset": "demo", "version": "0.1.0", "ready": true, "not_ready": null,
        "table": {"version": 12, "age_seconds": 35.2},
        "links": [
            {"cluster": "east", "state": "up", "transport": "tls", "direction": "dialled", "rtt_ms": 1.234, "streams_in": 3,
             "streams_out": 14, "tunnels": 2, "sync_age_seconds": 2.0, "cert_expiry": "1970-01-01T23:00:00Z", "message": null,
             "gateways": {"reached": 2, "known": 3, "addresses": []}},
            {"cluster": "north", "state": "waiting", "transport": null, "direction": null, "rtt_ms": null, "streams_in": 0,
             "streams_out": 0, "tunnels": 0, "sync_age_seconds": null, "cert_expiry": null, "message": null},
        ],
        "services": [
            {"service": "shop/api", "port": 80, "kind": "import", "listen": "127.0.0.1:18080",
             "clusters": {"east": 2, "west": 1}, "endpoints": [], "message": null},
            {"service": "shop/api", "port": 80, "kind": "export", "listen": null, "clusters": {}, "message": null,
             "endpoints": [{"address": "10.0.0.2:8080", "health": "healthy", "inflight": 3, "ewma_ms": 0.5, "failures": 0,
                            "check": {"state": "down", "age_seconds": 1.5, "took_ms": 0.4, "error": "status 503"}}]},
            {"service": "shop/db", "port": 5432, "kind": "export", "listen": null, "clusters": {}, "endpoints": [],
             "message": "no endpoint is ready"},
        ],
        "identity": {"id": "spiffe://west.demo/ns/isthmus-system/sa/gateway", "not_after": "1970-01-01T22:00:00Z",
                     "renews_at": "1970-01-01T10:00:00Z", "last_error": null},
        "silent_cores": [], "control": null, "of_a_newer_version": 7
    })
}

fn view(json: &serde_json::Value) -> View {
    View::new(json.to_string(), "admin", SystemTime::UNIX_EPOCH).unwrap()
}

#[test]
fn a_status_is_tables_for_people() {
    let expected = "\
cluster west of demo, isthmus 0.1.0: ready
table version 12, 35s old
identity spiffe://west.demo/ns/isthmus-system/sa/gateway, expires in 22h, renewed in 10h

CLUSTER  STATE    TRANSPORT  DIRECTION  GATEWAYS  RTT     STREAMS IN/OUT  SYNC-AGE  CERT-EXPIRY  MESSAGE
east     up       tls        dialled    2/3       1.23ms  3/14            2s        23h          -
north    waiting  -          -          0/0       -       0/0             -         -            -

IMPORT       LISTEN           READY ENDPOINTS  MESSAGE
shop/api:80  127.0.0.1:18080  east 2, west 1   -

EXPORT        ENDPOINT              HEALTH   STREAMS  CONNECT  FAILURES  CHECK
shop/api:80   10.0.0.2:8080         healthy  3        0.50ms   0         down: status 503
shop/db:5432  no endpoint is ready  -        -        -        -         -
";
    assert_eq!(view(&status()).to_string(), expected);
}

#[test]
fn a_link_with_a_choice_says_what_new_streams_take_and_why() {
    let mut json = status();
    let line = "\nnew streams to east go over quic: the path loses 2.3% of the packets\n";
    json["links"][0]["chosen"] = "quic".into();
    json["links"][0]["chosen_because"] = "the path loses 2.3% of the packets".into();
    assert!(!view(&json).to_string().contains("new streams"));
    json["links"][0]["transport"] = "quic+tls".into();
    assert!(view(&json).to_string().contains(line), "{}", view(&json));
}

#[test]
fn a_relayed_link_says_through_whom() {
    let mut json = status();
    json["links"][0]["via"] = "hub".into();
    assert!(view(&json).to_string().contains("\neast     up       tls via hub  dialled "), "{}", view(&json));
}

#[test]
fn json_is_what_the_gateway_sent() {
    assert_eq!(serde_json::to_value(view(&status())).unwrap(), status());
}

#[test]
fn a_link_that_is_not_up_is_a_problem_and_so_is_not_ready() {
    let mut json = status();
    assert_eq!(problem(&view(&json)).as_deref(), Some("not every link is up: north is waiting"));
    json["links"][1]["state"] = "up".into();
    assert_eq!(problem(&view(&json)), None);
    json["not_ready"] = "draining".into();
    assert_eq!(problem(&view(&json)).as_deref(), Some("the gateway is not ready: draining"));
}

#[test]
fn a_gateway_says_how_it_fares_with_its_control() {
    let mut json = status();
    json["links"][1]["state"] = "up".into();
    let mut attachment =
        json!({"address": "10.0.0.9:15010", "attached": true, "sinceMs": 0, "version": 12, "newestVersion": 12});
    json["control"] = json!({"attachment": attachment});
    let line = "\ncontrol 10.0.0.9:15010: attached for 0s, has version 12\n";
    assert!(view(&json).to_string().contains(line), "{}", view(&json));
    assert_eq!(problem(&view(&json)), None);
    attachment["attached"] = false.into();
    attachment["error"] = "connecting: refused".into();
    json["control"] = json!({"attachment": attachment});
    let line = "\ncontrol 10.0.0.9:15010: not attached for 0s, serving by version 12; connecting: refused\n";
    assert!(view(&json).to_string().contains(line), "{}", view(&json));
    assert_eq!(problem(&view(&json)).as_deref(), Some("not attached to control at 10.0.0.9:15010"));
}

#[test]
fn a_control_says_how_its_gateways_fare() {
    let mut json = status();
    json["control"] = json!({"push": {"term": 7, "tableVersion": 12, "gateways": [
        {"gateway": "00000000000000ab", "name": "gw-1", "version": "0.1.0", "attachedMs": 0, "tableVersion": 12, "lagMs": 0},
        {"gateway": "00000000000000cd", "name": "gw-2", "version": "0.1.0", "attachedMs": 0, "tableVersion": 11, "lagMs": 1200,
         "rejected": {"version": 12, "reason": "the port is taken"}},
    ]}});
    let table = "\
control of term 7: 2 gateways attached

GATEWAY           NAME  VERSION  ATTACHED  TABLE  LAG     MESSAGE
00000000000000ab  gw-1  0.1.0    0s        12/12  -       -
00000000000000cd  gw-2  0.1.0    0s        11/12  1200ms  refused version 12: the port is taken
";
    assert!(view(&json).to_string().contains(table), "{}", view(&json));
}

#[test]
fn a_link_that_suffers_is_called_degraded_and_is_up() {
    let mut json = status();
    json["links"][1]["state"] = "up".into();
    json["links"][0]["degraded"] = true.into();
    assert!(view(&json).to_string().contains("east     degraded  tls"), "{}", view(&json));
    assert_eq!(problem(&view(&json)), None);
}

#[test]
fn a_certificate_that_is_not_kept_up_is_a_problem() {
    let mut json = status();
    json["identity"]["message"] = "the SVID ends in 300 s, and its renewal is overdue".into();
    assert!(view(&json).to_string().contains("\nthe SVID ends in 300 s"), "{}", view(&json));
    assert!(problem(&view(&json)).unwrap().starts_with("the SVID ends in 300 s"));
}

#[test]
fn something_else_than_a_status_is_refused() {
    let error = View::new("[1]", "127.0.0.1:1", SystemTime::UNIX_EPOCH).unwrap_err();
    assert!(format!("{error:?}").contains("127.0.0.1:1 answered something else than a status"));
}

fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_gateway_is_asked_over_http() {
    let (listener, address) = bind();
    let (_ready, ready) = watch::channel(Readiness::default());
    let sources = AdminSources {
        metrics: Metrics::new(1),
        cores: 1,
        ask: Arc::new(|_, CoreQuery(to, _)| drop(to.send(CoreReport::default()))),
        probe: Arc::new(|_, _| {}),
        ready,
        extra: Arc::new(|| ExtraStatus { cluster: "west".into(), ..ExtraStatus::default() }),
        console: Default::default(),
        transparent_sources: Default::default(),
    };
    let mut server = JoinSet::new();
    server.spawn(admin::serve(listener, sources, CancellationToken::new()));
    let json = fetch::get(&address.to_string(), "/status").await.unwrap();
    let view = View::new(json, "", SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!((view.status.cluster.as_str(), view.status.ready), ("west", false));
    let refused = fetch::get(&address.to_string(), "/nothing").await.unwrap_err().to_string();
    assert!(refused.contains("404"), "{refused}");
}

#[tokio::test]
async fn nobody_there_says_what_to_do() {
    let (listener, address) = bind();
    drop(listener);
    let error = fetch::get(&address.to_string(), "/status").await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("nothing listens on {address}: start the gateway")), "{error}");
    let error = fetch::get("no-port", "/status").await.unwrap_err().to_string();
    assert!(error.contains("expected HOST:PORT"), "{error}");
}

#[tokio::test]
async fn who_does_not_speak_http_is_told_apart() {
    let (listener, address) = bind();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let other = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
        // The client closes as soon as it has seen enough.
        tokio::time::timeout(Duration::from_secs(60), socket.readable()).await.unwrap().unwrap();
    };
    let name = address.to_string();
    let (answer, ()) = tokio::join!(fetch::get(&name, "/status"), other);
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("does not speak HTTP"), "{error}");
}
