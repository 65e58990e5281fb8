//! `isthmus identity trust`

use super::words::moment;
use crate::{cmd::Failure, output::Output};
use isthmus_certs::Directory;
use isthmus_control_api::ClusterName;
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// Arguments of `isthmus identity trust`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// This cluster's identity directory
    #[arg(long, value_name = "DIR")]
    identity: PathBuf,
    /// The cluster to trust
    #[arg(long, value_name = "NAME")]
    cluster: ClusterName,
    /// Its CA certificates: its ca.pem
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
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
    #[serde(skip)]
    cluster: ClusterName,
}

/// Does it, and says what was done.
pub(super) fn report(args: &Args) -> Result<Report, Failure> {
    let directory = Directory::new(&args.identity);
    let anchors = directory.trust(&args.cluster, &args.bundle)?;
    Ok(Report {
        trust_domain: anchors.domain().to_string(),
        bundle: directory.bundle_path(&args.cluster),
        certificates: anchors.certificates().count(),
        not_after: anchors.validities().map(|validity| validity.not_after).max().map(moment).unwrap_or_default(),
        cluster: args.cluster.clone(),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, cluster, certificates, .. } = self;
        let many = if *certificates == 1 { "CA certificate" } else { "CA certificates" };
        writeln!(f, "Wrote {}:", self.bundle.display())?;
        writeln!(f, "  {certificates} {many} of {trust_domain}, until {}\n", self.not_after)?;
        writeln!(f, "Next: name {cluster} under `links:` in this cluster's configuration. A gateway that is running")?;
        writeln!(f, "has taken the bundle over by itself; {cluster} has to trust this cluster's ca.pem as well.")
    }
}
