//! nginx's stream module twice, TLS 1.3 between the two.

use std::path::Path;
use std::process::Command;

use super::{Pair, Place, Setup};
use crate::certs::{Certs, NAME};
use crate::error::Result;

/// Where Debian has the stream module; others build it in.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn start(place: &Place<'_>) -> Result<Pair> {
    let ports = &place.env.ports;
    let (web, bulk, tunnel_web, tunnel_bulk) = (ports.take()?, ports.take()?, ports.take()?, ports.take()?);
    let egress = [(web, tunnel_web), (bulk, tunnel_bulk)];
    let ingress = [(tunnel_web, place.origin.web), (tunnel_bulk, place.origin.bulk.port())];
    let mut processes = Vec::new();
    for (role, text) in [
        ("egress", config(place, "egress", &to_peer(place.certs), "", &egress)),
        ("ingress", config(place, "ingress", &from_peer(place.certs), "ssl", &ingress)),
    ] {
        let mut command = Command::new(&place.env.tools.nginx);
        command.arg("-c").arg(place.config(role, "conf", &text)?);
        command.arg("-p").arg(place.env.dir()).arg("-e").arg(place.env.dir().join("nginx-error.log"));
        processes.push(place.spawn(role, command)?);
    }
    Ok(Pair { setup: Setup::Nginx, web, bulk, processes })
}

fn config(place: &Place<'_>, role: &str, tls: &str, listen: &str, routes: &[(u16, u16)]) -> String {
    let module = if Path::new(MODULE).exists() { format!("load_module {MODULE};\n") } else { String::new() };
    let pid = place.env.dir().join(format!("{}-{role}.pid", place.name));
    let (pid, workers) = (pid.display(), place.env.cpus);
    let servers: String = routes
        .iter()
        .map(|(from, to)| {
            format!(
                "    server {{ listen 127.0.0.1:{from} {listen} reuseport backlog=4096; proxy_pass 127.0.0.1:{to}; }}\n"
            )
        })
        .collect();
    format!(
        "{module}daemon off;
user root;
worker_processes {workers};
worker_rlimit_nofile 20000;
pid {pid};
error_log stderr error;
events {{ worker_connections 8192; }}
stream {{
    tcp_nodelay on;
    proxy_timeout 1h;
    proxy_connect_timeout 5s;
{tls}{servers}}}
"
    )
}

fn to_peer(Certs { ca, cert, key, .. }: &Certs) -> String {
    let (ca, cert, key) = (ca.display(), cert.display(), key.display());
    format!(
        "    proxy_ssl on;
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    proxy_ssl_session_reuse on;
    proxy_ssl_name {NAME};
    proxy_ssl_server_name on;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {ca};
    proxy_ssl_certificate {cert};
    proxy_ssl_certificate_key {key};
"
    )
}

fn from_peer(Certs { ca, cert, key, .. }: &Certs) -> String {
    let (ca, cert, key) = (ca.display(), cert.display(), key.display());
    format!(
        "    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_session_cache shared:tunnel:4m;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_verify_client on;
    ssl_client_certificate {ca};
"
    )
}
