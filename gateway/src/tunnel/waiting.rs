//! ● What a stream's local socket has not taken yet.
//!
//! A slow reader may leave a whole window here, 64 MiB on a long path. It lies in pieces, so that never more than one of them is moved when
//! more comes, and what was taken is given back as it goes.

use std::collections::VecDeque;

/// A piece that is as long takes no more.
const PIECE: usize = 256 * 1024;

/// Bytes in order.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// None is empty.
    pieces: VecDeque<Vec<u8>>,
    /// What was taken of the first one.
    taken: usize,
}

impl Waiting {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// More comes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let is_one = self.pieces.len() == 1;
        if let Some(only) = self.pieces.front_mut().filter(|only| is_one && self.taken * 2 >= only.len()) {
            // A socket that never takes all would have it grow to a whole piece. What moves is no more than what goes.
            only.drain(..std::mem::take(&mut self.taken));
        }
        match self.pieces.back_mut().filter(|last| last.len() + bytes.len() <= PIECE) {
            Some(last) => last.extend_from_slice(bytes),
            // Little waits mostly: the first piece is as long as it needs to be, and where one was full there will be more.
            None => {
                let mut piece = Vec::with_capacity(if self.is_empty() { 0 } else { PIECE.max(bytes.len()) });
                piece.extend_from_slice(bytes);
                self.pieces.push_back(piece);
            }
        }
    }

    /// More comes, of which so many bytes were taken already.
    pub(super) fn extend_past(&mut self, mut taken: usize, parts: &[impl AsRef<[u8]>]) {
        for part in parts {
            let part = part.as_ref();
            let skipped = taken.min(part.len());
            taken -= skipped;
            self.extend(&part[skipped..]);
        }
    }

    /// What comes first, of one piece; empty if nothing waits.
    pub(super) fn first(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| &piece[self.taken..])
    }

    /// So many bytes of what comes [`Self::first`] were taken.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        debug_assert!(
            self.pieces.front().is_some_and(|piece| self.taken <= piece.len()),
            "more was taken than there was"
        );
        if self.pieces.front().is_some_and(|piece| self.taken >= piece.len()) {
            self.pieces.pop_front();
            self.taken = 0;
        }
    }

    /// Moves as much as there is, and as fits, into `room`; how much.
    pub(super) fn read(&mut self, room: &mut [u8]) -> usize {
        let mut read = 0;
        while read < room.len() && !self.is_empty() {
            let first = self.first();
            let n = first.len().min(room.len() - read);
            room[read..read + n].copy_from_slice(&first[..n]);
            self.take(n);
            read += n;
        }
        read
    }

    /// Bytes in memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.pieces.iter().map(Vec::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Extend(usize),
        Take(usize),
        Read(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let length = prop_oneof![0..100_usize, 0..100_000_usize, 200_000..600_000_usize];
        prop_oneof![
            length.clone().prop_map(Step::Extend),
            length.clone().prop_map(Step::Take),
            length.prop_map(Step::Read)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_comes_out_is_what_went_in(steps in proptest::collection::vec(step(), 1..60)) {
            let (mut waiting, mut model, mut next) = (Waiting::default(), VecDeque::new(), 0_u32);
            for step in steps {
                match step {
                    Step::Extend(length) => {
                        let bytes: Vec<u8> = (0..length).map(|at| (next.wrapping_add(at as u32) % 251) as u8).collect();
                        next = next.wrapping_add(length as u32);
                        waiting.extend(&bytes);
                        model.extend(bytes);
                    }
                    Step::Take(most) => {
                        let first = waiting.first();
                        let taken = most.min(first.len());
                        prop_assert_eq!(&first[..taken], &model.drain(..taken).collect::<Vec<u8>>());
                        if taken > 0 {
                            waiting.take(taken);
                        }
                    }
                    Step::Read(most) => {
                        let mut room = vec![0; most];
                        let read = waiting.read(&mut room);
                        prop_assert_eq!(read, most.min(model.len()));
                        prop_assert_eq!(&room[..read], &model.drain(..read).collect::<Vec<u8>>());
                    }
                }
                prop_assert_eq!(waiting.is_empty(), model.is_empty());
                prop_assert_eq!(waiting.first().is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn little_that_always_waits_stays_little() {
        let mut waiting = Waiting::default();
        waiting.extend(&[1; 1000]);
        for _ in 0..10_000 {
            waiting.extend(&[1; 1000]);
            waiting.take(1000);
        }
        assert!(waiting.held() <= 4000, "{} bytes held for 1000", waiting.held());
    }

    #[test]
    fn it_holds_what_waits_and_little_more() {
        let mut waiting = Waiting::default();
        waiting.extend(b"little");
        assert!(waiting.held() < 64, "{}", waiting.held());
        let frame = [1; 16 * 1024];
        (0..4096).for_each(|_| waiting.extend(&frame));
        // One that never takes all, but as much as comes.
        for _ in 0..10_000 {
            waiting.extend(&frame);
            assert_eq!(waiting.read(&mut [0; 16 * 1024]), frame.len());
            assert!(waiting.held() <= (64 << 20) + 4 * PIECE, "{}", waiting.held());
        }
        while !waiting.is_empty() {
            let before = waiting.held();
            waiting.take(waiting.first().len());
            assert!(waiting.held() < before, "what was taken is given back");
        }
        assert_eq!(waiting.held(), 0);
    }
}
