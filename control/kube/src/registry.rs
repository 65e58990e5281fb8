//! Kubernetes as a registry: what this cluster exports, imports and is linked with, by the objects of its API server.
//!
//! ```text
//! watches ──▶ Index ● ─┐                     ┌──▶ Desired ──▶ control (table, exchange)
//! peers' views ────────┼─ debounce ● ─ plan ● ┤
//! the file's links ────┘                     └──▶ Applier ──▶ API server      while this replica leads
//! ```
//!
//! It goes one way: what peers say comes in, what this cluster wants goes out, and nothing that goes out changes what peers say.
//! Whatever is lost (the API server, a watch, the lease), what was known last stays.

mod desired;
mod engine;
mod link_status;
mod links;
mod properties;
mod settling;
mod status;

pub use link_status::{LinkReport, LinkReports};
pub use status::{KubeStatus, LeaderStatus, WatchStatus};

use crate::{
    index::Index,
    lead::{self, Election, Times, driver::Leadership},
    mcs::Settings,
    pods,
    watch::{self, Scope},
};
use engine::{Engine, Outputs};
use isthmus_control::{
    Registry,
    peers::PeerViews,
    registry::{Desired, RegistryStatus},
};
use isthmus_control_dns::Zone;
use kube::{Api, Client};
use std::{future::Future, pin::Pin, sync::Arc};
use tokio::{sync::watch as cell, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// The name of the Lease by which replicas elect who writes.
pub const LEASE: &str = "isthmus-control";

/// What the registry is to know from its start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who we are, and which ports there are for imports.
    pub settings: Settings,
    /// Where our gateways' pods are, and where the Lease is.
    pub scope: Scope,
    /// What no other process is ever called: this replica in the election.
    pub identity: String,
    /// How long a leader leads.
    pub times: Times,
    /// Whether all pods are watched, to know whose their addresses are.
    pub pod_identity: bool,
}

/// The registry of a cluster of Kubernetes.
pub struct KubeRegistry {
    client: Client,
    options: Options,
    /// The configuration file, for links beside those of the API server.
    file: Box<dyn Registry>,
    reports: cell::Receiver<Arc<LinkReports>>,
    outputs: Outputs,
    /// What `outputs` says, and whose the addresses of pods are, if they are watched.
    desired: cell::Sender<Arc<Desired>>,
    leads: cell::Sender<Leadership>,
}

impl KubeRegistry {
    /// The registry that `client` leads to. The links of `file` count beside the ClusterLinks; `reports` are for these' statuses. `zone` is
    /// told the names of what is imported, if anybody looks at it.
    pub fn new(
        client: Client,
        options: Options,
        file: Box<dyn Registry>,
        reports: cell::Receiver<Arc<LinkReports>>,
        zone: cell::Sender<Arc<Zone>>,
    ) -> Self {
        let status = (**file.status().borrow()).clone();
        Self {
            client,
            options,
            file,
            reports,
            leads: cell::Sender::default(),
            desired: cell::Sender::default(),
            outputs: Outputs { desired: cell::Sender::default(), status: cell::Sender::new(Arc::new(status)), zone },
        }
    }

    /// Who writes.
    pub fn leadership(&self) -> cell::Receiver<Leadership> {
        self.leads.subscribe()
    }

    async fn serve(self, peers: cell::Receiver<Arc<PeerViews>>, shutdown: CancellationToken) {
        let Self { client, options, file, reports, outputs, desired, leads } = self;
        let leases = Api::namespaced(client.clone(), &options.scope.namespace);
        let election = Election::new(LEASE, &options.identity, options.times);
        let leadership = leads.subscribe();
        // The lease is given back when nothing is written any more.
        let idle = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let news = watch::all(&client, &options.scope, &mut tasks);
        let (file_desired, file_status) = (file.desired(), file.status());
        tasks.spawn(file.run(peers.clone(), shutdown.clone()));
        if options.pod_identity {
            let (told, sources) = cell::channel(pods::Sources::default());
            tasks.spawn(pods::follow(client.clone(), told));
            tasks.spawn(pods::merge(outputs.desired.subscribe(), sources, desired));
        }
        let mut electing = JoinSet::new();
        electing.spawn(lead::driver::run(leases, election, leads, shutdown.clone(), idle.clone()));
        let inputs = engine::Inputs { news, peers, reports, leadership, file: file_desired, file_status };
        let index = Index::new(&options.scope.optional);
        Engine::new(client, options.settings, index, inputs, outputs).run(shutdown).await;
        tasks.shutdown().await;
        idle.cancel();
        electing.join_next().await;
    }
}

impl Registry for KubeRegistry {
    fn desired(&self) -> cell::Receiver<Arc<Desired>> {
        let desired = if self.options.pod_identity { &self.desired } else { &self.outputs.desired };
        desired.subscribe()
    }

    fn is_loaded(&self) -> bool {
        false
    }

    fn status(&self) -> cell::Receiver<Arc<RegistryStatus>> {
        self.outputs.status.subscribe()
    }

    fn run(
        self: Box<Self>,
        peers: cell::Receiver<Arc<PeerViews>>,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.serve(peers, shutdown))
    }
}
