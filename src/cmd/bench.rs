//! `isthmus bench`: how long streams to a service take, and what it carries, as a client here sees it; or what a link carries.

mod link;
mod load;
mod report;
mod round;
mod times;

use super::{Failure, admin::Admin, linking};
use crate::{output::Output, progress};
use isthmus_control_api::{ClusterName, ServiceName};
use isthmus_gateway::status::trace::{ImportTrace, Trace};
use load::Plan;
use report::Report;
use round::Round;
use std::{net::SocketAddr, time::Duration};

/// Arguments of `isthmus bench`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
#[command(after_help = "\
Each round is a connection of its own, as a new client makes it, through the gateway's listener. Without --http nothing is sent but the \
end: a round is over with the endpoint's first byte, or its end, which is one way through all of it and back. With --http it is a GET, \
and the whole answer counts for the throughput.

The load has bounds: so many connections at once, rounds a second, seconds, and bytes of answers, whichever is reached first.

With --link it measures the tunnels to a linked cluster, without any service: the gateway opens streams to the cluster's gateway and \
moves bytes as fast as they go, with round trips beside them, before and under the load. At most 10 seconds, 2000 MiB and 16 streams; \
the other gateway serves one measurement at a time, for a tenth of the time at most, and may have them off.

Exit codes:
  0  every round was answered, every stream lasted
  1  nothing was measured
  2  the command line is wrong
  3  some rounds failed, or some streams ended early: the message says how")]
pub(crate) struct Args {
    /// The service, as imports name it
    #[arg(value_name = "NAMESPACE/NAME", group = "what")]
    service: Option<ServiceName>,
    /// Measure the link with this cluster
    #[arg(long, value_name = "CLUSTER", group = "what", conflicts_with_all = ["at", "port", "http", "connections", "rate"])]
    link: Option<ClusterName>,
    /// Connect here instead of where the gateway listens for the service
    #[arg(long, value_name = "ADDRESS:PORT")]
    at: Option<SocketAddr>,
    /// The service's port, where it has several
    #[arg(long, value_name = "PORT", conflicts_with = "at")]
    port: Option<u16>,
    /// Ask for this path by HTTP/1.1
    #[arg(long, value_name = "PATH", value_parser = path)]
    http: Option<String>,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Of a link: streams at once
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "service", value_parser = clap::value_parser!(u16).range(1..=16))]
    streams: u16,
    /// Of a link: which way the bytes go
    #[arg(long, value_enum, default_value_t, value_name = "DIRECTION", conflicts_with = "service")]
    direction: link::Direction,
    /// How long; a link for 10 at most
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds a second, all connections together
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// MiB, all together: of answers 256 if nothing is said, of a link 1000, and 2000 at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16_384))]
    mebibytes: Option<u64>,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
}

/// MiB of answers where nothing is said.
const MEBIBYTES: u64 = 256;

/// Measures, prints, judges.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = linking::runtime()?;
    let problem = match (&args.link, &args.service) {
        (Some(link), _) => {
            let report = runtime.block_on(progress::told("measuring", link::measure(args, link)))?;
            args.output.print(&report)?;
            report.problem()
        }
        (None, Some(service)) => {
            let report = runtime.block_on(progress::told("measuring", measure(args, service)))?;
            args.output.print(&report)?;
            report.problem()
        }
        (None, None) => return Err(Failure::usage("expected NAMESPACE/NAME or --link CLUSTER")),
    };
    problem.map_or(Ok(()), |problem| Err(Failure::unwell(problem)))
}

async fn measure(args: &Args, service: &ServiceName) -> Result<Report, Failure> {
    let (at, leads_to) = match args.at {
        Some(at) => (at, None),
        None => listener(args, service).await?,
    };
    let plan = Plan {
        round: Round { at, http: args.http.as_ref().map(|path| (path.clone(), service.to_string())) },
        connections: args.connections,
        time: Duration::from_secs(args.seconds),
        rate: args.rate,
        bytes: args.mebibytes.unwrap_or(MEBIBYTES) << 20,
    };
    let measured = load::run(&plan).await;
    if measured.rounds == 0 {
        let why = measured.faults.keys().next().map_or("no round was over in time", String::as_str);
        let message =
            format!("nothing was measured at {at}: {why}: `isthmus trace {service}` names the hop that fails");
        return Err(Failure::failed(message));
    }
    Ok(Report::new(&service.to_string(), leads_to, &plan, &measured))
}

/// Where clients of the service connect, and the clusters that it leads to.
async fn listener(args: &Args, service: &ServiceName) -> Result<(SocketAddr, Option<String>), Failure> {
    let json = args.admin.get(&format!("/trace/{service}")).await?;
    let trace: Trace = serde_json::from_slice(&json)?;
    let fits = |import: &&ImportTrace| {
        let port = args.port.is_none_or(|port| import.name.ends_with(&format!(":{port}")));
        port && import.listen.parse::<SocketAddr>().is_ok()
    };
    let import = trace.imports.iter().find(fits);
    let import = import.ok_or_else(|| {
        let port = args.port.map_or_else(String::new, |port| format!(":{port}"));
        let own = &trace.cluster;
        Failure::failed(format!(
            "{own} has no listener of TCP for {service}{port} without server names: expected one of its imports; --at measures any \
             address"
        ))
    })?;
    let chosen = import.clusters.iter().filter(|cluster| cluster.percent > 0.0);
    let words: Vec<_> = chosen.map(|cluster| format!("{}% to {}", cluster.percent, cluster.cluster)).collect();
    let at = import.listen.parse::<SocketAddr>()?;
    Ok((super::admin::here(at), (!words.is_empty()).then(|| words.join(", "))))
}

/// A path is a part of a line of HTTP.
fn path(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("expected / and printable ASCII characters without spaces".into()) }
}
