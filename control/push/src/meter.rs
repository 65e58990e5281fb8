//! What is counted, by whoever has counters.

use std::time::Duration;

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushKind {
    /// A whole table.
    Snapshot,
    /// What changed.
    Delta,
}

/// Of what there was no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Room for gateways and their connections.
    Gateways,
    /// Places for handshakes, of all or of one address.
    Handshakes,
}

/// Takes what control's side has to count. Nothing in it may wait.
pub trait Meter: Send + Sync + 'static {
    /// So many gateways are attached.
    fn attached(&self, gateways: usize);
    /// An update has been sent, of so many bytes.
    fn pushed(&self, kind: PushKind, bytes: usize);
    /// A gateway has refused a table.
    fn rejected(&self);
    /// A gateway has taken a change so long after it was published.
    fn propagated(&self, took: Duration);
    /// Somebody was turned away because there are too many already.
    fn refused(&self, what: Refused);
}

/// Counts nothing.
impl Meter for () {
    fn attached(&self, _gateways: usize) {}
    fn pushed(&self, _kind: PushKind, _bytes: usize) {}
    fn rejected(&self) {}
    fn propagated(&self, _took: Duration) {}
    fn refused(&self, _what: Refused) {}
}
