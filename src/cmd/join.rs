//! `isthmus join`: links this cluster with the one that made an invitation.

mod cluster;
pub(super) mod up;

use super::{
    Failure,
    identity::words::{moment, shell},
    kubernetes::Cluster,
    linking::{self, Change, ConfigFile, Here, Plan},
};
use crate::output::Output;
use isthmus_certs::{Fingerprint, TrustAnchors, TrustDomain};
use isthmus_control_api::{ClusterName, PeerAddress};
use isthmus_link::{JoinError, Me, Refusal, Token};
use serde::Serialize;
use std::{fmt, io::Read as _, path::PathBuf, time::SystemTime};
use up::Outcome;

/// Arguments of `isthmus join`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  the link is made and up
  1  no link was made
  2  the command line is wrong
  3  the link is made, but not up yet")]
pub(crate) struct Args {
    /// The token that `isthmus invite` printed; - reads it from stdin, so that it stays out of histories and process lists
    #[arg(value_name = "TOKEN", required_unless_present = "token_file", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file to read the token from
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    cluster: Cluster,
    /// Where the other cluster can dial this gateway; may be repeated. Otherwise `tunnel.advertise` of the configuration. Without
    /// any this cluster dials, which is enough
    #[arg(long = "endpoint", value_name = "HOST:PORT")]
    endpoints: Vec<PeerAddress>,
    /// Replace the CA of a cluster that is trusted already
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    output: Output,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    cluster: ClusterName,
    peer: ClusterName,
    change: Change,
    /// This cluster's own CA certificates, and those that are trusted as the peer's: their SHA-256.
    ca_sha256: String,
    peer_ca_sha256: String,
    /// Which of its addresses answered.
    by: String,
    /// Where the peer is dialled.
    endpoints: Vec<String>,
    #[serde(flatten)]
    up: Outcome,
}

/// A token is a few hundred characters.
const LONGEST: u64 = 16 * 1024;

/// Asks, writes, waits until the link is up.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let token: Token = args.token()?.parse()?;
    if args.cluster.is_named() {
        return cluster::run(args, &token);
    }
    let here = Here::open(&args.config)?;
    check(&token, here.domain(), &here.bundle)?;
    let runtime = linking::runtime()?;
    let me = Me {
        identity: here.store()?,
        bundle: here.bundle.clone(),
        endpoints: linking::advertised(&args.endpoints, &here.config)?,
    };
    let plan = |bundle: &_| plan(&here, &token, bundle, args.replace);
    let offered = runtime.block_on(isthmus_link::join(&token, &me, |bundle| plan(bundle).map(drop)));
    let offered = offered.map_err(|error| explain(&error, &token, SystemTime::now()))?;
    let Plan { change, bundle } = plan(&offered.bundle).map_err(|why| Failure::failed(why).with(HALF))?;
    linking::link(&here.directory, &bundle, &token.endpoints).map_err(|e| e.with(HALF))?;
    let peer = token.inviter.cluster.clone();
    let up = runtime.block_on(up::wait(linking::local(here.config.admin), &peer));
    let report = Report {
        cluster: here.domain().cluster.clone(),
        peer,
        change,
        ca_sha256: linking::fingerprints(&here.bundle),
        peer_ca_sha256: linking::fingerprints(&bundle),
        by: offered.by.to_string(),
        endpoints: token.endpoints.iter().map(ToString::to_string).collect(),
        up,
    };
    args.output.print(&report)?;
    report.up.problem(&report.peer, &shell(&args.config.path)).map_or(Ok(()), |why| Err(Failure::unwell(why)))
}

/// What linking with the inviter does. It has proven to be of the CA that the token names, and of no other of those that it gave.
fn plan(here: &Here, token: &Token, offered: &TrustAnchors, replace: bool) -> Result<Plan, String> {
    let proven = |known: &TrustAnchors| known.certificates().any(|ca| Fingerprint::of(ca) == token.ca);
    let configured = here.config.links.keys().cloned().collect();
    linking::plan(&here.directory, offered, &configured, replace, proven)
}

