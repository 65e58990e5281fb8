//! Two sides that keep to the protocol, with any delay between them, against a naive model: what goes in comes out.
//!
//! The model of one direction of a stream is three numbers: bytes sent, bytes received, bytes consumed; byte `i` of a stream is a
//! function of the stream and `i`, so that a byte lost, doubled or out of order is seen where it happens.

use super::*;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

/// Small enough that every bound is met.
const SETTINGS: Settings = Settings { window: 20_000, max_streams: 4, cores: 2, about: Introduction::UNKNOWN };
const BUDGET: usize = 130_000;

#[derive(Debug, Clone)]
enum Op {
    Deliver(u8),
    Open,
    Answer(usize, bool),
    Send(usize, usize),
    Consume(usize, usize),
    Finish(usize),
    Forget(usize),
    Ping(u64),
    Flush,
    Goaway,
}

fn ops() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let stream = 0..8usize;
    let op = prop_oneof![
        6 => (1..4u8).prop_map(Op::Deliver),
        3 => Just(Op::Open),
        3 => (stream.clone(), prop::bool::weighted(0.9)).prop_map(|(id, accept)| Op::Answer(id, accept)),
        6 => (stream.clone(), 1..60_000usize).prop_map(|(id, length)| Op::Send(id, length)),
        5 => (stream.clone(), 1..60_000usize).prop_map(|(id, length)| Op::Consume(id, length)),
        2 => stream.clone().prop_map(Op::Finish),
        1 => stream.prop_map(Op::Forget),
        1 => any::<u32>().prop_map(|token| Op::Ping(token.into())),
        1 => Just(Op::Flush),
    ];
    // Seldom, and late: it ends what a case is about.
    let goaway = prop::option::weighted(0.2, (0..2usize, Just(Op::Goaway)));
    (prop::collection::vec((0..2usize, op), 1..300), goaway).prop_map(|(mut ops, goaway)| {
        let at = ops.len() / 2;
        goaway.into_iter().for_each(|goaway| ops.insert(at, goaway));
        ops
    })
}

/// What one side knows of a stream.
#[derive(Debug, Default)]
struct Half {
    sent: usize,
    finished: bool,
    received: usize,
    consumed: usize,
    peer_finished: bool,
    /// The stream may send: its own side opened it, or has accepted it.
    talks: bool,
}

struct Side {
    mux: Mux<()>,
    budget: Arc<Budget>,
    halves: BTreeMap<u32, Half>,
    /// Records on their way here.
    inbox: VecDeque<Vec<u8>>,
    /// How many have come so far, and how many of these were taken.
    came: usize,
    taken: usize,
    pings: VecDeque<u64>,
    /// Flushes that were asked for, and up to where the peer has to have taken what came.
    flushes: Vec<(u64, usize)>,
    now: Instant,
}

impl Side {
    fn new(role: Role) -> Self {
        let (mux, budget) = side(role, SETTINGS, BUDGET);
        let now = Instant::now();
        let (halves, inbox) = (BTreeMap::new(), VecDeque::new());
        let (pings, flushes) = (VecDeque::new(), Vec::new());
        Self { mux, budget, halves, inbox, came: 0, taken: 0, pings, flushes, now }
    }

    fn act(&mut self, op: &Op) {
        self.now += Duration::from_micros(100);
        let pick = |n: usize| self.halves.keys().nth(n % self.halves.len().max(1)).copied().unwrap_or_default();
        match *op {
            Op::Deliver(records) => (0..records).for_each(|_| self.deliver()),
            Op::Open => {
                if let Ok(id) = self.mux.open(b"please", ()) {
                    self.halves.insert(id, Half { talks: true, ..Half::default() });
                }
            }
            Op::Answer(n, accept) => {
                let id = pick(n);
                let Some(half) = self.halves.get_mut(&id).filter(|half| !half.talks) else { return };
                half.talks = true;
                self.mux.answer(id, if accept { 0 } else { 3 }, false, "no");
                if !accept {
                    self.forget(id);
                }
            }
            Op::Send(n, length) => self.send(pick(n), length),
            Op::Consume(n, length) => self.consume(pick(n), length),
            Op::Finish(n) => self.finish(pick(n)),
            Op::Forget(n) => self.forget(pick(n)),
            Op::Ping(token) => {
                self.pings.push_back(token);
                self.mux.ping(token);
            }
            Op::Flush => {
                let number = self.mux.flush();
                // Where nothing that matters was said, nothing is asked.
                if !self.mux.is_flushed(number) && self.flushes.iter().all(|&(known, _)| known != number) {
                    // Up to where is known when it has gone out.
                    self.flushes.push((number, 0));
                }
            }
            Op::Goaway => self.mux.goaway(),
        }
    }

