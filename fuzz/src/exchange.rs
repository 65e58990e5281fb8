//! Export summaries that a linked cluster sends.

use crate::cursor::Cursor;
use isthmus_control::exchange::{Receiver, decode};

/// One message: what is read is written as it was read.
pub fn message(input: &[u8]) {
    if let Ok(message) = decode(input) {
        assert_eq!(decode(&message.encode()).as_ref(), Ok(&message));
    }
}

/// A stream of messages, each behind its length: whatever a peer says, in whatever order, the view of it stays bounded.
#[expect(clippy::expect_used, reason = "panicking is what a target does")]
pub fn stream(input: &[u8]) {
    let mut input = Cursor::new(input);
    let mut receiver = Receiver::new("west".parse().expect("a valid name"), std::sync::Arc::default());
    while !input.is_empty() {
        let length = input.word();
        let Ok(message) = decode(input.take(length)) else { continue };
        if receiver.receive(message).is_err() {
            return;
        }
        assert!(receiver.view().fits());
    }
}
