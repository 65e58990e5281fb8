//! `isthmus status`: how a running gateway fares, as its admin address tells.

mod file;
mod push;
mod registry;
mod render;

use super::{Failure, admin::Admin};
use crate::output::Output;
use isthmus_gateway::status::LinkWord;
use render::View;
use std::time::SystemTime;

/// Arguments of `isthmus status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  the gateway is ready, attached to its control if that is elsewhere, and every link is up, if degraded
  1  the gateway could not be asked
  2  the command line is wrong
  3  the gateway is not ready or not attached, has refused a table, its certificate is not kept up, or a link is not up")]
pub(crate) struct Args {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
}

/// Asks, prints, judges.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let json = runtime.block_on(args.admin.get("/status"))?;
    let view = View::new(json, &args.admin.address, SystemTime::now())?;
    args.output.print(&view)?;
    problem(&view).map_or(Ok(()), |problem| Err(Failure::unwell(problem)))
}

/// What is not well, in one line.
fn problem(View { status, apart, .. }: &View) -> Option<String> {
    if let Some(reason) = &status.not_ready {
        return Some(format!("the gateway is not ready: {reason}"));
    }
    if let Some(problem) = &status.identity.message {
        return Some(problem.clone());
    }
    if let Some(problem) = apart.problem() {
        return Some(problem);
    }
    let not_up = status.links.iter().filter(|link| link.state != LinkWord::Up);
    let words: Vec<String> = not_up.map(|link| format!("{} is {}", link.cluster, link.state.as_str())).collect();
    (!words.is_empty()).then(|| format!("not every link is up: {}", words.join(", ")))
}

#[cfg(test)]
mod tests;