    fn send(&mut self, id: u32, length: usize) {
        let Some(half) = self.halves.get_mut(&id).filter(|half| half.talks && !half.finished) else { return };
        let bytes: Vec<u8> = (half.sent..half.sent + length).map(|at| pattern(id, at)).collect();
        let sendable = self.mux.sendable(id).unwrap_or_default();
        let sent = if length.is_multiple_of(2) {
            self.mux.send(id, &bytes)
        } else {
            // As sockets are read: in pieces, and fewer bytes than there is room for.
            let short = |slices: &mut [std::io::IoSliceMut<'_>]| {
                let mut rest = &bytes[..length.div_ceil(2)];
                for slice in slices {
                    let n = slice.len().min(rest.len());
                    slice[..n].copy_from_slice(&rest[..n]);
                    rest = &rest[n..];
                }
                Ok::<_, ()>(length.div_ceil(2) - rest.len())
            };
            self.mux.send_from(id, length, short).unwrap()
        };
        assert!(sent <= sendable.min(length), "{sent} bytes sent where {sendable} may be");
        assert!(sent > 0 || sendable == 0, "nothing sent where {sendable} may be");
        half.sent += sent;
    }

    fn consume(&mut self, id: u32, length: usize) {
        let Some(half) = self.halves.get_mut(&id) else { return };
        let length = length.min(half.received - half.consumed);
        half.consumed += length;
        self.mux.consumed(id, length, self.now, RTT);
    }

    fn finish(&mut self, id: u32) {
        if let Some(half) = self.halves.get_mut(&id).filter(|half| half.talks) {
            half.finished = true;
            self.mux.finish(id);
        }
    }

    fn forget(&mut self, id: u32) {
        self.halves.remove(&id);
        self.mux.forget(id);
    }

    fn deliver(&mut self) {
        let Some(record) = self.inbox.pop_front() else { return };
        self.taken += 1;
        let (mut rest, mut over) = (&record[..], Vec::new());
        loop {
            match self.mux.receive(&mut rest).expect("a lawful peer breaks nothing") {
                None => break,
                Some(Event::Open(id, request)) => {
                    assert_eq!(request, b"please");
                    assert!(self.halves.insert(id, Half::default()).is_none());
                }
                Some(Event::Opened(id, status, ..)) if status != 0 => over.push(id),
                Some(Event::Data(id, bytes)) => self.receive(id, bytes),
                Some(Event::Fin(id)) => {
                    let half = self.halves.get_mut(&id).expect("a stream that is known");
                    assert!(!std::mem::replace(&mut half.peer_finished, true), "a second FIN of {id}");
                }
                Some(Event::Rst(id)) => over.push(id),
                Some(Event::Pong(token)) if u32::try_from(token).is_ok() => {
                    assert_eq!(self.pings.pop_front(), Some(token));
                }
                Some(_) => {}
            }
        }
        for id in over {
            assert_eq!(self.mux.sendable(id), None, "stream {id} is over");
            self.forget(id);
        }
    }

    fn receive(&mut self, id: u32, bytes: &[u8]) {
        let half = self.halves.get_mut(&id).expect("a stream that is known");
        assert!(!half.peer_finished, "bytes of {id} behind its FIN");
        for (at, &byte) in (half.received..).zip(bytes) {
            assert_eq!(byte, pattern(id, at), "stream {id} at {at}");
        }
        half.received += bytes.len();
    }
}

fn pattern(id: u32, at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8) ^ id as usize) as u8
}

