//! Two sides that keep to the protocol, against a model: what goes in comes out.

use super::{BUDGET, records, side};
use crate::cursor::Cursor;
use isthmus_gateway::tunnel::mux::{Budget, Event, Mux, Role};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// What one side knows of a stream.
#[derive(Debug, Default)]
struct Half {
    sent: usize,
    received: usize,
    held: usize,
    finished: bool,
    peer_finished: bool,
    answered: bool,
    ours: bool,
}

struct Side {
    mux: Mux<()>,
    budget: Arc<Budget>,
    halves: BTreeMap<u32, Half>,
    /// Records on their way here.
    inbox: VecDeque<Vec<u8>>,
}

/// Any sequence of lawful calls, with records delivered at any time: no side ever sees the other break the protocol, bytes arrive in
/// order and once, FIN comes behind the last of them, and in the end both budgets are whole again.
pub fn pair(input: &[u8]) {
    let mut input = Cursor::new(input);
    let mut sides = [Side::new(Role::Dialler), Side::new(Role::Acceptor)];
    let now = Instant::now();
    exchange(&mut sides);
    while !input.is_empty() {
        let op = input.byte();
        let (who, pick) = (usize::from(op & 1), usize::from(op >> 5));
        let side = &mut sides[who];
        let id = side.halves.keys().nth(pick % side.halves.len().max(1)).copied().unwrap_or(0);
        match (op >> 1) % 16 {
            0..=2 => side.deliver(now),
            3 | 4 => side.open(input.take(4)),
            5 | 6 => side.answer(id, 0),
            7 => side.answer(id, 3),
            8..=10 => side.send(id, input.word()),
            11 | 12 => side.consume(id, now),
            13 => side.finish(id),
            14 => side.forget(id),
            _ if input.byte() == 0 => side.mux.goaway(),
            _ => side.mux.ping(7),
        }
        exchange(&mut sides);
        for side in &sides {
            assert!(side.budget.granted() <= BUDGET);
        }
    }
    settle(&mut sides, now);
    let budgets = sides.map(|side| side.budget);
    assert!(budgets.iter().all(|budget| budget.granted() == 0), "credit was lost");
}

/// Delivers all that is on its way, and compares: what one side sent and the other did not give up has arrived, FIN included.
fn settle(sides: &mut [Side; 2], now: Instant) {
    while sides.iter().any(|side| !side.inbox.is_empty()) {
        for who in [0, 1] {
            sides[who].deliver(now);
            exchange(sides);
        }
    }
    let [a, b] = &*sides;
    for (id, half) in &a.halves {
        let Some(other) = b.halves.get(id) else { continue };
        assert_eq!((half.sent, half.finished), (other.received, other.peer_finished), "stream {id}");
        assert_eq!((other.sent, other.finished), (half.received, half.peer_finished), "stream {id}");
    }
}

/// Puts what each side has to say into the other's inbox.
fn exchange(sides: &mut [Side; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let said = records(&mut sides[from].mux);
        sides[to].inbox.extend(said);
    }
}

impl Side {
    fn new(role: Role) -> Self {
        let (mux, budget) = side(role);
        Self { mux, budget, halves: BTreeMap::new(), inbox: VecDeque::new() }
    }

    fn open(&mut self, request: &[u8]) {
        if let Ok(id) = self.mux.open(request, ()) {
            self.halves.insert(id, Half { ours: true, answered: true, ..Half::default() });
        }
    }

    fn answer(&mut self, id: u32, status: u8) {
        let Some(half) = self.halves.get_mut(&id).filter(|half| !half.answered) else { return };
        half.answered = true;
        self.mux.answer(id, status, false, "no");
        if status != 0 {
            self.forget(id);
        }
    }

    fn send(&mut self, id: u32, length: usize) {
        let Some(half) = self.halves.get_mut(&id).filter(|half| !half.finished) else { return };
        let bytes: Vec<u8> = (half.sent..half.sent + length).map(|at| pattern(id, at)).collect();
        half.sent += self.mux.send(id, &bytes);
    }

    fn consume(&mut self, id: u32, now: Instant) {
        let Some(half) = self.halves.get_mut(&id) else { return };
        self.mux.consumed(id, std::mem::take(&mut half.held), now, Duration::from_millis(1));
    }

    fn finish(&mut self, id: u32) {
        if let Some(half) = self.halves.get_mut(&id) {
            half.finished = true;
            self.mux.finish(id);
        }
    }

    fn forget(&mut self, id: u32) {
        self.halves.remove(&id);
        self.mux.forget(id);
    }

    /// Takes one record of the inbox.
    fn deliver(&mut self, now: Instant) {
        let Some(record) = self.inbox.pop_front() else { return };
        let mut rest = &record[..];
        let mut over = Vec::new();
        loop {
            match self.mux.receive(&mut rest) {
                Ok(None) => break,
                Ok(Some(Event::Open(id, _))) => drop(self.halves.insert(id, Half::default())),
                Ok(Some(Event::Opened(id, status, ..))) => {
                    assert!(self.halves.get(&id).is_none_or(|half| half.ours));
                    over.extend((status != 0).then_some(id));
                }
                Ok(Some(Event::Data(id, bytes))) => self.receive(id, bytes, now),
                Ok(Some(Event::Fin(id))) => {
                    let half = self.halves.get_mut(&id);
                    assert!(half.is_some_and(|half| !std::mem::replace(&mut half.peer_finished, true)), "FIN of {id}");
                }
                Ok(Some(Event::Rst(id))) => over.push(id),
                Ok(Some(_)) => {}
                Err(error) => panic!("a lawful peer was taken for a broken one: {error}"),
            }
        }
        over.into_iter().for_each(|id| self.forget(id));
    }

    fn receive(&mut self, id: u32, bytes: &[u8], now: Instant) {
        let Some(half) = self.halves.get_mut(&id) else {
            // Refused or forgotten within this very record.
            return self.mux.consumed(id, bytes.len(), now, Duration::ZERO);
        };
        assert!(!half.peer_finished, "bytes of {id} behind its FIN");
        for (at, &byte) in (half.received..).zip(bytes) {
            assert_eq!(byte, pattern(id, at), "stream {id} at {at}");
        }
        half.received += bytes.len();
        half.held += bytes.len();
    }
}

fn pattern(id: u32, at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8) ^ id as usize) as u8
}
