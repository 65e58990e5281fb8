//! Envoy twice, with one TLS connection for each TCP connection or with HTTP/2 CONNECT (HBONE) between the two.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use super::{Pair, Place, Setup};
use crate::certs::{Certs, NAME};
use crate::error::{Error, Result};
use crate::ground::local;

const TYPE: &str = "type.googleapis.com/envoy.extensions";
/// Far above what any case needs, because Envoy's circuit breakers refuse the 1025th connection by default.
const MANY: u32 = 1_000_000;
/// With its default (16 MiB, and 24 MiB for the connection that all share) two stalled readers lock out everybody, and
/// bulk is slower than with this on loopback: the default would not be a fair peer there. Over a WAN it is the default
/// that is fair: this would be 26 Mbit/s a stream at 80 ms.
const STREAM_WINDOW: u32 = 256 * 1024;
/// How often a peer is dialled for one connection, where there are several paths to it; others are tried once anyhow.
const ATTEMPTS: u32 = 3;

pub(super) fn start_tcp(place: &Place<'_>) -> Result<Pair> {
    let (web, bulk, tunnel_web, tunnel_bulk) = (place.port()?, place.port()?, place.port()?, place.port()?);
    let (origin, certs) = (place.site.origin, place.site.certs);
    let mut egress = Bootstrap::default();
    let mut ingress = Bootstrap::default();
    let routes = [
        ("web", web, tunnel_web, origin.endpoints.clone()),
        ("bulk", bulk, tunnel_bulk, vec![local(origin.bulk.port())]),
    ];
    for (name, port, tunnel, target) in routes {
        egress.listener(local(port), &tcp_proxy(json!({"cluster": name, "max_connect_attempts": ATTEMPTS})), None);
        let peer = with_checks(place, json!({"transport_socket": to_peer(certs, None)}));
        egress.cluster(name, &place.far(tunnel), peer);
        let listen = place.listen(tunnel);
        ingress.listener(listen, &tcp_proxy(json!({"cluster": name})), Some(from_peer(certs, None)));
        ingress.cluster(name, &target, json!({"lb_policy": "LEAST_REQUEST"}));
    }
    start(place, Setup::EnvoyTcp, (web, bulk), egress, ingress)
}

pub(super) fn start_hbone(place: &Place<'_>) -> Result<Pair> {
    let (web, bulk, tunnel) = (place.port()?, place.port()?, place.port()?);
    let (origin, certs) = (place.site.origin, place.site.certs);
    let mut egress = Bootstrap::default();
    for (name, port) in [("web", web), ("bulk", bulk)] {
        let tunneling = json!({
            "cluster": "peer", "tunneling_config": {"hostname": authority(name)}, "max_connect_attempts": ATTEMPTS,
        });
        egress.listener(local(port), &tcp_proxy(tunneling), None);
    }
    let mut options = windows(place);
    if place.has_paths() {
        options["connection_keepalive"] = json!({"interval": "0.25s", "timeout": "0.25s"});
    }
    let http2 = json!({
        "transport_socket": to_peer(certs, Some("h2")),
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": options},
        }},
    });
    egress.cluster("peer", &place.far(tunnel), with_checks(place, http2));
    let mut ingress = Bootstrap::default();
    let terminator = connect_terminator(windows(place));
    ingress.listener(place.listen(tunnel), &terminator, Some(from_peer(certs, Some("h2"))));
    ingress.cluster("web", &origin.endpoints, json!({"lb_policy": "LEAST_REQUEST"}));
    ingress.cluster("bulk", &[local(origin.bulk.port())], json!({}));
    start(place, Setup::EnvoyHbone, (web, bulk), egress, ingress)
}

fn start(place: &Place<'_>, setup: Setup, ports: (u16, u16), egress: Bootstrap, ingress: Bootstrap) -> Result<Pair> {
    let command = |role: &str, bootstrap: Bootstrap| {
        let mut command = Command::new(&place.site.env.tools.envoy);
        command.arg("-c").arg(place.config(role, "json", &bootstrap.build().to_string())?);
        // Without hot restart no base id is needed to keep it apart from other Envoys of this machine.
        command.args(["--disable-hot-restart", "--log-level", "warning", "--concurrency"]);
        command.arg(place.cpus().to_string());
        Ok::<_, Error>(command)
    };
    let processes = vec![place.egress(command("egress", egress)?)?, place.ingress(command("ingress", ingress)?)?];
    Ok(Pair::behind(setup, ports.0, ports.1, processes))
}

