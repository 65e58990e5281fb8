//! `isthmus trace`: who could serve a service, and where its next streams would go, as a running gateway's admin address tells.

mod decisions;
mod render;

use super::{Failure, status::fetch};
use crate::output::Output;
use isthmus_control_api::ServiceName;
use isthmus_gateway::status::trace::{Trace, Whom};
use render::View;

/// Arguments of `isthmus trace`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  new streams of the service would be served
  1  the gateway could not be asked
  2  the command line is wrong
  3  the gateway does not know the service, would send its streams nowhere, or would deny them (--from)")]
pub(crate) struct Args {
    /// The service, as imports and exports name it
    #[arg(value_name = "NAMESPACE/NAME")]
    service: ServiceName,

    /// The gateway's admin address, as `admin:` of its configuration has it
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15020")]
    admin: String,

    /// Whose streams access policies are asked about, as `west/shop/web@10.0.0.9`
    #[arg(long, value_name = "CLUSTER[/NAMESPACE/ACCOUNT][@ADDRESS]")]
    from: Option<Whom>,

    #[command(flatten)]
    output: Output,
}

/// Asks, prints, judges.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let from = args.from.as_ref().map(|from| format!("?from={from}")).unwrap_or_default();
    let json = runtime.block_on(fetch::get(&args.admin, &format!("/trace/{}{from}", args.service)))?;
    let view = View::new(&json, &args.admin)?;
    args.output.print(&view)?;
    problem(&view.trace).map_or(Ok(()), |problem| Err(Failure::unwell(problem)))
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
