//! Gateway and control do not know each other: what passes between them passes here.

use isthmus_control::{LinkEvent, Peers};
use isthmus_control_api::ClusterName;
use isthmus_gateway::{Handle, IncomingExchange};
use std::{collections::BTreeSet, future::Future, io, pin::Pin};
use tokio::{net::UnixStream, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Events that wait for control. It takes them at once; the sender waits otherwise.
const EVENTS: usize = 64;

/// The gateway's tunnels, as control reaches its peers through them.
pub(super) struct Tunnels(pub(super) Handle);

impl Peers for Tunnels {
    fn open(&self, cluster: &ClusterName) -> Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send + '_>> {
        let opened = self.0.open_exchange(cluster);
        Box::pin(async { UnixStream::from_std(opened?) })
    }
}

/// Tells control which clusters have tunnels, and hands it the exchanges that peers open.
pub(super) fn events(
    tasks: &mut JoinSet<()>,
    gateway: &Handle,
    incoming: Option<mpsc::Receiver<IncomingExchange>>,
    stop: &CancellationToken,
) -> mpsc::Receiver<LinkEvent> {
    let (to_control, events) = mpsc::channel(EVENTS);
    let mut tunnels = gateway.tunnels();
    let links = to_control.clone();
    let follow = async move {
        let mut up = BTreeSet::new();
        loop {
            let now: BTreeSet<ClusterName> = tunnels.borrow_and_update().keys().cloned().collect();
            let gone = up.difference(&now).map(|cluster: &ClusterName| LinkEvent::Down { cluster: cluster.clone() });
            let come = now.difference(&up).map(|cluster| LinkEvent::Up { cluster: cluster.clone() });
            for event in gone.chain(come) {
                if links.send(event).await.is_err() {
                    return;
                }
            }
            up = now;
            if tunnels.changed().await.is_err() {
                return;
            }
        }
    };
    let hand_over = async move {
        let Some(mut incoming) = incoming else { return };
        while let Some(IncomingExchange { cluster, stream }) = incoming.recv().await {
            let stream = match UnixStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%cluster, %error, "an exchange is lost");
                    continue;
                }
            };
            if to_control.send(LinkEvent::Incoming { cluster, stream }).await.is_err() {
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
