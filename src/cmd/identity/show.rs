//! `isthmus identity show`

use super::words::{moment, span};
use crate::{
    cmd::Failure,
    output::{Grid, Output},
};
use isthmus_certs::{Directory, Fingerprint, Identity, TrustAnchors};
use serde::Serialize;
use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// A bundle that ends within this time is a problem: its peer has to be asked for its next CA.
const SOON: Duration = Duration::from_hours(24 * 30);

/// Arguments of `isthmus identity show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The identity directory
    #[arg(value_name = "DIR")]
    identity: PathBuf,
    #[command(flatten)]
    pub(super) output: Output,
}

/// An identity, for people and scripts.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    id: String,
    cluster: String,
    clusterset: String,
    issuer: String,
    serial: String,
    not_before: String,
    not_after: String,
    remaining_seconds: u64,
    /// Whether the CA's key is here.
    renews_itself: bool,
    bundles: Vec<Bundle>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Bundle {
    cluster: String,
    trust_domain: String,
    certificates: usize,
    /// Of each.
    ca_sha256: Vec<String>,
    /// Of the certificate that lasts longest.
    not_after: String,
    remaining_seconds: u64,
}

/// Does it, and says what was done.
pub(super) fn report(args: &Args) -> Result<Report, Failure> {
    let directory = Directory::new(&args.identity);
    let identity = directory.load()?;
    Ok(Report::new(&directory, &identity, directory.warnings()?, SystemTime::now()))
}

impl Report {
    fn new(directory: &Directory, identity: &Identity, warnings: Vec<String>, now: SystemTime) -> Self {
        let validity = identity.validity();
        let bundles: Vec<_> = identity.bundles().values().map(|anchors| Bundle::new(anchors, now)).collect();
        let mut problems = warnings;
        if now > validity.not_after {
            problems.push("the SVID is over: a gateway that starts makes a new one, if ca.key is here".into());
        } else if now < validity.not_before {
            problems.push("the SVID is not valid yet: look at this machine's clock".into());
        }
        problems.extend(bundles.iter().filter_map(Bundle::problem));
        if bundles.is_empty() {
            problems.push(
                "no other cluster is trusted: link with one (`isthmus join`), or run `isthmus identity trust`".into(),
            );
        }
        Self {
            id: identity.id().to_string(),
            cluster: identity.domain().cluster.to_string(),
            clusterset: identity.domain().clusterset.to_string(),
            issuer: identity.issuer().to_owned(),
            serial: identity.serial().to_owned(),
            not_before: moment(validity.not_before),
            not_after: moment(validity.not_after),
            remaining_seconds: validity.remaining(now).as_secs(),
            renews_itself: directory.has_authority(),
            bundles,
            problems,
        }
    }
}

impl Bundle {
    fn new(anchors: &TrustAnchors, now: SystemTime) -> Self {
        let last = anchors.validities().map(|validity| validity.not_after).max().unwrap_or(now);
        Self {
            cluster: anchors.domain().cluster.to_string(),
            trust_domain: anchors.domain().to_string(),
            certificates: anchors.certificates().count(),
            ca_sha256: anchors.certificates().map(|ca| Fingerprint::of(ca).to_string()).collect(),
            not_after: moment(last),
            remaining_seconds: last.duration_since(now).unwrap_or_default().as_secs(),
        }
    }

    fn problem(&self) -> Option<String> {
        let Self { trust_domain, not_after, .. } = self;
        let soon = self.remaining_seconds < SOON.as_secs();
        soon.then(|| format!("the bundle of {trust_domain} ends {not_after}: get its next ca.pem and trust it"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = span(Duration::from_secs(self.remaining_seconds));
        let by = if self.renews_itself { "a running gateway, from ca.key here" } else { "others: ca.key is not here" };
        writeln!(f, "id          {}", self.id)?;
        writeln!(f, "cluster     {}", self.cluster)?;
        writeln!(f, "clusterset  {}", self.clusterset)?;
        writeln!(f, "issuer      {}", self.issuer)?;
        writeln!(f, "serial      {}", self.serial)?;
        writeln!(f, "valid       {} to {} ({left} left)", self.not_before, self.not_after)?;
        writeln!(f, "renewed by  {by}")?;
        if !self.bundles.is_empty() {
            let mut grid = Grid::new(["TRUSTS", "TRUST DOMAIN", "CERTIFICATES", "UNTIL"]);
            for bundle in &self.bundles {
                let Bundle { cluster, trust_domain, certificates, not_after, .. } = bundle;
                grid.row([cluster.clone(), trust_domain.clone(), certificates.to_string(), not_after.clone()]);
            }
            write!(f, "\n{grid}")?;
            for Bundle { cluster, ca_sha256, .. } in &self.bundles {
                writeln!(f, "CA of {cluster}, SHA-256: {}", ca_sha256.join(", "))?;
            }
        }
        if !self.problems.is_empty() {
            writeln!(f, "\nproblems:")?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "  {problem}"))
    }
}
