//! What is noted of a socket that takes part in the local hop and is looked at: whether what was delivered to it is what it read.

use super::LocalHop;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{cell::Cell, os::fd::BorrowedFd, sync::Arc};

/// One socket's notes.
#[derive(Debug)]
pub(crate) struct Part {
    hop: Arc<LocalHop>,
    read: Cell<u64>,
    /// Whether the last read found nothing.
    empty: Cell<bool>,
    stall: Cell<Stall>,
}

/// ● Whether bytes lie at a socket that the kernel does not show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stall {
    /// How often in a row the same bytes lay there.
    beats: u32,
    /// What had been delivered and read then.
    at: (u64, u64),
}

/// Beats after which it is no coincidence: two to three seconds.
const BEATS: u32 = 3;

impl Stall {
    /// A second later. `hidden`: the socket was found empty, and the kernel does not say that there is anything.
    fn beat(self, delivered: u64, read: u64, hidden: bool) -> Self {
        let at = (delivered, read);
        match hidden && delivered > read {
            true if self.at == at => Self { beats: self.beats + 1, at },
            true => Self { beats: 1, at },
            false => Self::default(),
        }
    }

    const fn is_one(self) -> bool {
        self.beats >= BEATS
    }
}

/// ● What is wrong with a stream that has ended, if anything. TCP counts its end as a byte.
fn mismatch(delivered: u64, read: u64) -> Option<String> {
    let expected = delivered.wrapping_sub(1);
    (expected != read).then(|| format!("{read} bytes came out of a connection that {expected} bytes went into"))
}

impl Part {
    pub(super) fn new(hop: Arc<LocalHop>) -> Self {
        Self { hop, read: Cell::new(0), empty: Cell::new(false), stall: Cell::default() }
    }

    /// Bytes were read, or the end.
    pub(crate) fn read(&self, socket: BorrowedFd<'_>, bytes: usize) {
        self.empty.set(false);
        self.read.set(self.read.get() + bytes as u64);
        if bytes == 0
            && let Some(delivered) = super::delivered(&self.hop, socket)
            && let Some(why) = mismatch(delivered, self.read.get())
        {
            self.hop.distrust(&why);
        }
    }

    /// There was nothing to read.
    pub(crate) fn found_nothing(&self) {
        self.empty.set(true);
    }

    /// A second has passed.
    pub(crate) fn beat(&self, socket: BorrowedFd<'_>) {
        let Some(delivered) = super::delivered(&self.hop, socket) else { return };
        let hidden = self.empty.get() && !is_readable(socket);
        self.stall.set(self.stall.get().beat(delivered, self.read.get(), hidden));
        if self.stall.get().is_one() {
            let lost = delivered - self.read.get();
            self.hop.distrust(&format!("{lost} bytes were delivered to a connection that does not show them"));
        }
    }
}

fn is_readable(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_counts_as_a_byte_of_tcp() {
        assert_eq!(mismatch(1, 0), None);
        assert_eq!(mismatch(1001, 1000), None);
        assert!(mismatch(1001, 999).is_some());
        assert!(mismatch(1001, 1001).is_some());
    }

    #[test]
    fn a_stall_is_one_that_lasts() {
        let stall = Stall::default().beat(10, 5, true).beat(10, 5, true);
        assert!(!stall.is_one());
        assert!(stall.beat(10, 5, true).is_one());
        for moved in [stall.beat(11, 5, true), stall.beat(10, 10, true), stall.beat(10, 5, false)] {
            assert!(!moved.is_one(), "{moved:?}");
        }
    }
}
