//! What this cluster is to those who were invited: who it is, which invitations are good, and how it links.

use crate::cmd::{
    Failure,
    linking::{self, Change, Plan},
    serve::secrets,
};
use isthmus_certs::{Directory, Identity, IdentityStore, Role, TrustAnchors, TrustDomain};
use isthmus_control::{Config, LinkFiles, MOST_LINKS};
use isthmus_control_api::Table;
use isthmus_control_kube::secrets::{Secrets, invitation};
use isthmus_link::{Grant, Host, Invites, Refusal, Refused};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// For the process to take up what was written. Nothing depends on it but that the first dial succeeds.
const TAKEN: Duration = Duration::from_secs(5);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(50);
/// How long an SVID for one conversation lives.
const BRIEF: Duration = Duration::from_mins(2);

/// This cluster as it receives those who were invited.
pub(in crate::cmd) struct Inviting {
    directory: Directory,
    invites: Invites,
    table: watch::Receiver<Arc<Table>>,
    /// The process's own, if it is a gateway's; otherwise each is received with a new SVID.
    identity: Option<IdentityStore>,
    /// Where links and trust are written; `None`: to the identity directory.
    secrets: Option<Secrets>,
}

/// The same for one conversation.
pub(super) struct Receiving {
    at: Arc<Inviting>,
    identity: IdentityStore,
}

impl Inviting {
    /// The cluster that `config` runs, with gateway and control in one process.
    pub(in crate::cmd) async fn new(
        config: &Config,
        identity: IdentityStore,
        table: watch::Receiver<Arc<Table>>,
    ) -> Result<Self, Failure> {
        let directory = super::super::directory(config, Role::Gateway);
        let invites = Invites::of(directory.path());
        let secrets = secrets::of(config).await?.map(|(secrets, _)| secrets);
        Ok(Self { directory, invites, table, identity: Some(identity), secrets })
    }

    /// The cluster whose control this is, and whose identity and links are in Secrets.
    pub(super) fn by_secrets(
        directory: Directory,
        identity: Option<IdentityStore>,
        table: watch::Receiver<Arc<Table>>,
        secrets: Secrets,
    ) -> Self {
        let invites = Invites::of(directory.path());
        Self { directory, invites, table, identity, secrets: Some(secrets) }
    }

    /// Puts away invitations that are over.
    pub(super) fn sweep(&self, now: SystemTime) {
        self.invites.sweep(now);
    }

    /// For one conversation, with an SVID of a gateway.
    ///
    /// # Errors
    /// There is none, and the CA makes none.
    pub(super) fn receiving(self: &Arc<Self>) -> Result<Receiving, Failure> {
        let identity = match &self.identity {
            Some(identity) => identity.clone(),
            None => {
                let authority = self.directory.authority()?.ok_or_else(|| Failure::failed("there is no ca.key"))?;
                let svid = authority.issue(&authority.domain().gateway(), BRIEF, SystemTime::now())?;
                IdentityStore::new(Identity::new(svid, [])?)
            }
        };
        Ok(Receiving { at: self.clone(), identity })
    }

    /// The SHA-256 of the CA certificates of `domain` that are trusted.
    pub(super) fn trusted(&self, domain: &TrustDomain) -> String {
        let bundle = self.directory.bundle(domain).ok().flatten();
        bundle.map(|bundle| linking::fingerprints(&bundle)).unwrap_or_default()
    }

    /// What the grant would do.
    fn plan(&self, grant: &Grant) -> Result<Plan, Refused> {
        let conflict = |why: String| Refused::new(Refusal::Conflict, format_args!("on that side, {why}"));
        let table = self.table.borrow().clone();
        let configured = if self.secrets.is_some() {
            let is_new = !table.links.contains_key(&grant.bundle.domain().cluster);
            if is_new && table.links.len() >= MOST_LINKS {
                return Err(conflict(format!("there are {MOST_LINKS} links already: unlink a cluster first")));
            }
            BTreeSet::new()
        } else {
            // What is linked, and not by a file of ours, is so by the configuration.
            let made = LinkFiles::of(self.directory.path());
            table.links.keys().filter(|cluster| !made.has(cluster)).cloned().collect()
        };
        let proven = |known: &TrustAnchors| grant.proves(known);
        linking::plan(&self.directory, &grant.bundle, &configured, grant.replace, proven).map_err(conflict)
    }

