//! A cluster's identity in Secrets: the CA, which control alone has; the gateways' SVID, which control renews and gateways mount; and what
//! peers are trusted by.
//!
//! ```text
//! isthmus-ca ─────────────▶ control's identity directory: ca.pem, ca.key     made by the first control if it is empty
//!                           …/crl.pem                                        what it has revoked, if that was put there
//! links' credentialsRef ──▶ …/bundles/ ─┐
//! isthmus-invite-… ───────▶ …/invites/  ├─ the leader ─▶ isthmus-trust, isthmus-gateway ─▶ volumes of the gateways
//!                              ca.key ──┘
//! ```

mod plan;

use crate::cmd::Failure;
use isthmus_certs::{Authority, Directory, DirectoryError, Role, TrustAnchors, TrustDomain, issue::SVID_LIFETIME};
use isthmus_control::Config;
use isthmus_control_api::ClusterName;
use isthmus_control_kube::{
    connect, error,
    secrets::{GATEWAY, Kept, Secrets, TRUST, View},
};
use isthmus_link::Invites;
use plan::{Changes, Trust};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// For the API server to say what our CA is, at the start. Then the process ends, and whoever started it tries again.
const START: Duration = Duration::from_mins(1);
/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(1);
/// Everything is looked at this often even if nothing changes: SVIDs grow old, and a write may have failed.
const RECHECK: Duration = Duration::from_secs(10);
/// For one request.
const REQUEST: Duration = Duration::from_secs(10);

/// What is wrong with the trust in linked clusters.
pub(in crate::cmd) type Untrusted = watch::Receiver<Arc<BTreeMap<ClusterName, String>>>;

/// The Secrets that `config` keeps the identity in, if it does.
pub(in crate::cmd) async fn of(config: &Config) -> Result<Option<(Secrets, String)>, Failure> {
    let Some(kubernetes) = &config.kubernetes else { return Ok(None) };
    let Some(ca) = &kubernetes.ca_secret else { return Ok(None) };
    let found = connect::client(kubernetes.kubeconfig.as_deref(), kubernetes.context.as_deref()).await;
    let (client, _) =
        found.map_err(|error| Failure::failed(format!("{}: registry.kubernetes: {error}", config.path.display())))?;
    Ok(Some((Secrets::new(client, &kubernetes.namespace), ca.clone())))
}

/// Puts the CA of the Secret that `config` names into the identity directory, and makes one where it is empty. With an API server that cannot
/// be reached, what the directory has from before serves.
pub(in crate::cmd) async fn prepare(config: &Config, role: Role) -> Result<(), Failure> {
    let Some((secrets, name)) = of(config).await? else { return Ok(()) };
    let domain = TrustDomain::new(config.cluster.clone(), config.clusterset.clone());
    let directory = Directory::of(&config.identity, role);
    let deadline = Instant::now() + START;
    loop {
        let why = match own(&secrets, &name, &domain).await {
            Ok((authority, bundle)) => return Ok(directory.adopt(&authority, &bundle)?),
            Err(Unready::Wrong(why)) => return Err(Failure::failed(why)),
            Err(Unready::Later(why)) => why,
        };
        if directory.has_authority() {
            tracing::warn!(%why, "the Secret {name} cannot be read: its CA is what it was before");
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::failed(format!("the Secret {name}: {why}")));
        }
        tracing::warn!(%why, "the Secret {name} cannot be read; trying again");
        sleep(AGAIN).await;
    }
}

/// Why there is no CA.
enum Unready {
    /// Somebody has to put something right.
    Wrong(String),
    /// It may be there later.
    Later(String),
}

