//! What a UDP flow reads of its stream.

use crate::cursor::Cursor;
use isthmus_gateway::flow::frame::{self, Frames};

/// Frames mean the same however they are cut, and written again they are the bytes that were read.
pub fn frames(input: &[u8]) {
    let mut input = Cursor::new(input);
    let cut = 1 + input.word() % 64;
    let bytes = input.take(usize::MAX);
    let whole = read([bytes].into_iter());
    assert_eq!(read(bytes.chunks(cut)), whole, "only cut, and another meaning");
    let mut again = Vec::new();
    for datagram in &whole {
        assert!(frame::push(&mut again, datagram), "it was read, and is too long to be written");
    }
    assert!(bytes.starts_with(&again), "other bytes than were read");
    assert_eq!(read([&*again].into_iter()), whole);
}

fn read<'b>(parts: impl Iterator<Item = &'b [u8]>) -> Vec<Vec<u8>> {
    let (mut frames, mut datagrams) = (Frames::default(), Vec::new());
    for part in parts {
        frames.add(part);
        while let Some(datagram) = frames.take() {
            datagrams.push(datagram.to_vec());
        }
    }
    datagrams
}
