//! HAProxy twice, in TCP mode, TLS 1.3 between the two.

use std::process::Command;

use super::{Pair, Place, Setup};
use crate::certs::{Certs, NAME};
use crate::error::Result;

pub(super) fn start(place: &Place<'_>) -> Result<Pair> {
    let ports = &place.env.ports;
    let (web, bulk, tunnel_web, tunnel_bulk) = (ports.take()?, ports.take()?, ports.take()?, ports.take()?);
    let Certs { ca, both, .. } = place.certs;
    let (ca, both) = (ca.display(), both.display());
    let to_peer = format!("ssl crt {both} ca-file {ca} verify required verifyhost {NAME} sni str({NAME})");
    let from_peer = format!("ssl crt {both} ca-file {ca} verify required");
    let egress = config(place.env.cpus, &[("web", web, tunnel_web), ("bulk", bulk, tunnel_bulk)], "", &to_peer);
    let origins = [("web", tunnel_web, place.origin.web), ("bulk", tunnel_bulk, place.origin.bulk.port())];
    let ingress = config(place.env.cpus, &origins, &from_peer, "");
    let mut processes = Vec::new();
    for (role, config) in [("egress", egress), ("ingress", ingress)] {
        let mut command = Command::new(&place.env.tools.haproxy);
        command.arg("-db").arg("-f").arg(place.config(role, "cfg", &config)?);
        processes.push(place.spawn(role, command)?);
    }
    Ok(Pair { setup: Setup::Haproxy, web, bulk, processes })
}

/// One process: for each (name, listen, connect) a listener, with TLS on the side where there is a tunnel. Sessions
/// are resumed and buffers are 16 KiB, as is the default. Splicing is left out: it does nothing where there is TLS.
fn config(threads: usize, routes: &[(&str, u16, u16)], bind: &str, server: &str) -> String {
    let mut text = format!(
        "global
    nbthread {threads}
    maxconn 9000
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-server-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
    ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
defaults
    mode tcp
    maxconn 9000
    timeout connect 5s
    timeout client 1h
    timeout server 1h
",
    );
    for (name, listen, connect) in routes {
        text += &format!(
            "listen {name}\n    bind 127.0.0.1:{listen} {bind}\n    server next 127.0.0.1:{connect} {server}\n"
        );
    }
    text
}
