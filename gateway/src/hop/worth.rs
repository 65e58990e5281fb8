//! Whether the connections of a service are worth the local hop. To join costs each as much as a few messages save, and a message
//! saves the less the larger it is, unless it would have to pass a device of the kernel's; to be taken out again costs most. Where connections are
//! short, or much is moved, TCP is faster (benches/LOCAL-HOP.md).
//!
//! ```text
//! Tally ● (a socket: messages, bytes) ─▶ Account ● (a core) ─▶ Worth ● (a service, at one side) ─ every second ─▶ marks and doors, or none
//! ```
//!
//! Sockets that go by TCP are counted as those that take part, so a service that changes is found out.

use crate::metrics::streams::Side;
use isthmus_control_api::ServicePort;
use std::{
    cell::Cell,
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

/// Bytes of a message for which the local hop costs as much as it saves for the message.
const MESSAGE: i64 = 16 * 1024;
/// Messages that save what joining costs.
const JOINING: i64 = 9;
/// Messages that save what it costs to move bulk until a connection is taken out, and to take it out.
const LEAVING: i64 = 256;
/// What is remembered of a service, at most: it stands for some hundred connections, or some thousand messages.
const MOST: i64 = 16 << 20;
/// A socket tells of what it has moved after so many messages, or so many bytes.
const TELLING: (u32, u64) = (64, 1 << 20);
/// A core tells of what its sockets have told when it is so much, and every second: the others do not wait for the memory meanwhile.
const PASSING_ON: i64 = 1 << 20;

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

/// ● What the sockets of a core have told of a service, and the core has not.
#[derive(Debug)]
pub(crate) struct Account {
    worth: Arc<Worth>,
    saved: Cell<i64>,
}

/// ● What a socket has moved that counts, and has not told of yet.
#[derive(Debug)]
pub(crate) struct Tally {
    account: Rc<Account>,
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
    fn is_worth_it(&self) -> bool {
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

    /// Whether each of these is known not to be worth it.
    pub(super) fn are_left_out<'s>(&self, mut services: impl Iterator<Item = (&'s ServicePort, Side)>) -> bool {
        let all = self.lock();
        services.all(|(service, side)| {
            let worth = all.worths.get(&(service.clone(), side)).and_then(Weak::upgrade);
            worth.is_some_and(|worth| !worth.is_worth_it())
        })
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

impl Account {
    pub(super) fn new(worth: Arc<Worth>) -> Self {
        Self { worth, saved: Cell::default() }
    }

    /// Whether new connections of its service are to take part.
    pub(super) fn is_worth_it(&self) -> bool {
        self.worth.is_worth_it()
    }

    fn add(&self, saved: i64) {
        self.saved.set(self.saved.get() + saved);
        if self.saved.get().abs() >= PASSING_ON {
            self.pass_on();
        }
    }

    /// Tells of what there is.
    pub(super) fn pass_on(&self) {
        let saved = self.saved.take();
        if saved != 0 {
            self.worth.add(saved);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.pass_on();
    }
}

impl Tally {
    pub(super) fn new(account: Rc<Account>) -> Self {
        Self { account, messages: Cell::default(), bytes: Cell::default() }
    }

    /// It was taken out, as it moves bulk.
    pub(super) fn left(&self) {
        self.account.add(-LEAVING * MESSAGE);
    }

    /// A message was read or written, and so many of its bytes count.
    pub(super) fn moved(&self, bytes: usize) {
        self.messages.set(self.messages.get() + 1);
        self.bytes.set(self.bytes.get() + bytes as u64);
        if self.messages.get() >= TELLING.0 || self.bytes.get() >= TELLING.1 {
            self.account.add(self.saved());
        }
    }

    /// What that has saved, once.
    fn saved(&self) -> i64 {
        let bytes = i64::try_from(self.bytes.take()).unwrap_or(MOST);
        i64::from(self.messages.take()) * MESSAGE - bytes
    }
}

/// It is over: what it took to join is counted only now, as nobody knows before how long it stays.
impl Drop for Tally {
    fn drop(&mut self) {
        self.account.add(self.saved() - JOINING * MESSAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account(worth: &Arc<Worth>) -> Rc<Account> {
        Rc::new(Account::new(worth.clone()))
    }

    fn connections(worth: &Arc<Worth>, count: usize, messages: usize, bytes: usize) {
        let account = account(worth);
        for _ in 0..count {
            let tally = Tally::new(account.clone());
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
    fn connections_that_are_taken_out_outweigh_some_messages_not_many() {
        let worth = Arc::<Worth>::default();
        let tally = Tally::new(account(&worth));
        (0..3).for_each(|_| tally.left());
        assert!(worth.decide() && !worth.is_worth_it());
        (0..3000).for_each(|_| tally.moved(0));
        tally.left();
        assert!(worth.decide() && worth.is_worth_it());
    }

    #[test]
    fn a_connection_that_stays_tells_while_it_does() {
        let worth = Arc::<Worth>::default();
        let tally = Tally::new(account(&worth));
        (0..100).for_each(|_| tally.moved(1 << 20));
        assert!(worth.decide() && !worth.is_worth_it());
    }

    #[test]
    fn a_core_tells_of_much_at_once_and_of_little_when_it_is_asked_to() {
        let worth = Arc::<Worth>::default();
        let account = account(&worth);
        let known = || worth.saved.load(Relaxed);
        drop(Tally::new(account.clone()));
        assert_eq!(known(), 0);
        account.pass_on();
        assert_eq!(known(), -JOINING * MESSAGE);
        (0..100).for_each(|_| drop(Tally::new(account.clone())));
        let untold = known() + 101 * JOINING * MESSAGE;
        assert!((0..PASSING_ON).contains(&untold), "{untold}");
        drop(account);
        assert_eq!(known(), -101 * JOINING * MESSAGE);
    }

    #[test]
    fn all_are_left_out_once_each_is_known_to_be() {
        let (worths, service) = (Worths::default(), crate::core::tests::service());
        let both = || [Side::Egress, Side::Ingress].map(|side| (&service, side)).into_iter();
        assert!(!worths.are_left_out(both()), "nothing is known");
        let [one, other] = [Side::Egress, Side::Ingress].map(|side| worths.get(&service, side));
        connections(&one, 200, 2, 300);
        assert!(worths.decide() && !worths.are_left_out(both()));
        connections(&other, 200, 2, 300);
        assert!(worths.decide() && worths.are_left_out(both()));
        connections(&one, 1, 5_000, 300);
        assert!(worths.decide() && !worths.are_left_out(both()));
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
