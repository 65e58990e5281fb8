//! `isthmus identity issue`

use super::words::{duration, moment};
use crate::{cmd::Failure, output::Output};
use clap::ArgGroup;
use isthmus_certs::{Authority, Directory, SpiffeId};
use isthmus_control_api::ServiceName;
use serde::Serialize;
use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// Arguments of `isthmus identity issue`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("workload").required(true).args(["id", "service_account"])))]
pub(super) struct Args {
    /// The identity directory of this cluster, with its CA's key
    #[arg(long, value_name = "DIR")]
    identity: PathBuf,
    /// The workload's SPIFFE id, of this cluster's trust domain
    #[arg(long, value_name = "SPIFFE ID")]
    id: Option<SpiffeId>,
    /// The workload's service account; a gateway is isthmus-system/gateway
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service_account: Option<ServiceName>,
    /// The directory to write, an older SVID in it is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long it lives
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "24h")]
    ttl: Duration,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The SVID that was written.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    id: String,
    directory: PathBuf,
    not_after: String,
}

/// Does it, and says what was done.
pub(super) fn report(args: &Args) -> Result<Report, Failure> {
    let directory = Directory::new(&args.identity);
    let authority = directory.authority()?.ok_or_else(|| no_authority(&args.identity))?;
    let id = args.id.clone().map_or_else(|| service_account(args, &authority), Ok)?;
    let now = SystemTime::now();
    let svid = authority.issue(&id, args.ttl, now)?;
    directory.export(&svid, &args.out)?;
    let not_after = moment(svid.validity()?.not_after);
    Ok(Report { id: id.to_string(), directory: args.out.clone(), not_after })
}

fn service_account(args: &Args, authority: &Authority) -> Result<SpiffeId, Failure> {
    let account = args.service_account.as_ref().ok_or_else(|| Failure::usage("expected --id or --service-account"))?;
    let (namespace, name) = (account.namespace(), account.name());
    Ok(format!("{}/ns/{namespace}/sa/{name}", authority.domain().id()).parse()?)
}

pub(in crate::cmd) fn no_authority(identity: &std::path::Path) -> Failure {
    Failure::failed(format!(
        "{}: found no ca.key, expected the identity directory that holds the CA",
        identity.display()
    ))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Wrote {}:", self.directory.display())?;
        writeln!(f, "  svid.pem, svid.key  {}, until {}", self.id, self.not_after)?;
        writeln!(f, "  ca.pem              this cluster's CA certificate\n")?;
        writeln!(
            f,
            "Next: give the workload svid.pem and svid.key, and the ca.pem of each cluster that it is to trust."
        )?;
        writeln!(f, "Nobody renews this SVID: run the same command again before it is over.")
    }
}
