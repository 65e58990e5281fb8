//! How much may be written to a socket that takes part in the local hop. What is redirected waits for no window, so the gateway asks
//! for room each time that it has used up what there was. A reader that keeps up has more. One that does not reads what there is, and
//! the rest goes by TCP.

use isthmus_ebpf::Room as Found;
use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// Bytes that may be written to a new connection: what it has room for, however small its receive buffer is.
const FIRST_ROOM: u32 = 64 * 1024;
/// A reader with less room, in bytes, does not keep up.
const LEAST: u32 = FIRST_ROOM;
/// How often the reader is looked at whenever the core has done something else, before there are waits in between.
const TURNS: u32 = 16;
/// After so many waits in a row, 63 ms, a reader has what there is room for without having read everything: it may be one that reads a
/// message only when it is there as a whole.
const PATIENT: u32 = 6;
/// The first wait.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// The longest one. A reader that goes on after a stop waits no longer than that stop was, and no longer than this.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// One socket's room.
#[derive(Debug)]
pub(crate) struct Room {
    /// Bytes that may be written before it is asked again.
    left: Cell<usize>,
    /// How often it was asked since the reader did not keep up any more. Then it is to go by TCP.
    asked: Cell<u32>,
    sleep: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: Cell::new(FIRST_ROOM as usize), asked: Cell::new(0), sleep: RefCell::default() }
    }
}

/// ● How long to wait after having asked so often; not at all at first.
fn wait(asked: u32) -> Option<Duration> {
    let times = asked.checked_sub(TURNS)?;
    Some(FIRST_WAIT.saturating_mul(1 << times.min(16)).min(LONGEST_WAIT))
}

impl Room {
    /// Bytes that may be written without asking.
    pub(crate) const fn left(&self) -> usize {
        self.left.get()
    }

    /// Waits until something may be written; how many bytes. `ask` with `true` leaves for TCP, if all is read.
    ///
    /// # Errors
    /// Those of `ask`.
    pub(crate) fn poll(
        &self,
        cx: &mut Context<'_>,
        ask: impl Fn(bool) -> io::Result<Found>,
    ) -> Poll<io::Result<usize>> {
        while self.left() == 0 {
            let mut sleeping = self.sleep.borrow_mut();
            if let Some(sleep) = &mut *sleeping {
                ready!(sleep.as_mut().poll(cx));
                *sleeping = None;
            }
            let asked = self.asked.get();
            match ask(asked > 0)? {
                Found::ByTcp => self.left.set(usize::MAX),
                Found::Bytes(room) if room >= LEAST && (asked == 0 || asked > TURNS + PATIENT) => {
                    self.left.set(room as usize);
                    self.asked.set(0);
                }
                Found::Bytes(_) => {
                    self.asked.set(asked.saturating_add(1));
                    let Some(length) = wait(asked) else {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    };
                    *sleeping = Some(Box::pin(sleep(length)));
                }
            }
        }
        Poll::Ready(Ok(self.left()))
    }

    /// The reader is to go by TCP when it has read everything, as one that does not keep up.
    pub(crate) fn close(&self) {
        if self.left.get() != usize::MAX {
            self.left.set(0);
            self.asked.set(self.asked.get().max(1));
        }
    }

    /// So many bytes were written.
    pub(crate) fn written(&self, bytes: usize) {
        if self.left.get() != usize::MAX {
            self.left.set(self.left.get().saturating_sub(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, time::Instant};

    const ALL: u32 = 200_000;

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits = [0, TURNS - 1, TURNS, TURNS + 1, TURNS + 8, TURNS + 9, u32::MAX].map(wait);
        let waits = waits.map(|wait| wait.map(|wait| wait.as_millis()));
        assert_eq!(waits, [None, None, Some(1), Some(2), Some(256), Some(500), Some(500)]);
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_has_more() {
        let room = Room::default();
        let ask = |leave: bool| {
            assert!(!leave);
            Ok(Found::Bytes(ALL))
        };
        for expected in [FIRST_ROOM as usize, ALL as usize, ALL as usize] {
            assert_eq!(poll_fn(|cx| room.poll(cx, ask)).await.unwrap(), expected);
            room.written(10);
            assert_eq!(room.left(), expected - 10);
            room.written(expected);
        }
    }

    #[tokio::test]
    async fn for_one_that_does_not_it_goes_by_tcp_once_all_is_read() {
        let (room, unread) = (Room::default(), Cell::new(ALL - LEAST + 1));
        room.written(FIRST_ROOM as usize);
        let asked = Cell::new(0);
        let ask = |leave: bool| {
            asked.set(asked.get() + 1);
            assert_eq!(leave, asked.get() > 1, "it is not left before it must be");
            Ok(if leave && unread.get() == 0 { Found::ByTcp } else { Found::Bytes(ALL - unread.get()) })
        };
        let began = Instant::now();
        let reads = async {
            sleep(Duration::from_millis(5)).await;
            unread.set(1);
            sleep(Duration::from_millis(5)).await;
            unread.set(0);
        };
        let (left, ()) = tokio::join!(poll_fn(|cx| room.poll(cx, ask)), reads);
        assert_eq!(left.unwrap(), usize::MAX);
        assert!(began.elapsed() >= Duration::from_millis(10), "some room is not enough so soon");
        room.written(1 << 40);
        assert_eq!(poll_fn(|cx| room.poll(cx, |_| unreachable!())).await.unwrap(), usize::MAX);
    }

    #[tokio::test]
    async fn one_that_waits_for_the_rest_of_a_message_gets_it() {
        let room = Room::default();
        room.written(FIRST_ROOM as usize);
        let asked = Cell::new(0);
        let ask = |_| {
            asked.set(asked.get() + 1);
            Ok(Found::Bytes(if asked.get() == 1 { LEAST - 1 } else { LEAST }))
        };
        assert_eq!(poll_fn(|cx| room.poll(cx, ask)).await.unwrap(), LEAST as usize);
        assert_eq!(asked.get(), TURNS + PATIENT + 2);
    }
}