/// What is to be done if the other side has linked and this one could not.
const HALF: &str = "the other side has made its half of the link: put this right, then let it invite again";

impl Args {
    fn token(&self) -> Result<String, Failure> {
        let read = |mut from: Box<dyn std::io::Read>, name: String| {
            let mut text = String::new();
            let read = from.by_ref().take(LONGEST).read_to_string(&mut text);
            read.map(|_| text).map_err(|e| Failure::failed(format!("{name}: {e}")))
        };
        match (&self.token, &self.token_file) {
            (Some(token), _) if token != "-" => Ok(token.clone()),
            (_, Some(path)) => {
                let name = path.display().to_string();
                let file = std::fs::File::open(path).map_err(|e| Failure::failed(format!("{name}: {e}")))?;
                read(Box::new(file), name)
            }
            _ => read(Box::new(std::io::stdin()), "stdin".into()),
        }
    }
}

/// What can be told without asking the other side.
fn check(token: &Token, ours: &TrustDomain, bundle: &TrustAnchors) -> Result<(), Failure> {
    let theirs = &token.inviter;
    if ours.clusterset != theirs.clusterset {
        return Err(Failure::failed(format!(
            "the invitation is of {} in the clusterset {}, and this cluster, {}, is in {}: only clusters of one clusterset link",
            theirs.cluster, theirs.clusterset, ours.cluster, ours.clusterset
        )));
    }
    if ours.cluster != theirs.cluster {
        return Ok(());
    }
    let own = bundle.certificates().any(|ca| Fingerprint::of(ca) == token.ca);
    Err(Failure::failed(if own {
        format!("this invitation is {}'s own: run `isthmus join` on the other cluster", ours.cluster)
    } else {
        format!("both clusters are called {}: a cluster's name is unique in its clusterset", ours.cluster)
    }))
}

/// An error with what this side knows besides.
fn explain(error: &JoinError, token: &Token, now: SystemTime) -> Failure {
    let (made, over) = (moment(token.issued), moment(token.expires()));
    let hint = match error {
        JoinError::Refused { refused, clock: Some(clock), .. } if refused.reason == Refusal::Expired => format!(
            "\nmade {made}, over {over} by that side's clock, which says {}; this machine's says {}: compare the clocks, or let it \
             invite again",
            moment(*clock),
            moment(now)
        ),
        JoinError::Refused { refused, .. } if matches!(refused.reason, Refusal::Used | Refusal::WrongProof) => {
            "\nlet that side invite again".into()
        }
        JoinError::Unreachable(_) if now > token.expires() => {
            format!("\nand by this machine's clock ({}) the invitation was over {over}", moment(now))
        }
        JoinError::Unreachable(_) => {
            "\nif this side can be dialled from there, invite here and join there; otherwise see that the address leads there".into()
        }
        _ => String::new(),
    };
    Failure::failed(format!("{error}{hint}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, peer, by, ca_sha256, peer_ca_sha256, .. } = self;
        writeln!(f, "Linked {cluster} with {peer}, which answered at {by}.")?;
        writeln!(f, "  CA of {peer}, SHA-256: {peer_ca_sha256}")?;
        writeln!(f, "  CA of {cluster}, SHA-256: {ca_sha256}")?;
        writeln!(
            f,
            "  Compare both with what {peer} has: `isthmus invite` printed its own, `isthmus identity show` has the other there."
        )?;
        match self.change {
            Change::New => {}
            Change::Renewed => {
                writeln!(
                    f,
                    "  {peer} was trusted before, with the same CA: trust stays as it was, the link was replaced"
                )?;
            }
            Change::Replaced => {
                writeln!(f, "  {peer} was trusted before, with other CA certificates: these have taken their place")?;
            }
        }
        writeln!(f, "{}", self.up)
    }
}

#[cfg(test)]
mod tests;
