//! Whether the connections of a service are worth the local hop. To join costs each as much as a few messages save, and a message
//! saves the less the larger it is: where connections are short, or much is moved, TCP is faster (benches/LOCAL-HOP.md).
//!
//! ```text
//! Tally ● (a socket: messages, bytes) ─▶ Worth ● (a service, at one side) ─ every second ─▶ marks and doors, or none
//! ```
//!
//! Sockets that go by TCP are counted as those that take part, so a service that changes is found out.

use crate::metrics::streams::Side;
use isthmus_control_api::ServicePort;
use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

/// Bytes of a message for which the local hop costs as much as it saves for the message.
const MESSAGE: i64 = 16 * 1024;
/// Messages that save what joining costs.
const JOINING: i64 = 9;
/// What is remembered of a service, at most: it stands for some hundred connections, or some thousand messages.
const MOST: i64 = 16 << 20;
/// A socket tells of what it has moved after so many messages, or so many bytes.
const TELLING: (u32, u64) = (64, 1 << 20);

/// All services' worths in the process.
#[derive(Debug, Default)]
pub(crate) struct Worths(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    worths: HashMap<(ServicePort, Side), Weak<Worth>>,
    /// How many there were after the last sweep.
    swept: usize,
}

/// ● One service's, at one side. What it counts in are the bytes that the local hop could move for what it saves.
#[derive(Debug)]
pub(crate) struct Worth {
    saved: AtomicI64,
    is_worth_it: AtomicBool,
}

/// ● What a socket has moved and has not told of yet.
#[derive(Debug)]
pub(crate) struct Tally {
    worth: Arc<Worth>,
    messages: Cell<u32>,
    bytes: Cell<u64>,
}

impl Default for Worth {
    /// Nothing is known, so it is tried.
    fn default() -> Self {
        Self { saved: AtomicI64::new(0), is_worth_it: AtomicBool::new(true) }
    }
}

impl Worth {
    /// Whether new connections are to take part.
    pub(crate) fn is_worth_it(&self) -> bool {
        self.is_worth_it.load(Relaxed)
    }

    fn add(&self, saved: i64) {
        // The closure never refuses.
        let _ = self.saved.fetch_update(Relaxed, Relaxed, |sum| Some(sum.saturating_add(saved).clamp(-MOST, MOST)));
    }

    /// Whether something has changed. One that is between the two stays as it is.
    fn decide(&self) -> bool {
        let (before, saved) = (self.is_worth_it(), self.saved.load(Relaxed));
        let now = if before { saved > -MOST / 2 } else { saved >= MOST / 2 };
        self.is_worth_it.store(now, Relaxed);
        now != before
    }
}

impl Worths {
    /// A service's. It takes a lock: ask once and keep it.
    pub(crate) fn get(&self, service: &ServicePort, side: Side) -> Arc<Worth> {
        let mut all = self.lock();
        if let Some(worth) = all.worths.get(&(service.clone(), side)).and_then(Weak::upgrade) {
            return worth;
        }
        if all.worths.len() > 2 * all.swept + 16 {
            // Services come and go: those that no core and no socket holds are over.
            all.worths.retain(|_, worth| worth.strong_count() > 0);
            all.swept = all.worths.len();
        }
        let worth = Arc::default();
        all.worths.insert((service.clone(), side), Arc::downgrade(&worth));
        worth
    }

    /// Decides on each; whether something has changed.
    pub(super) fn decide(&self) -> bool {
        self.lock().worths.values().filter_map(Weak::upgrade).fold(false, |changed, worth| worth.decide() | changed)
    }

    /// How many are not worth it.
    pub(super) fn left_out(&self) -> u64 {
        let all = self.lock();
        all.worths.values().filter_map(Weak::upgrade).filter(|worth| !worth.is_worth_it()).count() as u64
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Nothing that is done under it leaves things half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    pub(super) fn new(worth: Arc<Worth>) -> Self {
        Self { worth, messages: Cell::default(), bytes: Cell::default() }
    }

    /// A message was read or written.
    pub(super) fn moved(&self, bytes: usize) {
        self.messages.set(self.messages.get() + 1);
        self.bytes.set(self.bytes.get() + bytes as u64);
        if self.messages.get() >= TELLING.0 || self.bytes.get() >= TELLING.1 {
            self.tell();
        }
    }

    fn tell(&self) {
        let bytes = i64::try_from(self.bytes.take()).unwrap_or(MOST);
        self.worth.add(i64::from(self.messages.take()) * MESSAGE - bytes);
    }
}

/// It is over: what it took to join is counted only now, as nobody knows before how long it stays.
impl Drop for Tally {
    fn drop(&mut self) {
        self.tell();
        self.worth.add(-JOINING * MESSAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn connections(worth: &Arc<Worth>, count: usize, messages: usize, bytes: usize) {
        for _ in 0..count {
            let tally = Tally::new(worth.clone());
            (0..messages).for_each(|_| tally.moved(bytes));
        }
    }

    #[test]
    fn short_connections_and_bulk_are_left_out_and_small_messages_come_back() {
        for (count, messages, bytes) in [(200, 2, 300), (1, 1_000, 64 * 1024)] {
            let worth = Arc::<Worth>::default();
            connections(&worth, 1, 2, 100);
            assert!(!worth.decide() && worth.is_worth_it(), "one is too few to say");
            connections(&worth, count, messages, bytes);
            assert!(worth.decide() && !worth.is_worth_it(), "{count} {messages} {bytes}");
            assert!(!worth.decide(), "it stays");
            connections(&worth, 1, 5_000, 300);
            assert!(worth.decide() && worth.is_worth_it());
        }
    }

    #[test]
    fn a_connection_that_stays_tells_while_it_does() {
        let worth = Arc::<Worth>::default();
        let tally = Tally::new(worth.clone());
        (0..100).for_each(|_| tally.moved(1 << 20));
        assert!(worth.decide() && !worth.is_worth_it());
    }

    #[test]
    fn cores_share_a_services_worth_as_long_as_one_holds_it() {
        let (worths, service) = (Worths::default(), crate::core::tests::service());
        let one = worths.get(&service, Side::Egress);
        assert!(Arc::ptr_eq(&one, &worths.get(&service, Side::Egress)));
        assert!(!Arc::ptr_eq(&one, &worths.get(&service, Side::Ingress)));
        connections(&one, 1, 1_000, 64 * 1024);
        assert!(worths.decide());
        assert_eq!(worths.left_out(), 1);
        drop(one);
        assert_eq!(worths.left_out(), 0);
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_bounded_so_a_change_is_seen(
            before in prop::collection::vec((1_usize..100, 0_usize..200, 0_usize..200_000), 0..40)
        ) {
            let worth = Arc::<Worth>::default();
            for (count, messages, bytes) in before {
                connections(&worth, count, messages, bytes);
                worth.decide();
            }
            connections(&worth, 250, 2, 100);
            worth.decide();
            prop_assert!(!worth.is_worth_it());
            connections(&worth, 1, 2_500, 100);
            worth.decide();
            prop_assert!(worth.is_worth_it());
        }
    }
}
