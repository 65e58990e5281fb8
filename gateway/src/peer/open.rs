//! Opening streams on a core's tunnels.

use super::{Peers, Way, carrier, choose::Carrier};
use crate::{
    relay::Over,
    tunnel::{OpenRequest, Refusal, RefusalReason, Tunnel, TunnelStream},
};
use isthmus_control_api::{ClusterName, GatewayId, ServicePort};
use std::{future::poll_fn, rc::Rc, task::Poll, time::Instant};

/// Which tunnels a stream may be opened on.
pub(crate) struct Target<'a> {
    /// Those that lead to this cluster.
    pub(crate) cluster: &'a ClusterName,
    /// If given, to this gateway of it only.
    pub(crate) only: Option<GatewayId>,
    /// But not to these, which have refused it.
    pub(crate) not: Vec<GatewayId>,
}

impl<'a> Target<'a> {
    /// Those to any gateway of `cluster`.
    pub(crate) fn any(cluster: &'a ClusterName) -> Self {
        Self { cluster, only: None, not: Vec::new() }
    }

    pub(super) fn fits(&self, tunnel: &dyn Tunnel) -> bool {
        let gateway = tunnel.gateway();
        self.only.is_none_or(|only| only == gateway) && !self.not.contains(&gateway)
    }
}

/// A stream that was asked for, and the tunnel that it is on.
pub(crate) type Opened = (Box<dyn TunnelStream>, Rc<dyn Tunnel>);

impl Peers {
    /// Opens a stream on the least loaded live tunnel to `target` of the carrier that was chosen, or on another one if that refuses; on
    /// a relayed one if there is no direct one.
    ///
    /// # Errors
    /// There is no live tunnel, or none takes the stream.
    pub(crate) fn open(&self, target: &Target<'_>, request: &OpenRequest) -> Result<Opened, Refusal> {
        let cluster = target.cluster;
        let message = format!("no live tunnel to {cluster}");
        let none = Refusal { reason: RefusalReason::TunnelLost, message, retry: true };
        let direct = self.open_on(self.fitting(target, Way::Direct), cluster, request, none);
        direct.or_else(|refusal| self.open_on(self.fitting(target, Way::Relayed), cluster, request, refusal))
    }

    fn fitting(&self, target: &Target<'_>, way: Way) -> Vec<Rc<dyn Tunnel>> {
        let mut tunnels = self.live_by(target.cluster, way);
        tunnels.retain(|tunnel| target.fits(&**tunnel));
        tunnels
    }

    /// After [`Self::open`] has refused a stream for want of memory: waits until a tunnel has made room; false if none does.
    pub(crate) async fn room(&self, target: &Target<'_>) -> bool {
        let tunnels = [Way::Direct, Way::Relayed].map(|way| self.fitting(target, way)).concat();
        let mut has_waited = false;
        poll_fn(|cx| {
            let (mut is_making, mut has_room) = (false, false);
            for tunnel in &tunnels {
                match tunnel.poll_room(cx) {
                    Poll::Pending => is_making = true,
                    Poll::Ready(room) => has_room |= room,
                }
            }
            // Room that was there before anybody waited is not what the stream wants.
            if is_making && !(has_room && has_waited) {
                has_waited = true;
                return Poll::Pending;
            }
            Poll::Ready(has_room && has_waited)
        })
        .await
    }

    /// Opens a stream on a tunnel that is not relayed.
    ///
    /// # Errors
    /// There is no live one, or none takes the stream.
    pub(crate) fn open_direct(
        &self,
        cluster: &ClusterName,
        request: &OpenRequest,
        over: Over,
    ) -> Result<Opened, Refusal> {
        let message = match over {
            Over::Any => format!("no tunnel to {cluster} itself"),
            Over::DialledQuic => format!("no tunnel to {cluster} that was dialled over QUIC"),
        };
        let none = Refusal { reason: RefusalReason::TunnelLost, message, retry: true };
        let tunnels =
            self.live_if(cluster, |known| known.way() == Way::Direct && (over == Over::Any || known.common_port));
        self.open_on(tunnels, cluster, request, none)
    }

    fn open_on(
        &self,
        mut tunnels: Vec<Rc<dyn Tunnel>>,
        cluster: &ClusterName,
        request: &OpenRequest,
        none: Refusal,
    ) -> Result<Opened, Refusal> {
        // Datagrams are best as datagrams: a lost one holds up nobody.
        let chosen = if request.service.protocol.is_tcp() { self.chosen(cluster) } else { Carrier::Quic };
        let (shunned, now) = (self.shunned.borrow(), Instant::now());
        tunnels.sort_by_cached_key(|tunnel| {
            let shunned = shunned.has(&request.service, tunnel.gateway(), now);
            (shunned, carrier(&**tunnel) != chosen, tunnel.load())
        });
        drop(shunned);
        let mut refusal = none;
        for tunnel in tunnels {
            match tunnel.open(request) {
                Ok(stream) => return Ok((stream, tunnel)),
                Err(refused) => refusal = refused,
            }
        }
        Err(refusal)
    }

    /// A gateway could not serve a stream that another one of its cluster may: others are asked before it for a while.
    pub(crate) fn shun(&self, service: &ServicePort, gateway: GatewayId) {
        self.shunned.borrow_mut().note(service, gateway, Instant::now());
    }

    /// A gateway serves a stream.
    pub(crate) fn unshun(&self, service: &ServicePort, gateway: GatewayId) {
        self.shunned.borrow_mut().clear(service, gateway);
    }
}