    /// Links and trusts.
    async fn write(&self, grant: &Grant) -> Result<Plan, Refused> {
        let cluster = &grant.bundle.domain().cluster;
        let conflict = |why: String| Refused::new(Refusal::Conflict, format_args!("on that side, {why}"));
        let failed = |error: &str| {
            tracing::error!(%cluster, error, "the link cannot be made");
            Refused::new(Refusal::Failed, "the inviter cannot write its half of the link: its log says why")
        };
        let plan = self.plan(grant)?;
        let Some(secrets) = &self.secrets else {
            let written = linking::link(&self.directory, &plan.bundle, &grant.endpoints);
            return written.map(|()| plan).map_err(|failure| failed(failure.message()));
        };
        // What is in the directory may be older than the Secrets, and other replicas take such clusters, too: what counts is what the API
        // server has, and nothing is written if that is another by then.
        let seen = secrets::within(secrets.linked(cluster.as_str())).await.map_err(|e| failed(&e))?;
        let proven = |known: &TrustAnchors| grant.proves(known);
        let plan = linking::decide_by(&seen, &grant.bundle, grant.replace, proven).map_err(conflict)?;
        let name = invitation(&grant.invite.to_string());
        let used = || Refused::new(Refusal::Used, "the invitation was used before: each links once");
        // Of all replicas one takes it: it is used up for all of them.
        let kept = secrets::within(secrets.get(&name)).await.map_err(|e| failed(&e))?.ok_or_else(used)?;
        if !secrets::within(secrets.take(&name, &kept)).await.map_err(|e| failed(&e))? {
            return Err(used());
        }
        let endpoints: Vec<_> = grant.endpoints.iter().map(ToString::to_string).collect();
        let ca = (plan.change != Change::Renewed).then(|| plan.bundle.to_pem());
        match secrets::within(secrets.link(cluster.as_str(), &endpoints, ca, &seen)).await {
            Ok(true) => Ok(plan),
            Ok(false) => Err(conflict(format!("somebody else links with {cluster} just now"))),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Waits until the gateway knows the link and trusts the cluster, so that its first dial succeeds.
    async fn taken_up(&self, bundle: &TrustAnchors) {
        let cluster = &bundle.domain().cluster;
        let mut table = self.table.clone();
        let linked = async { drop(table.wait_for(|table| table.links.contains_key(cluster)).await) };
        let trusts = || match &self.identity {
            Some(identity) => identity.current().bundle(cluster) == Some(bundle),
            None => matches!(self.directory.bundle(bundle.domain()), Ok(Some(known)) if known == *bundle),
        };
        let trusted = async {
            while !trusts() {
                sleep(LOOK).await;
            }
        };
        let both = async { tokio::join!(linked, trusted) };
        if timeout(TAKEN, both).await.is_err() {
            tracing::warn!(%cluster, "the link is made, but not taken up yet: see the log for why");
        }
    }
}

impl Host for Receiving {
    fn identity(&self) -> &IdentityStore {
        &self.identity
    }

    fn bundle(&self) -> Result<TrustAnchors, Refused> {
        let bundle = self.at.directory.own_bundle(self.identity.current().domain());
        bundle.map_err(|error| {
            tracing::error!(%error, "our own CA cannot be read: nobody can be invited");
            Refused::new(Refusal::Failed, "the inviter's own CA cannot be read: its log says why")
        })
    }

    fn invites(&self) -> &Invites {
        &self.at.invites
    }

    fn check(&self, grant: &Grant) -> Result<(), Refused> {
        self.at.plan(grant).map(drop)
    }

    async fn grant(&self, grant: &Grant) -> Result<(), Refused> {
        // Once more: somebody else may have been linked by that name since. From here to the end of the writing nobody is let in between.
        let Plan { change, bundle } = self.at.write(grant).await?;
        let cluster = &bundle.domain().cluster;
        match change {
            Change::New => {}
            Change::Renewed => tracing::info!(%cluster, "was linked before, with the same CA"),
            Change::Replaced => tracing::warn!(%cluster, "comes with another CA than before, as the invitation allows"),
        }
        self.at.taken_up(&bundle).await;
        Ok(())
    }
}