async fn own(secrets: &Secrets, name: &str, domain: &TrustDomain) -> Result<(Authority, TrustAnchors), Unready> {
    let found = within(secrets.get(name)).await.map_err(Unready::Later)?;
    let place = format!("the Secret {name} in {}", secrets.namespace());
    let Some(kept) = found else {
        return Err(Unready::Later(format!(
            "found no Secret in {}, expected one: `isthmus install` makes it",
            secrets.namespace()
        )));
    };
    if let Some(own) = plan::own(&kept.data, domain).map_err(|why| Unready::Wrong(format!("{place}: {why}")))? {
        return Ok(own);
    }
    let trusts = within(secrets.get(TRUST)).await.map_err(Unready::Later)?.is_some_and(|kept| !kept.data.is_empty());
    let links = within(secrets.links()).await.map_err(Unready::Later)?;
    plan::may_create(trusts, &links).map_err(|why| Unready::Wrong(format!("{place}: {why}")))?;
    let made = Authority::create(domain.clone(), SystemTime::now()).map_err(|e| Unready::Wrong(e.to_string()))?;
    // Of several replicas one is first: the others, and this one, take what it has made.
    if within(secrets.set(name, &plan::authority(&made), &kept)).await.map_err(Unready::Later)? {
        tracing::info!(%domain, "made this cluster's CA, in the Secret {name}");
    }
    Err(Unready::Later("it has just been made".into()))
}

/// What keeps the Secrets and the identity directory in step.
pub(super) struct Keeping {
    pub(super) secrets: Secrets,
    /// The Secret with the CA.
    pub(super) ca: String,
    pub(super) directory: Directory,
    pub(super) domain: TrustDomain,
    /// The term in which this replica leads: only then it writes.
    pub(super) term: watch::Receiver<Option<u64>>,
    /// Whether those who were invited are taken: only then it may delete what is left of invitations.
    pub(super) takes_invited: bool,
}

impl Keeping {
    /// Starts it; what is wrong with trust, as it is known.
    pub(super) fn start(self, tasks: &mut JoinSet<()>) -> Untrusted {
        let (to, untrusted) = watch::channel(Arc::default());
        let view = self.secrets.watch(tasks);
        tasks.spawn(self.run(view, to));
        untrusted
    }

    async fn run(
        mut self,
        mut view: watch::Receiver<Option<Arc<View>>>,
        untrusted: watch::Sender<Arc<BTreeMap<ClusterName, String>>>,
    ) {
        loop {
            let known = view.borrow_and_update().clone();
            if let Some(view) = known {
                let trust = plan::trust(&view, &self.domain);
                for error in self.take(&view, &trust) {
                    tracing::error!(error = error.message(), "what the Secrets say is not taken up");
                }
                let wrong = trust.iter().filter_map(|(cluster, trust)| match trust {
                    Trust::By(..) => None,
                    Trust::Broken(why) | Trust::Missing(why) => Some((cluster.clone(), why.clone())),
                });
                untrusted.send_replace(Arc::new(wrong.collect()));
                let leads = self.term.borrow_and_update().is_some();
                if leads {
                    for error in self.write(&view, &trust).await {
                        tracing::warn!(%error, "the Secrets are not as they should be; trying again");
                    }
                }
            }
            tokio::select! {
                () = sleep(RECHECK) => {}
                Ok(()) = view.changed() => {}
                Ok(()) = self.term.changed() => {}
                else => return,
            }
        }
    }

    /// Makes the identity directory what the Secrets say. Each by itself: what fails is told, and does not stop the rest.
    fn take(&self, view: &View, trust: &BTreeMap<ClusterName, Trust>) -> Vec<Failure> {
        let mut failed = Vec::new();
        let bundled = self.directory.bundled().map_err(|error| failed.push(error.into())).unwrap_or_default();
        for cluster in bundled {
            if !matches!(trust.get(&cluster), None | Some(Trust::Missing(_))) {
                continue;
            }
            match self.directory.distrust(&cluster) {
                Ok(_) => tracing::info!(%cluster, "not trusted any more: its link, or that one's Secret, has gone"),
                Err(error) => failed.push(error.into()),
            }
            failed.extend(self.directory.write_revocations(&cluster, None).err().map(Failure::from));
        }
        for (cluster, trust) in trust {
            let Trust::By(anchors, crl) = trust else { continue };
            // One that cannot be read is replaced, too.
            let known = self.directory.bundle(&self.domain.sibling(cluster));
            if !matches!(known, Ok(Some(known)) if known == *anchors) {
                match self.directory.write_bundle(anchors) {
                    Ok(_) => tracing::info!(%cluster, "trusted by what its link's Secret says"),
                    Err(error) => failed.push(error.into()),
                }
            }
            // After the bundle: a list that is not of it keeps the directory from being taken over, and what was revoked stays so.
            match self.directory.write_revocations(cluster, crl.as_deref()) {
                Ok(true) => tracing::info!(%cluster, "took over what its CAs have revoked, by its link's Secret"),
                Ok(false) => {}
                Err(error) => failed.push(error.into()),
            }
        }
        failed.extend(self.take_revoked(view).err());
        let now = SystemTime::now();
        let mirrored = Invites::of(self.directory.path()).mirror(&plan::invites(view, now).0, now);
        failed.extend(mirrored.err().map(Failure::from));
        failed
    }

