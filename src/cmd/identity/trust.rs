//! `isthmus identity trust`

use super::words::moment;
use crate::{cmd::Failure, output::Output};
use clap::ArgGroup;
use isthmus_certs::Directory;
use isthmus_control_api::ClusterName;
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// Arguments of `isthmus identity trust`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(["bundle", "crl"])))]
pub(super) struct Args {
    /// This cluster's identity directory
    #[arg(long, value_name = "DIR")]
    identity: PathBuf,
    /// The cluster to trust
    #[arg(long, value_name = "NAME")]
    cluster: ClusterName,
    /// Its CA certificates: its ca.pem
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// What it has revoked: its crl.pem
    #[arg(long, value_name = "FILE")]
    crl: Option<PathBuf>,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The bundle that was taken.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    trust_domain: String,
    bundle: PathBuf,
    certificates: usize,
    not_after: String,
    revoked: usize,
    #[serde(skip)]
    cluster: ClusterName,
}

/// Does it, and says what was done.
pub(super) fn report(args: &Args) -> Result<Report, Failure> {
    let directory = Directory::new(&args.identity);
    let trusted = args.bundle.as_ref().map(|bundle| directory.trust(&args.cluster, bundle)).transpose()?;
    let revoked = args.crl.as_ref().map(|list| directory.trust_revocations(&args.cluster, list)).transpose()?;
    let anchors = revoked.or(trusted).ok_or_else(|| Failure::usage("expected --bundle or --crl"))?;
    Ok(Report {
        trust_domain: anchors.domain().to_string(),
        bundle: directory.bundle_path(&args.cluster),
        certificates: anchors.certificates().count(),
        not_after: anchors.validities().map(|validity| validity.not_after).max().map(moment).unwrap_or_default(),
        revoked: anchors.revocations().revoked().count(),
        cluster: args.cluster.clone(),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, cluster, certificates, .. } = self;
        let many = if *certificates == 1 { "CA certificate" } else { "CA certificates" };
        writeln!(f, "Wrote {}:", self.bundle.display())?;
        writeln!(f, "  {certificates} {many} of {trust_domain}, until {}", self.not_after)?;
        if self.revoked > 0 {
            writeln!(f, "  {} that it has signed count no more", self.revoked)?;
        }
        writeln!(f)?;
        writeln!(f, "Next: name {cluster} under `links:` in this cluster's configuration. A gateway that is running")?;
        writeln!(f, "has taken the bundle over by itself; {cluster} has to trust this cluster's ca.pem as well.")
    }
}
