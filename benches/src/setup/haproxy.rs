//! HAProxy twice, in TCP mode, TLS 1.3 between the two.

use std::net::SocketAddr;
use std::process::Command;

use super::{Pair, Place, Setup};
use crate::certs::{Certs, NAME};
use crate::error::Result;
use crate::ground::local;

pub(super) fn start(place: &Place<'_>) -> Result<Pair> {
    let (web, bulk, tunnel_web, tunnel_bulk) = (place.port()?, place.port()?, place.port()?, place.port()?);
    let Certs { ca, both, .. } = place.site.certs;
    let (ca, both) = (ca.display(), both.display());
    // TLS to the peer, which is asked for a handshake now and then where there are several paths to it.
    let check = if place.has_paths() { "check inter 250ms fall 1 rise 2 on-marked-down shutdown-sessions" } else { "" };
    let to_peer = format!("ssl crt {both} ca-file {ca} verify required verifyhost {NAME} sni str({NAME}) {check}");
    let from_peer = format!("ssl crt {both} ca-file {ca} verify required");
    let egress = [("web", local(web), place.far(tunnel_web)), ("bulk", local(bulk), place.far(tunnel_bulk))];
    let origin = place.site.origin;
    let ingress = [
        ("web", place.listen(tunnel_web), origin.endpoints.clone()),
        ("bulk", place.listen(tunnel_bulk), vec![local(origin.bulk.port())]),
    ];
    let processes = vec![
        place.egress(command(place, "egress", &config(place, &egress, "", &to_peer))?)?,
        place.ingress(command(place, "ingress", &config(place, &ingress, &from_peer, ""))?)?,
    ];
    Ok(Pair::behind(Setup::Haproxy, web, bulk, processes))
}

/// HAProxy with this configuration.
pub(super) fn command(place: &Place<'_>, role: &str, config: &str) -> Result<Command> {
    let mut command = Command::new(&place.site.env.tools.haproxy);
    command.arg("-db").arg("-f").arg(place.config(role, "cfg", config)?);
    Ok(command)
}

/// One process: for each (name, listen, connect) a listener, with TLS on the side where there is a tunnel. Sessions
/// are resumed and buffers are 16 KiB, as is the default. Splicing is left out: it does nothing where there is TLS.
/// A server that does not answer is left for the other after 250 ms, where there are two.
pub(super) fn config(
    place: &Place<'_>,
    routes: &[(&str, SocketAddr, Vec<SocketAddr>)],
    bind: &str,
    server: &str,
) -> String {
    let patience = if place.has_paths() { "250ms\n    option redispatch 1" } else { "5s" };
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
    timeout connect {patience}
    timeout client 1h
    timeout server 1h
",
        threads = place.cpus(),
    );
    for (name, listen, connect) in routes {
        text += &format!("listen {name}\n    bind {listen} {bind}\n");
        if !place.has_paths() && connect.len() > 1 {
            text += "    balance leastconn\n";
        }
        for (n, connect) in connect.iter().enumerate() {
            text += &format!("    server next{n} {connect} {server}\n");
        }
    }
    text
}
