//! `isthmus trace`: the way of a stream to a service, hop by hop; who could serve it, and where its next streams would go.

mod decisions;
mod hop;
mod render;

use super::{Failure, admin::Admin};
use crate::{output::Output, progress};
use isthmus_control_api::ServiceName;
use isthmus_gateway::status::trace::{Trace, Whom};
use render::View;
use std::net::IpAddr;

/// Arguments of `isthmus trace`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The gateway opens a stream to each cluster that it would choose, and closes it once an endpoint has taken it; nothing is sent. What it \
takes is timed from the gateway.

Exit codes:
  0  new streams of the service are served
  1  the gateway could not be asked
  2  the command line is wrong
  3  the gateway does not know the service, would send its streams nowhere, would deny them (--from), or a hop fails: the message names it")]
pub(crate) struct Args {
    /// The service, as imports and exports name it
    #[arg(value_name = "NAMESPACE/NAME")]
    service: ServiceName,
    /// Whose streams access policies are asked about, as `west/shop/web@10.0.0.9`
    #[arg(long, value_name = "CLUSTER[/NAMESPACE/ACCOUNT][@ADDRESS]")]
    from: Option<Whom>,
    /// Open the streams on behalf of the client with this address: access policies may decide by it
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// The name that clients use; otherwise NAME.NAMESPACE.svc.clusterset.local, which need not be there
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Open no stream: show only what the gateway would choose
    #[arg(long, conflicts_with_all = ["client", "name"])]
    no_walk: bool,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
}

/// Asks, prints, judges.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = super::linking::runtime()?;
    let view = runtime.block_on(progress::told("tracing", look(args)));
    // A lookup of a name may hang in its thread.
    runtime.shutdown_background();
    let view = view?;
    args.output.print(&view)?;
    problem(&view.trace).or_else(|| hop::problem(&view.hops)).map_or(Ok(()), |problem| Err(Failure::unwell(problem)))
}

async fn look(args: &Args) -> Result<View, Failure> {
    let from = args.from.as_ref().map(|from| format!("?from={from}")).unwrap_or_default();
    let json = args.admin.get(&format!("/trace/{}{from}", args.service)).await?;
    let mut view = View::new(&json, &args.admin.address)?;
    if !args.no_walk {
        let name = args.name.as_deref();
        view.hops = hop::walk(&args.admin.address, &view.trace, &args.service, args.client, name).await?;
    }
    Ok(view)
}

/// Why its streams would not be served, in one line.
fn problem(trace: &Trace) -> Option<String> {
    if trace.imports.is_empty() && trace.exports.is_empty() {
        return Some(format!("{} neither imports nor exports {}", trace.cluster, trace.service));
    }
    if let Some(denied) = trace.decisions.iter().find(|decision| !decision.allowed) {
        return Some(format!("{} would be denied by {}", denied.name, denied.by.as_deref().unwrap_or("a policy")));
    }
    let nowhere =
        |clusters: &[_]| clusters.iter().all(|of: &isthmus_gateway::status::trace::ClusterTrace| of.percent == 0.0);
    let import = trace.imports.iter().find(|import| nowhere(&import.clusters));
    let export = trace.exports.iter().find(|export| export.endpoints.iter().all(|endpoint| endpoint.percent == 0.0));
    import
        .map(|import| format!("streams to {} would go nowhere", import.listen))
        .or_else(|| export.map(|export| format!("no endpoint would take a stream for {}", export.name)))
}

#[cfg(test)]
mod tests;
