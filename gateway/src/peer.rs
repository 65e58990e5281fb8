//! The gateways of linked clusters, as one core knows them: its tunnels to them, and the dialling of new ones.

mod dial;
pub(crate) mod quic;
mod setup;

pub(crate) use dial::{LinkStates, Links};
pub(crate) use setup::{TlsConfigs, accept};

use crate::{
    board::Board,
    status::TunnelReport,
    tunnel::{OpenRequest, Refusal, RefusalReason, Tunnel, TunnelHealth, TunnelStream},
};
use isthmus_control_api::{ClusterName, Table};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::SystemTime};

/// The tunnels of one core, by the cluster that they lead to. There are a handful for each.
#[derive(Default)]
pub(crate) struct Peers(RefCell<BTreeMap<ClusterName, Vec<Known>>>);

struct Known {
    tunnel: Rc<dyn Tunnel>,
    /// When the peer's certificate expires.
    expiry: Option<SystemTime>,
}

impl Peers {
    /// Opens a stream on the least loaded live tunnel to `cluster`, or on another one if that refuses.
    ///
    /// # Errors
    /// There is no live tunnel, or none takes the stream.
    pub(crate) fn open(&self, cluster: &ClusterName, request: &OpenRequest) -> Result<Box<dyn TunnelStream>, Refusal> {
        let mut tunnels = self.live(cluster);
        tunnels.sort_by_key(|tunnel| tunnel.load());
        let message = format!("no live tunnel to {cluster}");
        let mut refusal = Refusal { reason: RefusalReason::TunnelLost, message, retry: true };
        for tunnel in tunnels {
            match tunnel.open(request) {
                Ok(stream) => return Ok(stream),
                Err(refused) => refusal = refused,
            }
        }
        Err(refusal)
    }

    /// Whether a stream to `cluster` can be opened on this core.
    pub(crate) fn is_live(&self, cluster: &ClusterName) -> bool {
        self.0.borrow().get(cluster).is_some_and(|tunnels| tunnels.iter().any(|known| is_open(&*known.tunnel)))
    }

    /// What each tunnel tells of itself.
    pub(crate) fn report(&self) -> Vec<TunnelReport> {
        let tunnels = self.0.borrow();
        let tunnels = tunnels.iter().flat_map(|(cluster, tunnels)| tunnels.iter().map(move |known| (cluster, known)));
        let report = |(cluster, known): (&ClusterName, &Known)| TunnelReport {
            cluster: cluster.clone(),
            status: known.tunnel.status(),
            cert_expiry: known.expiry,
        };
        tunnels.map(report).collect()
    }

    /// Closes tunnels to clusters that the table has no link with: trust ends with the link.
    pub(crate) fn close_unlinked(&self, table: &Table) {
        for (cluster, tunnels) in self.0.borrow().iter() {
            if !table.links.contains_key(cluster) {
                tunnels.iter().for_each(|known| known.tunnel.close());
            }
        }
    }

    /// Says goodbye on all tunnels.
    pub(crate) fn drain(&self) {
        self.0.borrow().values().flatten().for_each(|known| known.tunnel.drain());
    }

    /// Ends all tunnels.
    pub(crate) fn close(&self) {
        self.0.borrow().values().flatten().for_each(|known| known.tunnel.close());
    }

    fn live(&self, cluster: &ClusterName) -> Vec<Rc<dyn Tunnel>> {
        let tunnels = self.0.borrow();
        let tunnels = tunnels.get(cluster).into_iter().flatten().map(|known| &known.tunnel);
        tunnels.filter(|tunnel| is_open(&***tunnel)).cloned().collect()
    }

    fn add(&self, cluster: &ClusterName, tunnel: Rc<dyn Tunnel>, expiry: Option<SystemTime>) {
        self.0.borrow_mut().entry(cluster.clone()).or_default().push(Known { tunnel, expiry });
    }

    fn remove(&self, cluster: &ClusterName, tunnel: &Rc<dyn Tunnel>) {
        if let Some(tunnels) = self.0.borrow_mut().get_mut(cluster) {
            tunnels.retain(|known| !Rc::ptr_eq(&known.tunnel, tunnel));
        }
    }

    /// Tells the other cores and control how many live tunnels there are.
    fn publish(&self, cluster: &ClusterName, core: usize, board: &Board) {
        board.set(cluster, core, self.live(cluster).len());
    }
}

fn is_open(tunnel: &dyn Tunnel) -> bool {
    tunnel.health() == TunnelHealth::Live && tunnel.can_open()
}
