//! Clusters, and one that has invited.

use isthmus_certs::{Authority, Fingerprint, Identity, IdentityStore, TrustAnchors, TrustDomain, issue::SVID_LIFETIME};
use isthmus_control_api::{ClusterName, PeerAddress};
use isthmus_link::{Grant, Host, Invite, Invites, Me, Outcome, Refusal, Refused, Token, serve};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

/// A cluster with a CA of its own.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) domain: TrustDomain,
    authority: Arc<Authority>,
}

impl Cluster {
    pub(crate) fn new(domain: &str) -> Self {
        let domain: TrustDomain = domain.parse().unwrap();
        Self { authority: Arc::new(Authority::create(domain.clone(), SystemTime::now()).unwrap()), domain }
    }

    pub(crate) fn bundle(&self) -> TrustAnchors {
        TrustAnchors::new(self.domain.clone(), vec![self.authority.certificate().clone()]).unwrap()
    }

    pub(crate) fn ca(&self) -> Fingerprint {
        Fingerprint::of(self.authority.certificate())
    }

    pub(crate) fn store(&self) -> IdentityStore {
        let svid = self.authority.issue(&self.domain.gateway(), SVID_LIFETIME, SystemTime::now()).unwrap();
        IdentityStore::new(Identity::new(svid, []).unwrap())
    }

    pub(crate) fn me(&self, endpoints: &[&str]) -> Me {
        let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
        Me { identity: self.store(), bundle: self.bundle(), endpoints }
    }
}

/// A gateway that takes invitations.
pub(crate) struct Inviting {
    pub(crate) cluster: Cluster,
    pub(crate) address: SocketAddr,
    /// Whose CA its invitations may replace.
    pub(crate) replaces: Option<ClusterName>,
    host: Arc<Hosting>,
    outcomes: mpsc::Receiver<Outcome>,
    _tasks: JoinSet<()>,
}

struct Hosting {
    bundle: TrustAnchors,
    identity: IdentityStore,
    invites: Invites,
    granted: Mutex<Vec<Grant>>,
    objection: Mutex<String>,
    _directory: tempfile::TempDir,
}

impl Inviting {
    pub(crate) async fn start(cluster: Cluster) -> Self {
        Self::start_at(cluster, Duration::ZERO).await
    }

    /// One whose clock is `ahead`.
    pub(crate) async fn start_at(cluster: Cluster, ahead: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let host = Arc::new(Hosting {
            bundle: cluster.bundle(),
            identity: cluster.store(),
            invites: Invites::of(directory.path()),
            granted: Mutex::default(),
            objection: Mutex::default(),
            _directory: directory,
        });
        let (tell, outcomes) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        let serving = host.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (host, tell) = (serving.clone(), tell.clone());
                connections.spawn(async move {
                    let outcome = serve(&*host, socket, &[], || SystemTime::now() + ahead, || ()).await;
                    let _ = tell.send(outcome).await;
                });
            }
        });
        Self { cluster, address, replaces: None, host, outcomes, _tasks: tasks }
    }

    pub(crate) fn endpoint(&self) -> PeerAddress {
        PeerAddress { host: self.address.ip().to_string(), port: self.address.port() }
    }

    pub(crate) fn invite(&self) -> Token {
        let now = SystemTime::now();
        let invite = Invite::generate(now, self.replaces.clone()).unwrap();
        self.host.invites.add(&invite, now).unwrap();
        Token {
            id: invite.id,
            secret: invite.secret,
            ca: self.cluster.ca(),
            issued: invite.issued,
            lifetime: 900,
            inviter: self.cluster.domain.clone(),
            endpoints: vec![self.endpoint()],
        }
    }

    pub(crate) fn granted(&self) -> Vec<Grant> {
        self.host.granted.lock().unwrap().clone()
    }

    pub(crate) fn object(&self, why: &str) {
        *self.host.objection.lock().unwrap() = why.into();
    }

    /// How the next conversation ended.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        self.outcomes.recv().await.unwrap()
    }
}

impl Host for Hosting {
    fn identity(&self) -> &IdentityStore {
        &self.identity
    }

    fn bundle(&self) -> Result<TrustAnchors, Refused> {
        Ok(self.bundle.clone())
    }

    fn invites(&self) -> &Invites {
        &self.invites
    }

    fn check(&self, _grant: &Grant) -> Result<(), Refused> {
        let objection = self.objection.lock().unwrap();
        if objection.is_empty() { Ok(()) } else { Err(Refused::new(Refusal::Conflict, &*objection)) }
    }

    async fn grant(&self, grant: &Grant) -> Result<(), Refused> {
        self.granted.lock().unwrap().push(grant.clone());
        Ok(())
    }
}
