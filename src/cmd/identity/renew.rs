//! `isthmus identity renew`

use super::words::{duration, moment};
use crate::{cmd::Failure, output::Output};
use isthmus_certs::{Directory, issue};
use serde::Serialize;
use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// Arguments of `isthmus identity renew`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The identity directory, with the CA's key
    #[arg(value_name = "DIR")]
    identity: PathBuf,
    /// How long the new SVID lives, and those that a running gateway replaces it with [default: as long as the old one]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The SVID that was written.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    id: String,
    serial: String,
    directory: PathBuf,
    not_after: String,
}

/// Does it, and says what was done.
pub(super) fn report(args: &Args) -> Result<Report, Failure> {
    let directory = Directory::new(&args.identity);
    let old = || directory.load_own().map_or(issue::SVID_LIFETIME, |identity| identity.validity().lifetime());
    let svid = directory
        .issue_own(args.ttl.unwrap_or_else(old), SystemTime::now())?
        .ok_or_else(|| super::issue::no_authority(&args.identity))?;
    directory.write_own(&svid)?;
    let identity = directory.load_own()?;
    Ok(Report {
        id: identity.id().to_string(),
        serial: identity.serial().to_owned(),
        directory: args.identity.clone(),
        not_after: moment(identity.validity().not_after),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Wrote {}:", self.directory.display())?;
        writeln!(f, "  svid.pem, svid.key  {}, until {}\n", self.id, self.not_after)?;
        writeln!(f, "Next: nothing. A running gateway takes it over by itself, open tunnels stay.")
    }
}
