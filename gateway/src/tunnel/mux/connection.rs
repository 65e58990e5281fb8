//! The multiplexer's state machine: frames in, events out; calls in, frames out.

use super::{
    Budget, Settings,
    frame::{self, HEADER, Kind, MAX_PAYLOAD},
    path::PathReport,
    window::{self, Window},
};
use crate::tunnel::tls::layout::RecordBuffer;
use std::{
    collections::HashMap,
    io::IoSliceMut,
    sync::Arc,
    time::{Duration, Instant},
};

mod flush;
mod receive;

use flush::Flush;

/// Which side of the TLS connection this is: it decides whose stream ids are odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Dialled: opens odd streams.
    Dialler,
    /// Was dialled: opens even streams.
    Acceptor,
}

/// Why a stream cannot be opened here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer's HELLO has not come yet.
    #[error("the tunnel is not ready")]
    NotReady,
    /// One side said GOAWAY, or the ids are used up.
    #[error("the tunnel is draining")]
    Draining,
    /// The peer takes no more streams at once.
    #[error("the peer takes no more than {0} streams on a tunnel")]
    TooMany(u32),
    /// The memory budget is used up.
    #[error("the memory budget is used up")]
    Memory,
    /// The request is longer than a frame may be.
    #[error("the request is too long")]
    TooLong,
}

