//! `isthmus invite`: makes a token with which one other cluster can link with this one.

mod endpoints;

use super::{
    Failure,
    identity::words::{moment, shell},
    kubernetes::{Cluster, Opened},
    linking::{self, ConfigFile, Here},
    serve::secrets::within,
};
use crate::output::{Format, Output};
use endpoints::Tested;
use isthmus_certs::{Fingerprint, TrustDomain, introduce};
use isthmus_control_api::{ClusterName, PeerAddress};
use isthmus_control_kube::secrets::{Data, INVITE_KEY, invitation};
use isthmus_link::{Invite, InviteId, Invites, Token, invites::LIFETIME};
use serde::Serialize;
use std::{fmt::Write as _, time::SystemTime};

/// Arguments of `isthmus invite`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The token goes to stdout, everything else to stderr. It is good for 15 minutes and for one cluster. Whoever has it can link with \
this cluster: hand it over by a way that nobody else reads.

Exit codes:
  0  the token was made, and this gateway was reached at one of its addresses at least
  1  no token was made
  2  the command line is wrong
  3  the token was made, but no address leads here as far as can be seen from here")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    cluster: Cluster,
    /// Where the other cluster can dial this gateway; may be repeated. Otherwise `tunnel.advertise` of the configuration, or this
    /// machine's own addresses; of a cluster of Kubernetes, those of the Service isthmus-gateway
    #[arg(long = "endpoint", value_name = "HOST:PORT")]
    endpoints: Vec<PeerAddress>,
    /// Let this cluster, which is trusted already, come with another CA
    #[arg(long, value_name = "CLUSTER")]
    replace: Option<ClusterName>,
    /// Take the invitation with this id back, instead of making one
    #[arg(long, value_name = "ID", conflicts_with_all = ["endpoints", "replace"])]
    withdraw: Option<InviteId>,
    #[command(flatten)]
    output: Output,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Report {
    id: String,
    token: String,
    cluster: String,
    clusterset: String,
    ca_sha256: String,
    expires: String,
    endpoints: Vec<Tested>,
    /// Whether one of them leads here.
    reached: bool,
}

/// What was taken back.
#[derive(Debug, Serialize)]
struct Withdrawn {
    id: String,
}

/// Tests the addresses, makes the invitation, prints the token; or takes one back.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = linking::runtime()?;
    let (report, at) = if args.cluster.is_named() {
        let opened = runtime.block_on(args.cluster.open())?;
        if let Some(id) = args.withdraw {
            let found = runtime.block_on(within(opened.secrets.delete(&invitation(&id.to_string()))));
            return Ok(args.output.print(&withdrawn(id, found.map_err(Failure::failed)?)?)?);
        }
        (runtime.block_on(report_of_cluster(args, &opened))?, args.cluster.words())
    } else {
        let here = Here::open(&args.config)?;
        if let Some(id) = args.withdraw {
            let found = Invites::of(here.directory.path()).withdraw(id)?;
            return Ok(args.output.print(&withdrawn(id, found)?)?);
        }
        (runtime.block_on(report(args, &here))?, format!(" --config {}", shell(&args.config.path)))
    };
    match args.output.format {
        Format::Json | Format::Yaml => args.output.print(&report)?,
        Format::Table => {
            linking::tell(&report.words(&at));
            args.output.print(&report)?;
        }
    }
    if report.reached {
        return Ok(());
    }
    Err(Failure::unwell(
        "this gateway was reached at none of these addresses: if the other side can be dialled, let it invite, and join here; if \
         these addresses do lead here from elsewhere (a NAT often hides them from its own side), go on",
    ))
}

fn withdrawn(id: InviteId, found: bool) -> Result<Withdrawn, Failure> {
    if found {
        return Ok(Withdrawn { id: id.to_string() });
    }
    Err(Failure::failed(format!(
        "found no invitation {id} that waits: it was used, is over, was withdrawn, or was never made: `isthmus status` shows who is linked"
    )))
}

async fn report(args: &Args, here: &Here) -> Result<Report, Failure> {
    let now = SystemTime::now();
    let cannot = |e| Failure::failed(format!("{}: {e}: others could not check it", here.directory.ca_path().display()));
    let ca = Fingerprint::of(introduce::issuer(&here.identity, &here.bundle, now).map_err(cannot)?);
    let wanted = linking::advertised(&args.endpoints, &here.config)?;
    let wanted = if wanted.is_empty() { endpoints::guess(here.config.tunnel.listen) } else { wanted };
    if wanted.is_empty() {
        return Err(Failure::failed(
            "found no address at which another cluster could dial this gateway: name one with --endpoint HOST:PORT, or let the \
             other side invite",
        ));
    }
    let store = here.store()?;
    endpoints::check_running(&store, here, ca, &args.config.path).await?;
    let tested = endpoints::test(&store, here.domain(), ca, &wanted).await;
    // From now on: the addresses may have taken a while.
    let now = SystemTime::now();
    let invite = Invite::generate(now, args.replace.clone())?;
    Invites::of(here.directory.path()).add(&invite, now)?;
    Ok(Report::new(invite, here.domain(), ca, wanted, tested))
}

