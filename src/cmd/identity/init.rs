//! `isthmus identity init`

use super::words::{duration, moment, shell, span};
use crate::{cmd::Failure, output::Output};
use isthmus_certs::{Directory, TrustDomain};
use isthmus_control_api::{ClusterName, ClustersetName};
use serde::Serialize;
use std::{fmt, path::PathBuf, time::Duration, time::SystemTime};

/// Arguments of `isthmus identity init`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The clusterset: the same name in all clusters that are to be linked
    #[arg(long, value_name = "NAME")]
    clusterset: ClustersetName,
    /// This cluster: a name that no other cluster of the clusterset has
    #[arg(long, value_name = "NAME")]
    cluster: ClusterName,
    /// The directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long each of the gateway's SVIDs lives; a running gateway renews it at about half
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "24h")]
    ttl: Duration,
    #[command(flatten)]
    pub(super) output: Output,
}

/// What `isthmus identity init` made.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    id: String,
    trust_domain: String,
    directory: PathBuf,
    bundle: PathBuf,
    svid_not_after: String,
    ca_not_after: String,
    #[serde(skip)]
    cluster: ClusterName,
    #[serde(skip)]
    ttl: Duration,
}

/// Does it, and says what was done.
pub(super) fn report(args: &Args) -> Result<Report, Failure> {
    let domain = TrustDomain::new(args.cluster.clone(), args.clusterset.clone());
    let (directory, authority) = Directory::init(&args.out, domain.clone(), args.ttl, SystemTime::now())?;
    let identity = directory.load()?;
    Ok(Report {
        id: identity.id().to_string(),
        trust_domain: domain.to_string(),
        bundle: directory.ca_path(),
        svid_not_after: moment(identity.validity().not_after),
        ca_not_after: moment(authority.validity().not_after),
        directory: args.out.clone(),
        cluster: args.cluster.clone(),
        ttl: args.ttl,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, trust_domain, cluster, .. } = self;
        let bundle = shell(&self.bundle);
        writeln!(f, "Wrote {}:", self.directory.display())?;
        writeln!(f, "  ca.pem, ca.key      the CA of {trust_domain}, until {}", self.ca_not_after)?;
        writeln!(f, "  svid.pem, svid.key  {id}")?;
        writeln!(f, "                      valid for {}, renewed by the running gateway", span(self.ttl))?;
        writeln!(f, "  bundles/            empty: no other cluster is trusted yet\n")?;
        writeln!(f, "Next: run the gateway (isthmus run --config FILE), and link it with others while it runs:")?;
        writeln!(
            f,
            "  isthmus invite on one side, isthmus join on the other. Or by hand: bring {bundle} to each peer,"
        )?;
        writeln!(f, "  by a way that nobody can tamper with, and there run")?;
        writeln!(f, "  isthmus identity trust --identity <its identity> --cluster {cluster} --bundle ca.pem")?;
        writeln!(f, "  and the same here with the ca.pem of each peer. The .key files stay where they are.")
    }
}
