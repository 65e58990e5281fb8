//! ● Datagrams on a stream: each with its length before it.
//!
//! ```text
//! length u16, payload; the next one
//! ```

/// The longest datagram that has a frame.
pub const LONGEST: usize = u16::MAX as usize;

/// Adds a datagram's frame to `to`; false, and nothing added, if it is longer than [`LONGEST`].
pub fn push(to: &mut Vec<u8>, datagram: &[u8]) -> bool {
    let Ok(length) = u16::try_from(datagram.len()) else { return false };
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(datagram);
    true
}

/// Bytes of a datagram's frame.
pub const fn size(datagram: &[u8]) -> usize {
    2 + datagram.len()
}

/// Takes frames off a stream, wherever that cuts them. It holds what was added and not taken.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    at: usize,
}

impl Frames {
    /// Adds what came in.
    pub fn add(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..std::mem::take(&mut self.at));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole datagram.
    pub fn take(&mut self) -> Option<&[u8]> {
        let rest = &self.bytes[self.at..];
        let Some((head, rest)) = rest.split_first_chunk() else {
            if rest.is_empty() {
                // A flow at rest keeps no room.
                (self.bytes, self.at) = (Vec::new(), 0);
            }
            return None;
        };
        let length = usize::from(u16::from_be_bytes(*head));
        if rest.len() < length {
            return None;
        }
        let begin = self.at + head.len();
        self.at = begin + length;
        Some(&self.bytes[begin..self.at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn datagrams_come_out_as_they_went_in(datagrams in vec(vec(any::<u8>(), 0..300), 0..20), cut in 1usize..400) {
            let mut stream = Vec::new();
            for datagram in &datagrams {
                prop_assert!(push(&mut stream, datagram));
            }
            let (mut frames, mut out) = (Frames::default(), Vec::new());
            for part in stream.chunks(cut) {
                frames.add(part);
                while let Some(datagram) = frames.take() {
                    out.push(datagram.to_vec());
                }
            }
            prop_assert_eq!(out, datagrams);
            prop_assert_eq!(frames.bytes.capacity(), 0, "a flow at rest keeps no room");
        }
    }

    #[test]
    fn the_longest_fits_and_no_longer_one() {
        let mut stream = Vec::new();
        assert!(push(&mut stream, &[7; LONGEST]));
        assert!(!push(&mut stream, &[7; LONGEST + 1]));
        let mut frames = Frames::default();
        frames.add(&stream);
        assert_eq!(frames.take().map(<[u8]>::len), Some(LONGEST));
        assert_eq!(frames.take(), None);
    }
}
