//! `isthmus unlink`: ends the link with a cluster, and the trust in it.

use super::{Failure, linking::ConfigFile};
use crate::output::Output;
use isthmus_certs::Directory;
use isthmus_control::{Config, LinkFiles};
use isthmus_control_api::ClusterName;
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// Arguments of `isthmus unlink`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A running gateway closes its tunnels with the cluster within a second.

Exit codes:
  0  this side has nothing to do with the cluster any more
  1  nothing was done
  2  the command line is wrong
  3  the cluster is not trusted any more, but the configuration still has a link with it")]
pub(crate) struct Args {
    /// The cluster
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterName,
    #[command(flatten)]
    config: ConfigFile,
    /// The identity directory, where the configuration cannot be read
    #[arg(long, value_name = "DIR", conflicts_with = "path")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    peer: ClusterName,
    removed_link: bool,
    removed_bundle: bool,
    /// The configuration that still has the link.
    left_in: Option<PathBuf>,
}

/// Removes link and bundle.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let report = report(args)?;
    args.output.print(&report)?;
    let Some(path) = &report.left_in else { return Ok(()) };
    let (path, peer) = (path.display(), &report.peer);
    Err(Failure::unwell(format!(
        "the link with {peer} is in {path}: remove it from `links:` there; it cannot come up meanwhile"
    )))
}

fn report(args: &Args) -> Result<Report, Failure> {
    let (identity, configured) = match &args.identity {
        Some(identity) => (identity.clone(), None),
        None => {
            let config = Config::load(&args.config.path)?;
            let configured = config.links.contains_key(&args.cluster).then_some(config.path);
            (config.identity, configured)
        }
    };
    let (links, peer) = (LinkFiles::of(&identity), args.cluster.clone());
    // Each of the two ends the link by itself: the second is removed even if the first could not be.
    let link = links.remove(&peer);
    let removed_bundle = Directory::new(&identity).distrust(&peer)?;
    let removed_link =
        link.map_err(|e| Failure::failed(format!("cannot remove {}: {e}", links.path(&peer).display())))?;
    if !removed_link && !removed_bundle && configured.is_none() {
        return Err(Failure::failed(format!(
            "found no link with {peer} and no bundle of it in {}: `isthmus status` shows what this cluster is linked with",
            identity.display()
        )));
    }
    Ok(Report { peer, removed_link, removed_bundle, left_in: configured })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, removed_link, removed_bundle, .. } = self;
        writeln!(f, "Unlinked {peer}:")?;
        let word = |removed: &bool| if *removed { "removed" } else { "not there" };
        writeln!(
            f,
            "  its bundle  {}: it is not trusted, and a running gateway closes its tunnels",
            word(removed_bundle)
        )?;
        writeln!(f, "  the link    {}", word(removed_link))?;
        writeln!(
            f,
            "{peer} still has its half: run `isthmus unlink` there, too. To link again: `isthmus invite` and `isthmus join`."
        )
    }
}

#[cfg(test)]
mod tests;
