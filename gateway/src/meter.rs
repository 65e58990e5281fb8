//! What is noted of each stream, and of each core.

use crate::{
    close::Closed,
    stream::Moved,
    tunnel::{OpenRequest, PeerIdentity},
};
use isthmus_control_api::{ClusterName, ServicePort};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Whose side of a stream this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Egress,
    Ingress,
}

/// One stream's notes, until it closes.
pub(crate) struct StreamMeter {
    pub(crate) moved: Moved,
    begun: Instant,
}

impl StreamMeter {
    pub(crate) fn peer(&mut self, _cluster: &ClusterName) {}
    pub(crate) fn source(&mut self, _peer: &PeerIdentity, _request: &OpenRequest) {}
    pub(crate) fn endpoint(&mut self, _address: SocketAddr) {}
    pub(crate) fn connected(&mut self) {}
    pub(crate) fn retry(&mut self) {}
    pub(crate) fn first_byte(&mut self, _at: Option<Instant>) {}
    pub(crate) fn close(self, _closed: Closed) {
        let _: Duration = self.begun.elapsed();
    }
}

/// One core's counters.
pub(crate) struct CoreMeters;

impl CoreMeters {
    pub(crate) fn heartbeat(&self) {}
    pub(crate) fn table_applied(&self, _version: u64) {}
    pub(crate) fn refused_at_bound(&self, _bound: &'static str) {}
    pub(crate) fn handshake(&self, _direction: crate::tunnel::Direction) {}
    pub(crate) fn handshake_refused(&self, _reason: &'static str) {}
    pub(crate) fn dial_failed(&self) {}
    pub(crate) fn stream(
        &self,
        _direction: Direction,
        _service: ServicePort,
        _from: Option<SocketAddr>,
    ) -> StreamMeter {
        StreamMeter { moved: Moved::default(), begun: Instant::now() }
    }
}

/// Placeholder.
#[derive(Default)]
pub struct Metrics;
impl Metrics {
    pub(crate) fn core(&self, _id: usize) -> CoreMeters {
        CoreMeters
    }
    pub(crate) fn refused_at_bound(&self, _bound: &'static str) {}
}