/// Puts what each side has to say into the other's inbox.
fn exchange(sides: &mut [Side; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let said = records(&mut sides[from].mux);
        sides[to].came += said.len();
        sides[to].inbox.extend(said);
        let (came, taken) = (sides[to].came, sides[to].taken);
        let Side { mux, flushes, .. } = &mut sides[from];
        flushes.iter_mut().filter(|(_, up_to)| *up_to == 0).for_each(|(_, up_to)| *up_to = came);
        flushes.retain(|&(number, up_to)| {
            let flushed = mux.is_flushed(number);
            assert!(!flushed || taken >= up_to, "told that the peer has had {up_to} records, and it has had {taken}");
            !flushed
        });
    }
}

fn settle(sides: &mut [Side; 2]) {
    exchange(sides);
    while sides.iter().any(|side| !side.inbox.is_empty()) {
        sides.iter_mut().for_each(Side::deliver);
        exchange(sides);
    }
}

/// Both sides accept, send `more` on each stream, take what comes, and finish: everything must arrive, in a bounded number of rounds.
fn run_out(sides: &mut [Side; 2], more: usize) {
    settle(sides);
    // Who ends a stream that both had finished has nothing more to say of it.
    for (one, other) in [(0, 1), (1, 0)] {
        let known: Vec<u32> = sides[other].halves.keys().copied().collect();
        let alone: Vec<u32> = sides[one].halves.keys().copied().filter(|id| !known.contains(id)).collect();
        for id in alone {
            let half = &sides[one].halves[&id];
            assert!(half.finished && half.peer_finished, "the end of stream {id} was not told: {half:?}");
            sides[one].forget(id);
        }
    }
    let ids: Vec<u32> = sides[0].halves.keys().copied().collect();
    assert_eq!(ids, sides[1].halves.keys().copied().collect::<Vec<_>>(), "both know the same streams");
    for &id in &ids {
        for side in &mut *sides {
            if !side.halves[&id].talks {
                side.mux.answer(id, 0, false, "");
                side.halves.get_mut(&id).unwrap().talks = true;
            }
        }
        let mut left = [more; 2];
        // A window is never below 8 KiB here, and half of one at least comes back at once.
        for _ in 0..more / 1024 + 20 {
            for (side, left) in sides.iter_mut().zip(&mut left) {
                let before = side.halves[&id].sent;
                side.send(id, *left);
                *left -= side.halves[&id].sent - before;
                if *left == 0 {
                    side.finish(id);
                }
                side.consume(id, usize::MAX);
            }
            settle(sides);
        }
        for (one, other) in [(0, 1), (1, 0)] {
            let (from, to) = (&sides[one].halves[&id], &sides[other].halves[&id]);
            assert!(from.finished && to.peer_finished, "stream {id} is stuck: {from:?}, {to:?}");
            assert_eq!(from.sent, to.received, "stream {id}");
        }
        sides.iter_mut().for_each(|side| side.forget(id));
    }
    settle(sides);
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(ops in ops(), more in 1..100_000usize) {
        let mut sides = [Side::new(Role::Dialler), Side::new(Role::Acceptor)];
        exchange(&mut sides);
        for (who, op) in &ops {
            sides[*who].act(op);
            exchange(&mut sides);
            for side in &sides {
                prop_assert!(side.budget.granted() <= BUDGET);
                let held: usize = side.halves.values().map(|half| half.received - half.consumed).sum();
                prop_assert!(held <= BUDGET, "more is held than was granted");
            }
        }
        run_out(&mut sides, more);
        for side in &sides {
            prop_assert_eq!(side.mux.live(), (0, 0));
            prop_assert_eq!(side.budget.granted(), 0);
            prop_assert!(side.pings.is_empty() && side.flushes.is_empty());
        }
        sides[0].mux.goaway();
        settle(&mut sides);
        // Each asks whether the other has had everything, if it does not know.
        for side in &mut sides {
            side.mux.is_done();
        }
        settle(&mut sides);
        prop_assert!(sides.iter_mut().all(|side| side.mux.is_done()));
    }
}
