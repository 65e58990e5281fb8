//! A socket that takes part in the local hop: when it may write, and, if it is looked at, whether what was delivered to it is what it
//! read.

use super::{LocalHop, Unread, looks::Looks, room::Room, unread::Lying};
use isthmus_ebpf::Withdrawal;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{getpeername, getsockname},
};
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::Arc,
    task::{Context, Poll},
};

/// One socket's part.
#[derive(Debug)]
pub(crate) struct Part {
    hop: Arc<LocalHop>,
    room: Room,
    looks: Looks,
    /// Bytes read so far; the end counts as one.
    read: Cell<u64>,
    /// Whether the end was read.
    ended: Cell<bool>,
    /// Whether it takes part no more.
    is_over: Cell<bool>,
    spares_a_device: bool,
    watch: Option<Watch>,
}

/// What is noted of a socket that is looked at.
#[derive(Debug, Default)]
struct Watch {
    /// Whether the last read found nothing.
    empty: Cell<bool>,
    stall: Cell<Stall>,
    /// Where the socket leads, if it is no client's.
    endpoint: Option<SocketAddr>,
    written: Cell<u64>,
    lying: Cell<Lying>,
    /// Whether its end was written.
    finished: Cell<bool>,
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
    /// Of this socket; whether nothing was read from it: if not, it stays where it is. `looked_at`: if what was delivered is compared with what is read, the endpoint that the socket leads to, if any.
    pub(super) fn new(
        hop: Arc<LocalHop>,
        (socket, is_fresh): (BorrowedFd<'_>, bool),
        looked_at: Option<Option<SocketAddr>>,
    ) -> Self {
        let watch = looked_at.map(|endpoint| Watch { endpoint, ..Watch::default() });
        let (room, looks, read, ended, is_over) = Default::default();
        let part = Self { hop, room, looks, read, ended, is_over, spares_a_device: !is_at_home(socket), watch };
        if !is_fresh {
            part.looks.over();
        }
        part
    }

    /// Waits until something may be written; how many bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>, socket: BorrowedFd<'_>) -> Poll<io::Result<usize>> {
        self.room.poll(cx, |leave| self.hop.room(socket, leave))
    }

    /// Bytes that may be written without asking.
    pub(crate) const fn room(&self) -> usize {
        self.room.left()
    }

    /// Whether what it moves would pass a device of the kernel's by TCP, between two network namespaces.
    pub(super) const fn spares_a_device(&self) -> bool {
        self.spares_a_device
    }

    /// Whether its socket is a plain one from now on.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// So many bytes were written.
    pub(crate) fn written(&self, socket: BorrowedFd<'_>, bytes: usize) {
        self.room.written(bytes);
        if let Some(watch) = &self.watch {
            watch.written.set(watch.written.get() + bytes as u64);
        }
        self.moved(socket, bytes);
    }

    /// Takes the connection out where it has gone back to TCP, once enough was moved.
    fn moved(&self, socket: BorrowedFd<'_>, bytes: usize) {
        if !self.looks.moved(bytes) {
            return;
        }
        match self.hop.withdraw(socket, self.read.get()) {
            Withdrawal::Stays => self.looks.stays(),
            Withdrawal::NotYet => {
                // What is written goes by TCP, too, from when all is read.
                self.room.close();
                self.looks.not_yet();
            }
            Withdrawal::Done => self.is_over.set(true),
            Withdrawal::Never => self.looks.over(),
        }
    }

    /// Bytes were read, or the end.
    pub(crate) fn read(&self, socket: BorrowedFd<'_>, bytes: usize) {
        let ends = bytes == 0 && !self.ended.replace(true);
        self.read.set(self.read.get() + bytes as u64);
        if let Some(watch) = &self.watch {
            watch.empty.set(false);
            if ends
                && let Some(delivered) = self.hop.delivered(socket)
                && let Some(why) = mismatch(delivered, self.read.get())
            {
                self.hop.distrust(&why);
            }
        }
        if ends {
            self.read.set(self.read.get() + 1);
        }
        self.moved(socket, bytes);
    }

    /// The end was written: by TCP, and it lies unread with whoever reads no more.
    pub(crate) fn finished(&self) {
        if let Some(watch) = &self.watch {
            watch.finished.set(true);
        }
    }

    /// There was nothing to read.
    pub(crate) fn found_nothing(&self) {
        if let Some(watch) = &self.watch {
            watch.empty.set(true);
        }
    }

    /// A second has passed.
    pub(crate) fn beat(&self, socket: BorrowedFd<'_>) {
        let Some(watch) = &self.watch else { return };
        let unread = if watch.finished.get() { 0 } else { self.hop.unread(socket) };
        watch.lying.set(watch.lying.get().beat(watch.written.get(), unread));
        let Some(delivered) = self.hop.delivered(socket) else { return };
        let hidden = watch.empty.get() && !is_readable(socket);
        watch.stall.set(watch.stall.get().beat(delivered, self.read.get(), hidden));
        if watch.stall.get().is_one() {
            let lost = delivered - self.read.get();
            self.hop.distrust(&format!("{lost} bytes were delivered to a connection that does not show them"));
        }
    }

    /// Whether the other end has left bytes unread for seconds.
    pub(crate) fn unread(&self) -> Option<Unread> {
        let watch = self.watch.as_ref()?;
        let seconds = watch.lying.get().seconds()?;
        Some(Unread { endpoint: watch.endpoint, streams: 1, seconds })
    }
}

/// Whether both ends have the same address: then what is sent comes back by the loopback. Of a socket that does not say nothing is known.
fn is_at_home(socket: BorrowedFd<'_>) -> bool {
    let own = getsockname(socket).ok().and_then(|address| SocketAddr::try_from(address).ok());
    let other = getpeername(socket).ok().flatten().and_then(|address| SocketAddr::try_from(address).ok());
    own.is_some() && own.map(|own| own.ip()) == other.map(|other| other.ip())
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