    /// Takes over what this cluster's own CA has revoked.
    fn take_revoked(&self, view: &View) -> Result<(), Failure> {
        let bundle = self.directory.own_bundle(&self.domain)?;
        let list = plan::revoked(view, &self.ca, &bundle).map_err(Failure::failed)?;
        if self.directory.write_own_revocations(list.as_deref())? {
            tracing::info!("took over what this cluster's CA has revoked, by its Secret");
        }
        Ok(())
    }

    /// Makes the Secrets what they should be: each by itself, and first what gateways cannot be without.
    async fn write(&self, view: &View, trust: &BTreeMap<ClusterName, Trust>) -> Vec<String> {
        let now = SystemTime::now();
        let renewed = self.renew(view, now).await;
        let trusted = self.set(view, TRUST, plan::trust_changes(view, trust)).await;
        let swept = if self.takes_invited { self.sweep(view, now).await } else { Ok(()) };
        [renewed, trusted, swept].into_iter().filter_map(Result::err).collect()
    }

    async fn renew(&self, view: &View, now: SystemTime) -> Result<(), String> {
        let own = || -> Result<_, DirectoryError> {
            Ok((self.directory.authority()?, self.directory.own_bundle(&self.domain)?))
        };
        let (authority, bundle) = own().map_err(|error| error.to_string())?;
        // What is wrong with the list is told where it is taken over.
        let list = plan::revoked(view, &self.ca, &bundle);
        let mut changes = list.as_ref().map(|list| plan::revoked_changes(view, list.as_ref())).unwrap_or_default();
        let listed = list.ok().flatten().and_then(|list| bundle.clone().with_revocations_from_pem(&list).ok());
        let bundle = listed.unwrap_or(bundle);
        if let Some(authority) = authority.filter(|_| !plan::serves(view, &bundle, now)) {
            let svid =
                authority.issue(&self.domain.gateway(), SVID_LIFETIME, now).map_err(|error| error.to_string())?;
            changes.extend(plan::gateway(&svid, &bundle));
        }
        self.set(view, GATEWAY, changes).await
    }

    async fn sweep(&self, view: &View, now: SystemTime) -> Result<(), String> {
        for name in plan::invites(view, now).1 {
            within(self.secrets.take(&name, &view.secrets[&name])).await?;
        }
        Ok(())
    }

    async fn set(&self, view: &View, name: &str, changes: Changes) -> Result<(), String> {
        if changes.is_empty() {
            return Ok(());
        }
        let missing = || {
            format!("found no Secret {name} in {}, expected one: `isthmus install` makes it", self.secrets.namespace())
        };
        let before: &Kept = view.secrets.get(name).ok_or_else(missing)?;
        // Where somebody else was first, the watch says what it is now.
        if within(self.secrets.set(name, &changes, before)).await? {
            tracing::info!("wrote the Secret {name}");
        }
        Ok(())
    }
}

/// A request that ends in time, its error in a line.
pub(in crate::cmd) async fn within<T>(request: impl Future<Output = Result<T, error::KubeError>>) -> Result<T, String> {
    match timeout(REQUEST, request).await {
        Ok(done) => done.map_err(|error| error::describe(&error)),
        Err(_) => Err(format!("no answer within {} s", REQUEST.as_secs())),
    }
}
