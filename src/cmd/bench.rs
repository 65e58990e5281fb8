//! `isthmus bench`: how long streams to a service take, and what it carries, as a client here sees it.

mod load;
mod report;
mod round;

use super::{Failure, admin::Admin, linking};
use crate::{output::Output, progress};
use isthmus_control_api::ServiceName;
use isthmus_gateway::status::trace::{ImportTrace, Trace};
use load::Plan;
use report::Report;
use round::Round;
use std::{net::SocketAddr, time::Duration};

/// Arguments of `isthmus bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each round is a connection of its own, as a new client makes it, through the gateway's listener. Without --http nothing is sent but the \
end: a round is over with the endpoint's first byte, or its end, which is one way through all of it and back. With --http it is a GET, \
and the whole answer counts for the throughput.

The load has bounds: so many connections at once, rounds a second, seconds, and bytes of answers, whichever is reached first.

Exit codes:
  0  every round was answered
  1  nothing was measured
  2  the command line is wrong
  3  some rounds failed: the message says how")]
pub(crate) struct Args {
    /// The service, as imports name it
    #[arg(value_name = "NAMESPACE/NAME")]
    service: ServiceName,
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
    /// How long
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds a second, all connections together
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// MiB of answers, all together
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=16_384))]
    mebibytes: u64,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
}

/// Measures, prints, judges.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let report = linking::runtime()?.block_on(progress::told("measuring", measure(args)))?;
    args.output.print(&report)?;
    report.problem().map_or(Ok(()), |problem| Err(Failure::unwell(problem)))
}

async fn measure(args: &Args) -> Result<Report, Failure> {
    let (at, leads_to) = match args.at {
        Some(at) => (at, None),
        None => listener(args).await?,
    };
    let plan = Plan {
        round: Round { at, http: args.http.as_ref().map(|path| (path.clone(), args.service.to_string())) },
        connections: args.connections,
        time: Duration::from_secs(args.seconds),
        rate: args.rate,
        bytes: args.mebibytes << 20,
    };
    let measured = load::run(&plan).await;
    if measured.rounds == 0 {
        let why = measured.faults.keys().next().map_or("no round was over in time", String::as_str);
        let service = &args.service;
        let message =
            format!("nothing was measured at {at}: {why}: `isthmus trace {service}` names the hop that fails");
        return Err(Failure::failed(message));
    }
    Ok(Report::new(&args.service.to_string(), leads_to, &plan, &measured))
}

/// Where clients of the service connect, and the clusters that it leads to.
async fn listener(args: &Args) -> Result<(SocketAddr, Option<String>), Failure> {
    let service = &args.service;
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
