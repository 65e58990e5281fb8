//! Tables that a control sends to a gateway.

use crate::cursor::Cursor;
use isthmus_push::{Digest, Replica};
use std::sync::Arc;

/// Parts of updates, each behind its length: whatever comes, in whatever order, the table is what its digest says, and goes back in
/// no term.
pub fn updates(input: &[u8]) {
    let mut input = Cursor::new(input);
    let mut replica = Replica::new(Arc::default(), 0);
    while !input.is_empty() {
        let length = input.word();
        let before = replica.position().map(|position| position.age());
        let taken = replica.take_bytes(input.take(length));
        let now = replica.position();
        assert!(now.map(|position| position.age()) >= before);
        if let Ok(Some(position)) = taken {
            assert_eq!(position.digest, Digest::of(replica.table()));
        } else {
            assert_eq!(now.map(|position| position.age()), before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest is documented for others to compute: this input was.
    #[test]
    fn what_others_write_by_the_documents_is_taken() {
        let input = include_bytes!("../corpus/push_updates/snapshot_and_delta");
        let (mut input, mut replica) = (Cursor::new(input), Replica::new(Arc::default(), 0));
        for exports in [1, 0] {
            let length = input.word();
            assert!(replica.take_bytes(input.take(length)).unwrap().is_some());
            assert_eq!((replica.table().exports.len(), replica.table().imports.len()), (exports, 1));
        }
    }
}