/// Envoy's configuration, as it grows.
#[derive(Default)]
struct Bootstrap {
    listeners: Vec<Value>,
    clusters: Vec<Value>,
}

impl Bootstrap {
    fn listener(&mut self, listen: SocketAddr, filter: &Value, tls: Option<Value>) {
        let mut chain = json!({"filters": [filter]});
        if let Some(tls) = tls {
            chain["transport_socket"] = tls;
        }
        self.listeners.push(json!({
            "name": listen.to_string(), "address": address(&listen), "tcp_backlog_size": 4096, "filter_chains": [chain],
        }));
    }

    fn cluster(&mut self, name: &str, endpoints: &[SocketAddr], more: Value) {
        let endpoints: Vec<_> = endpoints.iter().map(|at| json!({"endpoint": {"address": address(at)}})).collect();
        let mut cluster = json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s",
            "circuit_breakers": {"thresholds": [{
                "max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY,
            }]},
            "load_assignment": {"cluster_name": name, "endpoints": [
                {"lb_endpoints": endpoints},
            ]},
        });
        if let (Some(cluster), Value::Object(more)) = (cluster.as_object_mut(), more) {
            cluster.extend(more);
        }
        self.clusters.push(cluster);
    }

    fn build(self) -> Value {
        json!({"static_resources": {"listeners": self.listeners, "clusters": self.clusters}})
    }
}

fn address(at: &SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn windows(place: &Place<'_>) -> Value {
    if place.site.ground.wan().is_some() { json!({}) } else { json!({"initial_stream_window_size": STREAM_WINDOW}) }
}

/// Where there are several paths: dead ones are found by connecting to each four times a second.
fn with_checks(place: &Place<'_>, mut cluster: Value) -> Value {
    if place.has_paths() {
        cluster["connect_timeout"] = json!("0.25s");
        cluster["health_checks"] = json!([{
            "timeout": "0.25s", "interval": "0.25s", "unhealthy_threshold": 1, "healthy_threshold": 2,
            "no_traffic_interval": "0.25s", "tcp_health_check": {},
        }]);
        cluster["close_connections_on_host_health_failure"] = json!(true);
    }
    cluster
}

fn tcp_proxy(mut config: Value) -> Value {
    config["@type"] = json!(format!("{TYPE}.filters.network.tcp_proxy.v3.TcpProxy"));
    config["stat_prefix"] = json!("tcp");
    config["idle_timeout"] = json!("3600s");
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config})
}

fn authority(name: &str) -> String {
    format!("{name}.bench.svc.clusterset.local:80")
}

/// Ends CONNECT and goes on over TCP, by authority.
fn connect_terminator(mut options: Value) -> Value {
    options["allow_connect"] = json!(true);
    let host = |name: &str| {
        json!({
            "name": name, "domains": [authority(name)],
            "routes": [{"match": {"connect_matcher": {}}, "route": {
                "cluster": name, "timeout": "0s", "idle_timeout": "3600s",
                "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
            }}],
        })
    };
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "hbone", "codec_type": "HTTP2", "stream_idle_timeout": "0s",
        "http2_protocol_options": options,
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "route_config": {"name": "hbone", "virtual_hosts": [host("web"), host("bulk")]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": format!("{TYPE}.filters.http.router.v3.Router"),
        }}],
    }})
}

fn tls_context(certs: &Certs, alpn: Option<&str>) -> Value {
    let file = |path: &std::path::Path| json!({"filename": path.display().to_string()});
    json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": file(&certs.cert), "private_key": file(&certs.key)}],
        "validation_context": {"trusted_ca": file(&certs.ca)},
        "alpn_protocols": alpn.into_iter().collect::<Vec<_>>(),
    })
}

fn to_peer(certs: &Certs, alpn: Option<&str>) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"),
        "sni": NAME, "common_tls_context": tls_context(certs, alpn),
    }})
}

fn from_peer(certs: &Certs, alpn: Option<&str>) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true, "common_tls_context": tls_context(certs, alpn),
    }})
}
