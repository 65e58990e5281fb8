//! How much may be written to a socket that takes part in the local hop: what is redirected waits for no window, so the gateway asks
//! how much its reader has unread, each time that it has written as much as there was room for.
//!
//! Nothing tells when the reader has read. It is asked again: soon at first, then less and less often.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// Bytes that a reader may have unread.
const MOST: u32 = isthmus_ebpf::UNREAD;
/// It is not worth the call to write less, in bytes.
const LEAST: u32 = MOST / 8;
/// The first wait.
const FIRST: Duration = Duration::from_millis(1);
/// The longest one. A reader that goes on after a stop waits no longer than that stop was, and no longer than this.
const LONGEST: Duration = Duration::from_millis(500);

/// One socket's room.
#[derive(Debug)]
pub(crate) struct Room {
    /// Bytes that may be written before the reader is looked at again.
    left: Cell<u32>,
    /// How often in a row there was too little.
    waits: Cell<u32>,
    sleep: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Default for Room {
    /// A new connection's.
    fn default() -> Self {
        Self { left: Cell::new(MOST), waits: Cell::new(0), sleep: RefCell::default() }
    }
}

/// ● Bytes for a reader that has so many unread, or how long to wait, after so many waits in a row.
fn room(unread: u32, waits: u32) -> Result<u32, Duration> {
    match MOST.saturating_sub(unread) {
        room if room >= LEAST => Ok(room),
        _ => Err(FIRST.saturating_mul(1 << waits.min(16)).min(LONGEST)),
    }
}

impl Room {
    /// Bytes that may be written without a wait, if it is known.
    pub(crate) const fn left(&self) -> usize {
        self.left.get() as usize
    }

    /// Waits until something may be written; how many bytes. `unread`: what the reader has unread now. `held` is called for each wait.
    ///
    /// # Errors
    /// Those of `unread`.
    pub(crate) fn poll(
        &self,
        cx: &mut Context<'_>,
        unread: impl Fn() -> io::Result<u32>,
        held: impl Fn(),
    ) -> Poll<io::Result<usize>> {
        while self.left() == 0 {
            let mut sleeping = self.sleep.borrow_mut();
            if let Some(sleep) = &mut *sleeping {
                ready!(sleep.as_mut().poll(cx));
            }
            *sleeping = None;
            match room(unread()?, self.waits.get()) {
                Ok(room) => {
                    self.left.set(room);
                    self.waits.set(0);
                }
                Err(wait) => {
                    self.waits.set(self.waits.get().saturating_add(1));
                    *sleeping = Some(Box::pin(sleep(wait)));
                    held();
                }
            }
        }
        Poll::Ready(Ok(self.left()))
    }

    /// So many bytes were written.
    pub(crate) fn written(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.left.set(self.left.get().saturating_sub(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, time::Instant};

    #[test]
    fn there_is_room_up_to_what_may_be_unread() {
        assert_eq!(room(0, 0), Ok(MOST));
        assert_eq!(room(MOST - LEAST, 7), Ok(LEAST));
        assert!(room(MOST - LEAST + 1, 0).is_err() && room(u32::MAX, 0).is_err());
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let lengths = [0, 1, 2, 8, 9, 10, u32::MAX].map(|waits| room(MOST, waits).unwrap_err().as_millis());
        assert_eq!(lengths, [1, 2, 4, 256, 500, 500, 500]);
    }

    #[tokio::test]
    async fn who_has_written_all_waits_for_the_reader() {
        let (room, unread, held) = (Room::default(), Cell::new(MOST), Cell::new(0));
        let began = Instant::now();
        let ask = || poll_fn(|cx| room.poll(cx, || Ok(unread.get()), || held.set(held.get() + 1)));
        assert_eq!(ask().await.unwrap(), MOST as usize, "nobody is asked before there is anything to read");
        room.written(MOST as usize - 10);
        assert_eq!((ask().await.unwrap(), room.left()), (10, 10));
        room.written(11);
        let reads = async {
            sleep(Duration::from_millis(5)).await;
            unread.set(MOST / 2);
        };
        let (room, ()) = tokio::join!(ask(), reads);
        assert_eq!(room.unwrap(), MOST as usize / 2);
        assert!(began.elapsed() >= Duration::from_millis(5) && held.get() > 0);
    }
}
