//! nginx's stream module twice, TLS 1.3 between the two.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Pair, Place, Setup};
use crate::certs::{Certs, NAME};
use crate::error::{Error, Result};
use crate::ground::local;

/// Where Debian has the stream module; others build it in.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn start(place: &Place<'_>) -> Result<Pair> {
    let (web, bulk, tunnel_web, tunnel_bulk) = (place.port()?, place.port()?, place.port()?, place.port()?);
    let (env, origin, certs) = (place.site.env, place.site.origin, place.site.certs);
    let far = |port| place.site.ground.far_socket(port);
    let egress = [(local(web), far(tunnel_web)), (local(bulk), far(tunnel_bulk))];
    let ingress =
        [(place.listen(tunnel_web), local(origin.web)), (place.listen(tunnel_bulk), local(origin.bulk.port()))];
    let start = |role: &str, text: &str| {
        let mut command = Command::new(&env.tools.nginx);
        command.arg("-c").arg(place.config(role, "conf", text)?);
        command.arg("-p").arg(env.dir()).arg("-e").arg(env.dir().join("nginx-error.log"));
        Ok::<_, Error>(command)
    };
    let processes = vec![
        place.egress(start("egress", &config(place, "egress", &to_peer(certs), "", &egress))?)?,
        place.ingress(start("ingress", &config(place, "ingress", &from_peer(certs), "ssl", &ingress))?)?,
    ];
    Ok(Pair::behind(Setup::Nginx, web, bulk, processes))
}

fn config(place: &Place<'_>, role: &str, tls: &str, listen: &str, routes: &[(SocketAddr, SocketAddr)]) -> String {
    let module = if Path::new(MODULE).exists() { format!("load_module {MODULE};\n") } else { String::new() };
    let pid = place.site.env.dir().join(format!("{}-{role}.pid", place.name));
    let (pid, workers) = (pid.display(), place.cpus());
    let servers: String = routes
        .iter()
        .map(|(from, to)| format!("    server {{ listen {from} {listen} reuseport backlog=4096; proxy_pass {to}; }}\n"))
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
