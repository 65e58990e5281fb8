//! A peer that sends anything.

use super::{BUDGET, records, side};
use crate::cursor::Cursor;
use isthmus_gateway::tunnel::mux::{Event, Role};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Whatever the peer sends and whatever is done meanwhile: the memory budget holds, streams stay within their limit, nobody gets more
/// bytes than credit was given for, and in the end the budget is whole again.
pub fn hostile(input: &[u8]) {
    let mut input = Cursor::new(input);
    let (mut mux, budget) = side(Role::Acceptor);
    let now = Instant::now();
    // Streams that we know of, with the bytes that we hold of each.
    let mut held = BTreeMap::<u32, usize>::new();
    while !input.is_empty() {
        let op = input.byte();
        let id = held.keys().nth(usize::from(input.byte()) % held.len().max(1)).copied().unwrap_or(0);
        match op % 10 {
            0..=3 => {
                let length = input.word() % 16_384;
                let mut record = input.take(length);
                loop {
                    match mux.receive(&mut record) {
                        Ok(None) => break,
                        Ok(Some(Event::Open(id, _))) => drop(held.insert(id, 0)),
                        Ok(Some(Event::Data(id, bytes))) => *held.entry(id).or_default() += bytes.len(),
                        Ok(Some(_)) => {}
                        Err(_) => return,
                    }
                }
            }
            4 => drop(mux.open(input.take(100), ()).map(|id| held.insert(id, 0))),
            5 => mux.answer(id, input.byte() % 3, true, "because"),
            6 => {
                let bytes = held.get_mut(&id).map(std::mem::take).unwrap_or_default();
                mux.consumed(id, bytes, now, Duration::from_millis(1));
            }
            7 => {
                let length = input.word();
                let sendable = mux.sendable(id).unwrap_or(0);
                assert!(mux.send(id, &vec![0; length]) <= sendable.max(length));
            }
            8 => mux.finish(id),
            _ => {
                mux.forget(id);
                held.remove(&id);
            }
        }
        records(&mut mux);
        let (_, theirs) = mux.live();
        assert!(theirs <= 4, "{theirs} streams of the peer");
        assert!(budget.granted() <= BUDGET);
        assert!(held.values().sum::<usize>() <= BUDGET, "more is held than the budget allows");
    }
    drop(mux);
    assert_eq!(budget.granted(), 0, "credit was lost");
}