/// Something that the peer did. Streams are named by their ids.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// HELLO came: streams may be opened.
    Ready(Settings),
    /// The peer asks for a stream. `Err` where it was refused at once, with nothing more to do.
    Open(u32, &'i [u8]),
    /// The peer accepted, or refused, a stream of ours: a status (0 is accepted), whether a retry can help, a message.
    Opened(u32, u8, bool, &'i [u8]),
    /// Bytes. They must be counted with [`Mux::consumed`] when they leave.
    Data(u32, &'i [u8]),
    /// The peer will send no more on the stream.
    Fin(u32),
    /// The stream is over.
    Rst(u32),
    /// More may be sent.
    Credit(u32),
    /// The peer asked for a stream and was refused: there are as many as [`Settings::max_streams`] allows.
    Full,
    /// The peer answered.
    Pong(u64),
    /// What the peer has counted of its path to us, and its clock.
    Path(PathReport),
    /// How many tunnels the peer takes of this gateway: fewer than there are.
    Limit(u32),
    /// The peer opens no more streams and takes none.
    Goaway,
    /// Nothing that concerns anybody.
    Nothing,
}

/// One side of a multiplexed connection. `T` is what its owner keeps for each stream.
#[derive(Debug)]
pub struct Mux<T> {
    out: RecordBuffer,
    streams: HashMap<u32, Stream<T>>,
    local: Settings,
    peer: Option<Settings>,
    next_id: u32,
    last_peer_id: u32,
    opened_by_us: u32,
    opened_by_peer: u32,
    said_goaway: bool,
    heard_goaway: bool,
    active: bool,
    flush: Flush,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Stream<T> {
    credit: usize,
    window: Window,
    answered: bool,
    fin_sent: bool,
    fin_received: bool,
    reset: bool,
    user: T,
}

impl<T> Stream<T> {
    fn may_send(&self) -> bool {
        !(self.fin_sent || self.reset)
    }
}

/// The most that credit may add up to on one stream.
pub(super) const MAX_CREDIT: usize = (1 << 31) - 1;

/// OPENED's payload status for a refusal because of a limit; see docs/wire.md.
pub const STATUS_LIMIT: u8 = 5;

impl<T: Default> Mux<T> {
    /// A connection that has just been set up; its HELLO is queued.
    pub fn new(role: Role, local: Settings, budget: Arc<Budget>) -> Self {
        let mut mux = Self {
            out: RecordBuffer::default(),
            streams: HashMap::new(),
            local,
            peer: None,
            next_id: if role == Role::Dialler { 1 } else { 2 },
            last_peer_id: 0,
            opened_by_us: 0,
            opened_by_peer: 0,
            said_goaway: false,
            heard_goaway: false,
            active: false,
            flush: Flush::default(),
            budget,
        };
        mux.put(Kind::Hello, 0, &[&local.to_bytes()]);
        mux
    }

    /// Asks the peer for a stream; its id. Bytes may be sent at once.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self, request: &[u8], user: T) -> Result<u32, OpenError> {
        let peer = self.peer.ok_or(OpenError::NotReady)?;
        if self.said_goaway || self.heard_goaway || self.next_id > u32::MAX - 2 {
            return Err(OpenError::Draining);
        }
        if self.opened_by_us >= peer.max_streams {
            return Err(OpenError::TooMany(peer.max_streams));
        }
        if request.len() > frame::MAX_OPEN {
            return Err(OpenError::TooLong);
        }
        if !self.budget.take(self.local.window as usize) {
            return Err(OpenError::Memory);
        }
        let id = self.next_id;
        self.next_id += 2;
        self.opened_by_us += 1;
        self.put(Kind::Open, id, &[request]);
        self.insert(id, peer, user, true);
        Ok(id)
    }

    /// Answers a stream that the peer asked for: `status` 0 accepts; anything else refuses, and the stream is over.
    pub fn answer(&mut self, id: u32, status: u8, retry: bool, message: &str) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.answered || stream.reset {
            return;
        }
        stream.answered = true;
        stream.reset = status != 0;
        let message = cut(message, 200);
        self.put(Kind::Opened, id, &[&[status, u8::from(retry)], message.as_bytes()]);
    }

    /// How many bytes the peer takes on a stream now; `None` once the stream is over.
    pub fn sendable(&self, id: u32) -> Option<usize> {
        self.streams.get(&id).filter(|stream| !stream.reset).map(|stream| stream.credit)
    }

    /// Lets `read` fill in up to `want` bytes of a stream, which [`Self::sendable`] must allow. Returns what `read` returned.
    ///
    /// # Errors
    /// Whatever `read` fails with; nothing is sent then.
    pub fn send_from<E>(
        &mut self,
        id: u32,
        want: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.may_send()) else { return Ok(0) };
        let stamp = |header: &mut [u8], length| header.copy_from_slice(&frame::header(Kind::Data, id, length));
        let sent = self.out.fill(want.min(stream.credit), HEADER, read, stamp)?;
        stream.credit -= sent;
        self.active |= sent > 0;
        Ok(sent)
    }

    /// Sends as many of `bytes` as credit allows; how many.
    pub fn send(&mut self, id: u32, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.may_send()) {
            let length = (bytes.len() - sent).min(stream.credit).min(MAX_PAYLOAD);
            if length == 0 {
                break;
            }
            stream.credit -= length;
            self.put(Kind::Data, id, &[&bytes[sent..sent + length]]);
            sent += length;
        }
        sent
    }

    /// Counts bytes of a stream that have left our buffers, and gives the peer new credit when it is time.
    pub fn consumed(&mut self, id: u32, bytes: usize, now: Instant, rtt: Duration) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let credit = stream.window.consume(bytes, now, rtt, &self.budget);
        if credit > 0 && !stream.fin_received && !stream.reset {
            let credit = u32::try_from(credit).unwrap_or(u32::MAX);
            self.put(Kind::Credit, id, &[&credit.to_be_bytes()]);
        }
    }

    /// Says that no more bytes will follow on a stream.
    pub fn finish(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.fin_sent && !stream.reset) {
            stream.fin_sent = true;
            self.put(Kind::Fin, id, &[]);
        }
    }

    /// Forgets a stream. Unless both sides had finished, the peer is told that it is over.
    pub fn forget(&mut self, id: u32) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.budget.give_back(stream.window.size());
        if self.is_ours(id) {
            self.opened_by_us -= 1;
        } else {
            self.opened_by_peer -= 1;
        }
        if !(stream.reset || stream.fin_sent && stream.fin_received) {
            self.put(Kind::Rst, id, &[]);
        }
    }

    /// The connection is gone: every stream is over, but for those where nothing was left to come or to go. What their owners
    /// still hold is whole, and may be delivered.
    pub fn abort(&mut self) {
        self.heard_goaway = true;
        for stream in self.streams.values_mut() {
            stream.reset |= !(stream.answered && stream.fin_sent && stream.fin_received);
        }
    }

    /// Asks whether the peer is there.
    pub fn ping(&mut self, token: u64) {
        self.put(Kind::Ping, 0, &[&token.to_be_bytes()]);
    }

    /// Tells the peer what was counted of the path to it, and this side's clock.
    pub fn tell_path(&mut self, report: PathReport) {
        self.put(Kind::Path, 0, &[&report.to_bytes()]);
    }

    /// Tells the peer how many tunnels are taken of its gateway.
    pub fn tell_limit(&mut self, limit: u32) {
        self.put(Kind::Limit, 0, &[&limit.to_be_bytes()]);
    }

    /// Says that no more streams will be opened from here, and asks the peer for the same.
    pub fn goaway(&mut self) {
        if !std::mem::replace(&mut self.said_goaway, true) {
            self.put(Kind::Goaway, 0, &[]);
        }
    }

    /// Whether the peer's HELLO has come.
    pub fn is_ready(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether both sides have said goodbye and no stream is left. What was said last may still be on its way: see
    /// [`Self::is_done`].
    pub fn is_over(&self) -> bool {
        self.said_goaway && self.heard_goaway && self.streams.is_empty()
    }

    /// Whether new streams can be opened, as far as GOAWAY goes.
    pub fn is_draining(&self) -> bool {
        self.said_goaway || self.heard_goaway || self.next_id > u32::MAX - 2
    }

    /// What the owner keeps for a stream.
    pub fn user(&mut self, id: u32) -> Option<&mut T> {
        self.streams.get_mut(&id).map(|stream| &mut stream.user)
    }

    /// What the owner keeps, for every stream.
    pub fn users(&mut self) -> impl Iterator<Item = &mut T> {
        self.streams.values_mut().map(|stream| &mut stream.user)
    }

    /// Whether the peer has finished a stream; bytes that the owner holds may still be on their way out.
    pub fn is_finished(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.fin_received)
    }

    /// Live streams: opened from here, opened by the peer.
    pub fn live(&self) -> (usize, usize) {
        (self.opened_by_us as usize, self.opened_by_peer as usize)
    }

    /// What waits to be sealed and sent.
    pub fn out(&mut self) -> &mut RecordBuffer {
        &mut self.out
    }

    /// Whether anything but PING, PONG and credit was queued since the last call.
    pub fn take_active(&mut self) -> bool {
        std::mem::take(&mut self.active)
    }

    fn insert(&mut self, id: u32, peer: Settings, user: T, ours: bool) {
        let window = Window::new(self.local.window as usize, window::MAX);
        let credit = peer.window as usize;
        let stream =
            Stream { credit, window, answered: false, fin_sent: false, fin_received: false, reset: false, user };
        debug_assert_eq!(ours, self.is_ours(id));
        self.streams.insert(id, stream);
    }

    fn is_ours(&self, id: u32) -> bool {
        id % 2 == self.next_id % 2
    }

    fn put(&mut self, kind: Kind, id: u32, parts: &[&[u8]]) {
        if !matches!(kind, Kind::Ping | Kind::Pong | Kind::Credit | Kind::Hello | Kind::Path) {
            self.active = true;
            self.flush.said();
        }
        let length = parts.iter().map(|part| part.len()).sum();
        let header = frame::header(kind, id, length);
        match *parts {
            [] => self.out.gather(&[&header]),
            [a] => self.out.gather(&[&header, a]),
            [a, b, ..] => self.out.gather(&[&header, a, b]),
        }
    }
}

impl<T> Drop for Mux<T> {
    fn drop(&mut self) {
        for stream in self.streams.values() {
            self.budget.give_back(stream.window.size());
        }
    }
}

fn cut(text: &str, length: usize) -> &str {
    &text[..text.floor_char_boundary(length)]
}
