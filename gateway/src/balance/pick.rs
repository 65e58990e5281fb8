//! ● What a stream has picked, and what it has tried.

use std::{cell::Cell, net::SocketAddr, time::Duration};

/// How many endpoints one stream may try: the first and five more. With half of them gone, all six are one time in a hundred or less.
pub const MAX_TRIED: usize = 6;

/// An endpoint chosen for one stream, until that stream is over. It ends in exactly one of [`super::Balancer::failed`] and
/// [`super::Balancer::released`]; one that is dropped otherwise counts as in flight for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "end it with Balancer::failed or Balancer::released"]
pub struct Pick {
    /// Where to connect.
    pub address: SocketAddr,
    pub(super) id: PickId,
    /// The one stream that finds out whether an ejected endpoint is back.
    pub(super) probe: bool,
    /// Whether it is known if the endpoint takes the stream.
    pub(super) settled: Cell<bool>,
    /// What connecting there takes, as far as it is known.
    pub(super) usual: Option<Duration>,
}

/// Which endpoint a [`Pick`] is of, for as long as its balancer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PickId {
    pub(super) key: u64,
    /// Where the node was when it was picked: still there unless an update came between.
    pub(super) index: usize,
}

/// The endpoints that one stream has tried already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    keys: [u64; MAX_TRIED],
    len: usize,
}

impl Pick {
    /// Which endpoint it is of.
    pub fn id(&self) -> PickId {
        self.id
    }

    /// What connecting there takes, on average; `None` before the first time.
    pub fn usual(&self) -> Option<Duration> {
        self.usual
    }
}

impl Tried {
    /// Notes that `pick` has been tried. Beyond [`MAX_TRIED`] it is not noted: [`Self::is_full`] tells when to give up.
    pub fn insert(&mut self, pick: &Pick) {
        if !self.is_full() && !self.contains(pick.id.key) {
            self.keys[self.len] = pick.id.key;
            self.len += 1;
        }
    }

    /// Whether the stream has had all its attempts.
    pub fn is_full(&self) -> bool {
        self.len == MAX_TRIED
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.keys[..self.len].contains(&key)
    }
}
