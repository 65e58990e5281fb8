//! `isthmus unlink`: ends the link with a cluster, and the trust in it.

use super::{
    Failure,
    join::up::{self, Gone},
    kubernetes::Cluster,
    linking::{self, ConfigFile},
    serve::secrets::within,
};
use crate::output::Output;
use isthmus_certs::Directory;
use isthmus_control::{Config, LinkFiles};
use isthmus_control_api::ClusterName;
use isthmus_control_kube::secrets::{Secrets, credentials};
use serde::Serialize;
use std::{fmt, net::SocketAddr, path::PathBuf};

/// Arguments of `isthmus unlink`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A running gateway closes its tunnels with the cluster, within a second as a rule: it is asked whether it has.

Exit codes:
  0  this side has nothing to do with the cluster any more
  1  nothing was done
  2  the command line is wrong
  3  link and bundle are removed, but the gateway still has tunnels with the cluster, or cannot be asked, or the configuration still
     has a link with it")]
pub(crate) struct Args {
    /// The cluster
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterName,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    at: Cluster,
    /// The identity directory, where the configuration cannot be read
    #[arg(long, value_name = "DIR", conflicts_with = "path")]
    identity: Option<PathBuf>,
    /// The gateway's admin address, where the configuration cannot be read
    #[arg(long, value_name = "HOST:PORT", requires = "identity")]
    admin: Option<SocketAddr>,
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
    /// What the gateway says of it.
    #[serde(flatten)]
    gone: Gone,
}

/// Removes link and bundle.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.at.is_named() {
        return of_cluster(args);
    }
    let report = report(args)?;
    args.output.print(&report)?;
    report.problem().map_or(Ok(()), |why| Err(Failure::unwell(why)))
}

/// Of a cluster of Kubernetes: its control hears of it, and closes what is open.
fn of_cluster(args: &Args) -> Result<(), Failure> {
    let peer = args.cluster.clone();
    let (removed_link, removed_bundle) = linking::runtime()?.block_on(async {
        let secrets = Secrets::new(args.at.client().await?, &args.at.namespace);
        within(secrets.unlink(peer.as_str())).await.map_err(Failure::failed)
    })?;
    if !removed_link && !removed_bundle {
        return Err(Failure::failed(format!(
            "found no ClusterLink {peer} and no Secret {}",
            credentials(peer.as_str())
        )));
    }
    Ok(args.output.print(&Removed { peer, removed_link, removed_secret: removed_bundle })?)
}

/// What was done in a cluster of Kubernetes.
#[derive(Debug, Serialize)]
struct Removed {
    peer: ClusterName,
    removed_link: bool,
    removed_secret: bool,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, removed_link, removed_secret } = self;
        let word = |removed: &bool| if *removed { "deleted" } else { "not there" };
        writeln!(f, "Unlinked {peer}:")?;
        writeln!(f, "  ClusterLink {peer}  {}", word(removed_link))?;
        writeln!(f, "  Secret {}  {}", credentials(peer.as_str()), word(removed_secret))?;
        writeln!(
            f,
            "A control that runs tells the gateways to close their tunnels. {peer} still has its half: run `isthmus unlink` there, too."
        )
    }
}

fn report(args: &Args) -> Result<Report, Failure> {
    let (identity, configured, admin) = match &args.identity {
        Some(identity) => (identity.clone(), None, args.admin),
        None => {
            let config = Config::load(&args.config.path)?;
            let configured = config.links.contains_key(&args.cluster).then_some(config.path);
            (config.identity, configured, Some(config.admin))
        }
    };
    linking::check_owner(&identity)?;
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
    let gone = match admin {
        Some(admin) => linking::runtime()?.block_on(up::gone(linking::local(admin), &peer)),
        None => Gone::Unknown { message: "its admin address is not known (--admin HOST:PORT)".into() },
    };
    Ok(Report { peer, removed_link, removed_bundle, left_in: configured, gone })
}

impl Report {
    /// What is not well, and what to do.
    fn problem(&self) -> Option<String> {
        let peer = &self.peer;
        let still = match &self.gone {
            Gone::Closed | Gone::NoGateway => None,
            Gone::Open => Some(format!(
                "the gateway still has tunnels with {peer}, or would take new ones: its log and `isthmus status` say which file it does not take up; if in doubt \
                 restart it, that ends them"
            )),
            Gone::Unknown { message } => Some(format!(
                "whether the gateway has closed its tunnels with {peer} is not known: {message}: see `isthmus status`"
            )),
        };
        let left = self.left_in.as_ref().map(|path| {
            format!(
                "the link with {peer} is in {}: remove it from `links:` there; it cannot come up meanwhile",
                path.display()
            )
        });
        let problems: Vec<_> = [still, left].into_iter().flatten().collect();
        (!problems.is_empty()).then(|| problems.join("\n"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, removed_link, removed_bundle, .. } = self;
        writeln!(f, "Unlinked {peer}:")?;
        let word = |removed: &bool| if *removed { "removed" } else { "not there" };
        writeln!(f, "  its bundle   {}", word(removed_bundle))?;
        writeln!(f, "  the link     {}", word(removed_link))?;
        let tunnels = match &self.gone {
            Gone::Closed => "closed",
            Gone::NoGateway => "none: no gateway runs here",
            Gone::Open => "still open",
            Gone::Unknown { .. } => "not known",
        };
        writeln!(f, "  its tunnels  {tunnels}")?;
        writeln!(
            f,
            "{peer} still has its half: run `isthmus unlink` there, too. To link again: `isthmus invite` and `isthmus join`."
        )
    }
}

#[cfg(test)]
mod tests;
