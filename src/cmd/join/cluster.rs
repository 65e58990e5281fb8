//! `isthmus join` for a cluster of Kubernetes: this side's half of the link is a ClusterLink, and a Secret that it is trusted by.

use super::{Args, HALF, check, explain};
use crate::cmd::{
    Failure,
    linking::{self, Change, Plan},
    serve::secrets::within,
};
use isthmus_certs::{Fingerprint, TrustAnchors};
use isthmus_control_api::ClusterName;
use isthmus_control_kube::secrets::Secrets;
use isthmus_link::{Me, Token};
use serde::Serialize;
use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};
use tokio::time::sleep;

/// For the link to be up: kubelets bring what is in Secrets to the gateways within a minute or so.
const UP: Duration = Duration::from_secs(150);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    cluster: ClusterName,
    peer: ClusterName,
    change: Change,
    ca_sha256: String,
    peer_ca_sha256: String,
    by: String,
    up: bool,
    message: String,
}

/// Asks, writes, waits until the link is up.
pub(super) fn run(args: &Args, token: &Token) -> Result<(), Failure> {
    let report = linking::runtime()?.block_on(report(args, token))?;
    args.output.print(&report)?;
    let why = || {
        format!("the link with {} is made, but not up yet: {}: kubectl get clusterlinks", report.peer, report.message)
    };
    if report.up { Ok(()) } else { Err(Failure::unwell(why())) }
}

async fn report(args: &Args, token: &Token) -> Result<Report, Failure> {
    let opened = args.cluster.open().await?;
    check(token, opened.domain(), &opened.bundle)?;
    let peer = token.inviter.cluster.clone();
    let seen = within(opened.secrets.linked(peer.as_str())).await.map_err(Failure::failed)?;
    let me = Me { identity: opened.identity()?, bundle: opened.bundle.clone(), endpoints: args.endpoints.clone() };
    // It has proven to be of the CA that the token names.
    let proven = |known: &TrustAnchors| known.certificates().any(|ca| Fingerprint::of(ca) == token.ca);
    let plan = |offered: &TrustAnchors| linking::decide_by(&seen, offered, args.replace, proven);
    let offered = isthmus_link::join(token, &me, |bundle| plan(bundle).map(drop)).await;
    let offered = offered.map_err(|error| explain(&error, token, SystemTime::now()))?;
    let Plan { change, bundle } = plan(&offered.bundle).map_err(|why| Failure::failed(why).with(HALF))?;
    let endpoints: Vec<_> = token.endpoints.iter().map(ToString::to_string).collect();
    let ca = (change != Change::Renewed).then(|| bundle.to_pem());
    match within(opened.secrets.link(peer.as_str(), &endpoints, ca, &seen)).await {
        Ok(true) => {}
        Ok(false) => return Err(Failure::failed(format!("somebody else links with {peer} just now")).with(HALF)),
        Err(why) => return Err(Failure::failed(why).with(HALF)),
    }
    let state = wait(&opened.secrets, &peer).await;
    Ok(Report {
        cluster: opened.domain().cluster.clone(),
        peer,
        change,
        ca_sha256: linking::fingerprints(&opened.bundle),
        peer_ca_sha256: linking::fingerprints(&bundle),
        by: offered.by.to_string(),
        up: state.is_ok(),
        message: state.err().unwrap_or_default(),
    })
}

async fn wait(secrets: &Secrets, peer: &ClusterName) -> Result<(), String> {
    let deadline = Instant::now() + UP;
    loop {
        let state = match within(secrets.link_state(peer.as_str())).await {
            Ok(state) => state,
            Err(why) => Err(why),
        };
        if state.is_ok() || Instant::now() > deadline {
            return state;
        }
        sleep(LOOK).await;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, peer, by, ca_sha256, peer_ca_sha256, .. } = self;
        writeln!(f, "Linked {cluster} with {peer}, which answered at {by}.")?;
        writeln!(f, "  CA of {peer}, SHA-256: {peer_ca_sha256}")?;
        writeln!(f, "  CA of {cluster}, SHA-256: {ca_sha256}")?;
        writeln!(f, "  Compare the first with what `isthmus invite` printed there.")?;
        match self.change {
            Change::New => {}
            Change::Renewed => writeln!(f, "  {peer} was trusted before, with the same CA: trust stays as it was")?,
            Change::Replaced => {
                writeln!(f, "  {peer} was trusted before, with another CA: this one has taken its place")?;
            }
        }
        writeln!(f, "{}", if self.up { "The link is up." } else { "The link is not up yet." })
    }
}
