//! `isthmus identity revoke`

use super::issue::no_authority;
use crate::{cmd::Failure, output::Output};
use clap::ArgGroup;
use isthmus_certs::{Directory, Revoked};
use serde::Serialize;
use std::{fmt, path::PathBuf, time::SystemTime};

/// Arguments of `isthmus identity revoke`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("certificate").required(true).multiple(true).args(["svid", "serial"])))]
pub(super) struct Args {
    /// The identity directory of this cluster, with its CA's key
    #[arg(long, value_name = "DIR")]
    identity: PathBuf,
    /// A certificate that is not to count any more: an svid.pem
    #[arg(long, value_name = "FILE")]
    svid: Vec<PathBuf>,
    /// The serial number of one, in hexadecimal, as `isthmus identity show` has it
    #[arg(long, value_name = "HEX")]
    serial: Vec<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The list that was written.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    list: PathBuf,
    revoked: usize,
    #[serde(skip)]
    cluster: String,
    #[serde(skip)]
    own: bool,
}

/// Does it, and says what was done.
pub(super) fn report(args: &Args) -> Result<Report, Failure> {
    let directory = Directory::new(&args.identity);
    let authority = directory.authority()?.ok_or_else(|| no_authority(&args.identity))?;
    let mut serials = args.serial.iter().map(|text| Revoked::parse_serial(text)).collect::<Result<Vec<_>, _>>()?;
    for path in &args.svid {
        let named = |error: &dyn fmt::Display| Failure::failed(format!("{}: {error}", path.display()));
        let text = std::fs::read(path).map_err(|error| named(&error))?;
        serials.push(Revoked::serial_of(&text, authority.certificate()).map_err(|error| named(&error))?);
    }
    let revoked = directory.revoke(&serials, SystemTime::now())?.ok_or_else(|| no_authority(&args.identity))?;
    let own = directory.load_own().ok().and_then(|own| Revoked::parse_serial(own.serial()).ok());
    Ok(Report {
        list: directory.own_crl_path(),
        revoked: revoked.len(),
        cluster: authority.domain().cluster.to_string(),
        own: own.is_some_and(|own| serials.contains(&own)),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { list, revoked, cluster, own } = self;
        let many = if *revoked == 1 { "certificate" } else { "certificates" };
        writeln!(f, "Wrote {}:", list.display())?;
        writeln!(f, "  {revoked} revoked {many}, all that there are\n")?;
        if *own {
            writeln!(f, "This is the gateway's own SVID: `isthmus identity renew` makes another one.\n")?;
        }
        writeln!(f, "Next: bring the file to each linked cluster, and have it taken over there:")?;
        writeln!(f, "  isthmus identity trust --identity DIR --cluster {cluster} --crl crl.pem")
    }
}
