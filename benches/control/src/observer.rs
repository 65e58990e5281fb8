//! A gateway's end of push, which looks at each table for the changes that are waited for; and a plain watch of the API server, which
//! is what no control can be quicker than.

use crate::{change::Pending, objects::NAMESPACE};
use futures_util::StreamExt as _;
use isthmus_certs::{Directory, IdentityStore};
use isthmus_control_api::{GatewayId, Table};
use isthmus_push::{Client, ClientConfig, Reached, Tunnels};
use isthmus_tests::Netns;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, runtime::watcher};
use std::{
    io,
    net::SocketAddr,
    path::Path,
    pin::pin,
    sync::{Arc, mpsc::sync_channel},
    thread::{self, JoinHandle},
    time::Instant,
};
use tokio::{
    runtime::Builder,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

/// Watches the tables of one control.
pub(crate) struct Observer {
    /// What is waited for.
    pub(crate) pending: Arc<Pending>,
    /// The newest table.
    pub(crate) table: watch::Receiver<Arc<Table>>,
    over: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Attaches to the control at `address`, with the gateway's identity in `identity`.
    ///
    /// # Panics
    /// If the identity cannot be used.
    pub(crate) fn start(netns: &Netns, identity: &Path, address: SocketAddr) -> Self {
        let (pending, over) = (Arc::new(Pending::default()), CancellationToken::new());
        let (give, got) = sync_channel(1);
        let run = {
            let (pending, over, identity) = (pending.clone(), over.clone(), identity.to_owned());
            move || observe(&identity, address, &pending, &over, |table| drop(give.send(table)))
        };
        // A thread is in the namespace of the one that starts it.
        let thread = netns.run(move || thread::spawn(run));
        let table = got.recv().unwrap_or_else(|_| panic!("the observer of {address} did not start"));
        Self { pending, table, over, thread: Some(thread) }
    }

    /// The newest table.
    pub(crate) fn now(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn observe(
    identity: &Path,
    address: SocketAddr,
    pending: &Pending,
    over: &CancellationToken,
    ready: impl FnOnce(watch::Receiver<Arc<Table>>),
) {
    let identity = Directory::new(identity).load_own().unwrap_or_else(|e| panic!("{e}"));
    let config = ClientConfig {
        address: address.to_string().parse().unwrap_or_else(|e| panic!("{address}: {e}")),
        gateway: GatewayId(u64::from(address.port()) << 32 | u64::from(std::process::id())),
        name: "observer".into(),
        version: "0".into(),
        identity: IdentityStore::new(identity),
        kept: (Arc::default(), 0),
    };
    let client = Client::new(config).unwrap_or_else(|e| panic!("{e}"));
    let mut tables = client.table();
    ready(client.table());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap_or_else(|e| panic!("a runtime: {e}"));
    runtime.block_on(async {
        let (_reached, reached) = watch::channel(Reached::new());
        let (_links, links) = watch::channel(Vec::new());
        let (_incoming, incoming) = mpsc::channel(1);
        let open = Arc::new(|_: &_, _| Err(io::Error::other("an observer reaches nobody")));
        let running = client.run(Tunnels { reached, links, incoming, open, fits: Arc::new(|_| Ok(())) }, over.clone());
        let watching = async {
            while tables.changed().await.is_ok() {
                let table = tables.borrow_and_update().clone();
                pending.see(&table, Instant::now());
            }
        };
        tokio::select! {
            () = running => {}
            () = watching => {}
        }
    });
}

/// A plain watch of the same objects.
pub(crate) async fn watch_slices(client: kube::Client, pending: Arc<Pending>) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    let mut events = pin!(watcher(slices, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(slice)) = event else { continue };
        let port = slice.ports.iter().flatten().find_map(|port| port.port).unwrap_or_default() as u16;
        for address in slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses).take(1) {
            if let Ok(ip) = address.parse() {
                pending.see_endpoint(SocketAddr::new(ip, port), Instant::now());
            }
        }
    }
}