/// The same for a cluster of Kubernetes: the invitation is a Secret, which its control takes up.
async fn report_of_cluster(args: &Args, opened: &Opened) -> Result<Report, Failure> {
    if within(opened.secrets.takes_invited()).await.map_err(Failure::failed)? == Some(false) {
        return Err(Failure::failed(format!(
            "the ConfigMap isthmus in {}: found no control.joins, expected one: control takes nobody who was invited \
             (rbac.invitations: false): link by `isthmus link generate`",
            opened.secrets.namespace()
        )));
    }
    let (store, domain) = (opened.identity()?, opened.domain());
    let ca = Fingerprint::of(opened.authority.certificate());
    let wanted = if args.endpoints.is_empty() { opened.endpoints().await? } else { args.endpoints.clone() };
    if wanted.is_empty() || wanted.len() > isthmus_link::MOST_ENDPOINTS {
        let (found, most) = (wanted.len(), isthmus_link::MOST_ENDPOINTS);
        return Err(Failure::failed(format!(
            "found {found} addresses at which another cluster could dial the gateways, expected 1 to {most}: the Service isthmus-gateway \
             has none from outside: name one with --endpoint HOST:PORT, or let the other side invite"
        )));
    }
    let tested = endpoints::test(&store, domain, ca, &wanted).await;
    let invite = Invite::generate(SystemTime::now(), args.replace.clone())?;
    let data = Data::from([(INVITE_KEY.to_owned(), invite.to_json().into_bytes())]);
    let made = within(opened.secrets.invite(&invite.id.to_string(), data)).await;
    match made {
        Ok(true) => {}
        Ok(false) => return Err(Failure::failed("the invitation cannot be kept: its Secret exists: try again")),
        Err(why) => return Err(Failure::failed(format!("the invitation cannot be kept: {why}"))),
    }
    Ok(Report::new(invite, domain, ca, wanted, tested))
}

impl Report {
    fn new(
        invite: Invite,
        domain: &TrustDomain,
        ca: Fingerprint,
        endpoints: Vec<PeerAddress>,
        tested: Vec<Tested>,
    ) -> Self {
        let token = Token {
            id: invite.id,
            secret: invite.secret,
            ca,
            issued: invite.issued,
            lifetime: u16::try_from(LIFETIME.as_secs()).unwrap_or(u16::MAX),
            inviter: domain.clone(),
            endpoints,
        };
        Self {
            id: token.id.to_string(),
            token: token.to_string(),
            cluster: domain.cluster.to_string(),
            clusterset: domain.clusterset.to_string(),
            ca_sha256: ca.to_string(),
            expires: moment(token.expires()),
            reached: tested.iter().any(|endpoint| endpoint.reached),
            endpoints: tested,
        }
    }

    /// What people want to know beside the token.
    fn words(&self, at: &str) -> String {
        let Self { id, cluster, clusterset, ca_sha256, expires, .. } = self;
        let mut text = format!("The invitation {id} of {cluster} ({clusterset}), for one cluster, until {expires}:\n");
        for Tested { endpoint, reached, message } in &self.endpoints {
            let word = if *reached { "reached" } else { "not reached" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {endpoint}  {word}{message}");
        }
        let _ = writeln!(
            text,
            "Next, on the other side, within 15 minutes: isthmus join - --config FILE, or --context NAME"
        );
        let _ = writeln!(text, "and paste the token. Whoever has it can link with {cluster}: let nobody else read it.");
        let _ = writeln!(text, "CA of {cluster}, SHA-256: {ca_sha256}");
        let _ = writeln!(text, "Compare it, by another way than the token's, with what `isthmus join` prints there.");
        let _ = writeln!(text, "To take it back: isthmus invite --withdraw {id}{at}");
        let _ = writeln!(text, "To end the link later: isthmus unlink CLUSTER{at}\n");
        text
    }
}

impl std::fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Withdrew the invitation {}: nobody can be linked by it any more.", self.id)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.token)
    }
}
