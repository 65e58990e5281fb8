//! Gateway and control do not know each other: what passes between them passes here.

use isthmus_control::{LinkEvent, Peers};
use isthmus_control_api::{ClusterName, GatewayId};
use isthmus_gateway::{Handle, IncomingExchange, Live};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    pin::Pin,
};
use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Events that wait for control. It takes them at once; the sender waits otherwise.
const EVENTS: usize = 64;

/// The gateway's tunnels, as control reaches its peers through them.
pub(in crate::cmd) struct Tunnels(pub(in crate::cmd) Handle);

impl Peers for Tunnels {
    fn open(
        &self,
        cluster: &ClusterName,
        gateway: GatewayId,
    ) -> Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send + '_>> {
        let opened = self.0.open_exchange(cluster, gateway);
        Box::pin(async { UnixStream::from_std(opened?) })
    }
}

/// By linked cluster, the gateways that live tunnels lead to.
pub(in crate::cmd) type Reached = BTreeMap<ClusterName, BTreeSet<GatewayId>>;

/// Those that any core has a live tunnel to.
fn of_any_core(tunnels: &isthmus_gateway::Tunnels) -> Reached {
    let gateways = |cores: &Vec<Live>| cores.iter().flat_map(Live::keys).copied().collect();
    tunnels.iter().map(|(cluster, cores)| (cluster.clone(), gateways(cores))).collect()
}

/// What is reached, and every change of it.
pub(in crate::cmd) fn reached(tasks: &mut JoinSet<()>, gateway: &Handle) -> watch::Receiver<Reached> {
    let mut tunnels = gateway.tunnels();
    let (to_control, reached) = watch::channel(of_any_core(&tunnels.borrow_and_update()));
    tasks.spawn(async move {
        while tunnels.changed().await.is_ok() {
            let now = of_any_core(&tunnels.borrow_and_update());
            to_control.send_if_modified(|told| {
                let differs = *told != now;
                *told = now;
                differs
            });
        }
    });
    reached
}

/// Tells control which clusters and gateways have tunnels, and hands it the exchanges that peers open.
pub(in crate::cmd) fn events(
    tasks: &mut JoinSet<()>,
    own: GatewayId,
    gateway: &Handle,
    incoming: Option<mpsc::Receiver<IncomingExchange>>,
    stop: &CancellationToken,
) -> mpsc::Receiver<LinkEvent> {
    let (to_control, events) = mpsc::channel(EVENTS);
    let mut tunnels = gateway.tunnels();
    let links = to_control.clone();
    let follow = async move {
        let mut told = BTreeMap::new();
        loop {
            let now = of_any_core(&tunnels.borrow_and_update());
            let gone =
                told.keys().filter(|cluster| !now.contains_key(*cluster)).map(|cluster| (cluster, BTreeSet::new()));
            let come = now.iter().filter(|(cluster, gateways)| told.get(*cluster) != Some(*gateways));
            let come = come.map(|(cluster, gateways)| (cluster, gateways.clone()));
            for (cluster, gateways) in gone.chain(come) {
                if links.send(LinkEvent::Reached { through: own, cluster: cluster.clone(), gateways }).await.is_err() {
                    return;
                }
            }
            told = now;
            if tunnels.changed().await.is_err() {
                return;
            }
        }
    };
    let hand_over = async move {
        let Some(mut incoming) = incoming else { return };
        while let Some(IncomingExchange { cluster, gateway, stream }) = incoming.recv().await {
            let stream = match UnixStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%cluster, %error, "an exchange is lost");
                    continue;
                }
            };
            if to_control.send(LinkEvent::Incoming { through: own, cluster, gateway, stream }).await.is_err() {
                return;
            }
        }
    };
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            ((), ()) = async { tokio::join!(follow, hand_over) } => {}
        }
    });
    events
}
