//! Whether this machine has what the configuration needs: ports and descriptors.

use crate::cmd::check::line::{Line, Lines};
use isthmus_control::{Config, config::ControlAt};
use rustix::process::{Resource, getrlimit};
use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    num::NonZeroUsize,
    thread::available_parallelism,
};

/// Descriptors that a gateway has open without any stream.
const IDLE: u64 = 256;
/// What each core may have beside those of its streams: pipes, of two each.
const CORE: u64 = 2 * isthmus_gateway::SPLICE_PIPES;

/// Lines about them. `running`: the gateway holds its ports.
pub(super) fn lines(config: &Config, running: bool) -> Vec<Line> {
    let mut lines = Lines::about("this machine");
    for (field, address, protocol) in ports(config) {
        let wanted = format!("{protocol} {address} ({field}) is free");
        if running {
            lines.skipped("machine.port", wanted, "the gateway runs, and holds it");
            continue;
        }
        match bind(address, protocol) {
            Ok(()) => lines.ok("machine.port", wanted, None),
            Err(error) => {
                let fix = in_the_way(&error, field, address);
                lines.failed("machine.port", wanted, error.to_string(), fix);
            }
        }
    }
    let cores = config.cores.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let others = IDLE + CORE * cores as u64;
    descriptors(&mut lines, (config.limits.connections as u64, others), getrlimit(Resource::Nofile).current);
    lines.into_vec()
}

/// Every address that a gateway with this configuration listens on.
fn ports(config: &Config) -> Vec<(&'static str, SocketAddr, &'static str)> {
    let is_control = matches!(config.control, Some(ControlAt::Listen { .. }));
    let mut ports = vec![("admin", config.admin, "TCP")];
    if !is_control {
        ports.extend(["TCP", "UDP"].map(|protocol| ("tunnel.listen", config.tunnel.listen, protocol)));
        ports.extend(
            config.imports.keys().map(|listen| {
                ("imports[].listen", listen.address, if listen.protocol.is_tcp() { "TCP" } else { "UDP" })
            }),
        );
    }
    if let Some(ControlAt::Listen { gateways, joins }) = &config.control {
        ports.push(("control.listen", *gateways, "TCP"));
        ports.extend(joins.map(|joins| ("control.joins", joins, "TCP")));
    }
    ports.extend(config.dns.iter().flat_map(|dns| ["TCP", "UDP"].map(|protocol| ("dns.listen", dns.listen, protocol))));
    ports
}

fn bind(address: SocketAddr, protocol: &str) -> io::Result<()> {
    if protocol == "UDP" { UdpSocket::bind(address).map(drop) } else { TcpListener::bind(address).map(drop) }
}

fn in_the_way(error: &io::Error, field: &str, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!("end what listens there (`ss -ltnup sport = :{port}` names it), or give {field} another address")
        }
        io::ErrorKind::PermissionDenied => {
            format!("give {field} a port above 1023, or the gateway the capability CAP_NET_BIND_SERVICE")
        }
        io::ErrorKind::AddrNotAvailable => format!("give {field} an address of this machine (`ip address` lists them)"),
        _ => format!("give {field} another address"),
    }
}

/// Each proxied connection takes one descriptor at the client's side, and one more if its endpoint is here. `others`: what is open beside.
fn descriptors(lines: &mut Lines, (connections, others): (u64, u64), limit: Option<u64>) {
    let wanted = "enough files can be open";
    let needed = connections.saturating_mul(2).saturating_add(others);
    match limit {
        Some(limit) if limit < needed => {
            let fits = limit.saturating_sub(others) / 2;
            let found = format!("the limit here is {limit}; limits.connections of {connections} can need {needed}");
            let fix = format!(
                "ulimit -n {needed} before it starts, LimitNOFILE={needed} in its unit; or limits: {{connections: {}}}",
                fits.max(1)
            );
            lines.failed("machine.files", wanted, found, fix);
        }
        limit => lines.ok("machine.files", wanted, limit.map(|limit| limit.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::check::line::Mark;

    fn files(connections: u64, limit: Option<u64>) -> Line {
        let mut lines = Lines::about("this machine");
        descriptors(&mut lines, (connections, IDLE), limit);
        lines.into_vec().remove(0)
    }

    #[test]
    fn a_limit_on_files_that_is_too_low_names_what_fits() {
        assert_eq!(files(1000, Some(2256)).mark, Mark::Ok);
        assert_eq!(files(1000, None).mark, Mark::Ok);
        let line = files(1000, Some(1024));
        assert_eq!(line.mark, Mark::Failed);
        let fix = line.fix.unwrap();
        assert!(fix.contains("ulimit -n 2256") && fix.contains("connections: 384"), "{fix}");
    }

    #[test]
    fn a_port_that_is_taken_is_found() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, "TCP").unwrap_err();
        assert!(in_the_way(&error, "admin", address).contains(&format!("sport = :{}", address.port())));
        drop(taken);
        bind(address, "TCP").unwrap();
    }
}
