//! The task that drives one QUIC tunnel: its control stream, what the peer opens, and whether the peer is there. The connection
//! itself is driven by quinn.

use super::{
    BROKEN, LAST_STREAM, NOTHING, Shared,
    control::{Inbox, MAX_CREDIT, Said},
    head,
    stream::{HeadError, QuicStream, poll_head, reset_answered},
};
use crate::tunnel::{
    Direction, Greeting, Ingress, PeerIdentity, Refusal, RefusalReason, TunnelHealth, TunnelStream,
    driver::TunnelEnd,
    mux::{
        ProtocolError,
        liveness::{Liveness, Verdict},
        path::{Clock, PathReport},
        window::Window,
    },
};
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::mpsc, task::JoinSet};

/// Bytes of the control stream read at once.
const READ: usize = 4096;
/// Bytes for the peer that wait on the control stream before nothing more of it is read: a peer that asks and never reads gets no
/// further.
const BACKLOG: usize = 1024 * 1024;
/// How long a stream's OPEN may take to come in, once its stream is there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a drained tunnel may take to hear that its peer is done, too.
const LINGER: Duration = Duration::from_secs(5);

/// Drives a tunnel; see [`Self::run`].
#[derive(Debug)]
pub struct Driver {
    shared: Rc<Shared>,
    peer: Rc<PeerIdentity>,
    ingress: Rc<dyn Ingress>,
    inbox: Inbox,
    /// What of the outbox is being sent.
    sending: Vec<u8>,
    sent: usize,
    liveness: Liveness,
    /// Frames that had come in when it was last looked.
    frames: u64,
    /// Streams whose OPEN has not wholly come in.
    opening: JoinSet<()>,
    /// Streams that were reset before the peer had answered, to be kept in `resetting` until it has.
    forsaken: mpsc::Receiver<Box<QuicStream>>,
    resetting: JoinSet<()>,
    /// Streams that the peer may have at once, as QUIC counts them.
    streams: u64,
    /// Since when both sides are done, as far as this side knows.
    done: Option<Instant>,
    peer_done: bool,
}

impl Driver {
    pub(super) fn new(
        shared: Rc<Shared>,
        peer: Rc<PeerIdentity>,
        ingress: Rc<dyn Ingress>,
        forsaken: mpsc::Receiver<Box<QuicStream>>,
    ) -> Self {
        Self {
            shared,
            peer,
            ingress,
            inbox: Inbox::default(),
            sending: Vec::new(),
            sent: 0,
            liveness: Liveness::new(Instant::now()),
            frames: 0,
            opening: JoinSet::new(),
            forsaken,
            resetting: JoinSet::new(),
            streams: super::endpoint::FIRST_STREAMS,
            done: None,
            peer_done: false,
        }
    }

    /// Runs the tunnel to its end.
    pub async fn run(mut self) -> TunnelEnd {
        let shared = self.shared.clone();
        let datagrams = async {
            super::datagram::sort(&shared).await;
            // The connection has ended, which the other one tells.
            std::future::pending().await
        };
        let end = tokio::select! {
            Err(end) = self.drive() => end,
            end = datagrams => end,
        };
        self.shared.set_health(TunnelHealth::Closed);
        let code = if matches!(end, TunnelEnd::Protocol(_)) { BROKEN } else { NOTHING };
        self.shared.connection.close(code, b"");
        self.shared.farewells.forget();
        self.shared.settled.notify_waiters();
        self.shared.credits.borrow().values().for_each(|credit| credit.wake());
        // quinn's tasks say it; they have their turn before this one goes on.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        end
    }

    async fn drive(&mut self) -> Result<Infallible, TunnelEnd> {
        let connection = self.shared.connection.clone();
        // The dialler's first stream is the control stream.
        let control = async {
            match self.shared.direction {
                Direction::Dialled => connection.open_bi().await,
                Direction::Accepted => connection.accept_bi().await,
            }
        };
        let (mut send, mut receive) = tokio::select! {
            control = control => control.map_err(|error| self.ended(error))?,
            () = self.closing() => return Err(TunnelEnd::Closed),
        };
        let _ = send.set_priority(1);
        let mut bytes = [0; READ];
        let mut timer = pin!(tokio::time::sleep_until(self.liveness.next().into()));
        loop {
            self.look()?;
            timer.as_mut().reset(self.next_look().into());
            self.forget_unsayable();
            if self.sending.len() == self.sent {
                (self.sending, self.sent) = (self.shared.outbox.borrow_mut().take(), 0);
            }
            let backlog = self.shared.outbox.borrow().len() >= BACKLOG;
            tokio::select! {
                biased;
                written = send.write(&self.sending[self.sent..]), if self.sent < self.sending.len() => {
                    self.sent += written.map_err(|_| self.lost())?;
                }
                read = receive.read(&mut bytes), if !self.peer_done && !backlog => {
                    let read = read.map_err(|_| self.lost())?;
                    self.hear(read.map(|n| &bytes[..n]))?;
                }
                // An OPEN that overtakes HELLO waits: how much may be sent is not known yet.
                stream = connection.accept_bi(), if self.shared.peer.get().is_some() => self.offered(stream.map_err(|e| self.ended(e))?)?,
                () = self.shared.driver.notified() => {}
                Some(_) = self.opening.join_next() => {}
                Some(stream) = self.forsaken.recv() => {
                    self.resetting.spawn_local(reset_answered(stream));
                }
                Some(_) = self.resetting.join_next() => {}
                () = poll_fn(|cx| self.shared.farewells.poll(cx)), if self.has_farewells() => {
                    self.shared.settled.notify_waiters();
                }
                () = &mut timer => {}
            }
            self.say_done(&mut send)?;
        }
    }

    /// What is said behind the end of our control stream nobody can hear.
    fn forget_unsayable(&self) {
        if self.done.is_some() {
            self.shared.outbox.borrow_mut().take();
        }
    }

    /// Whether it matters now when the peer has the last bytes of streams that are over here.
    fn has_farewells(&self) -> bool {
        self.shared.said_goaway.get() && !self.shared.farewells.is_empty()
    }

    /// Waits for the order to end.
    async fn closing(&self) {
        while !self.shared.closing.get() {
            self.shared.driver.notified().await;
        }
    }

    /// What has to be seen to whenever anything happens.
    fn look(&mut self) -> Result<(), TunnelEnd> {
        if self.shared.closing.get() {
            return Err(TunnelEnd::Closed);
        }
        if let Some(error) = self.shared.broken.take() {
            return Err(error.into());
        }
        let now = Instant::now();
        let stats = self.shared.connection.stats();
        // Anybody can send datagrams; frames are of packets that were authenticated. Whatever the peer sends has one of these.
        let frames = stats.frame_rx.acks + stats.frame_rx.stream + stats.frame_rx.ping + stats.frame_rx.datagram;
        if std::mem::replace(&mut self.frames, frames) != frames {
            self.liveness.received(now, self.shared.received.take());
            self.shared.rtt.set(Some(stats.path.rtt));
        }
        let written = self.shared.written.take();
        self.shared.looking.set(written.is_some());
        if let Some(at) = written {
            // Whatever came in may have been on its way before.
            self.liveness.sent(at);
        }
        self.judge(now)
    }

    /// Asks, doubts and gives up as [`Liveness`] says.
    fn judge(&mut self, now: Instant) -> Result<(), TunnelEnd> {
        match self.liveness.verdict(now) {
            Verdict::Live => {
                if *self.shared.health.borrow() == TunnelHealth::Unresponsive {
                    self.shared.set_health(TunnelHealth::Live);
                }
            }
            Verdict::Ask(token) => {
                let packets = self.shared.clear.get().packets();
                let mut outbox = self.shared.outbox.borrow_mut();
                outbox.ping(token);
                outbox.path(PathReport { packets, clock: Clock::at(SystemTime::now()) });
                drop(outbox);
                if self.shared.credits.borrow().is_empty() {
                    self.shared.scratch.take();
                    self.shared.farewells.prune();
                }
            }
            Verdict::Doubt => {
                if *self.shared.health.borrow() == TunnelHealth::Live {
                    self.shared.set_health(TunnelHealth::Unresponsive);
                }
            }
            Verdict::GiveUp => return Err(TunnelEnd::Unresponsive),
        }
        Ok(())
    }

    fn next_look(&self) -> Instant {
        let next = self.liveness.next().max(Instant::now() + Duration::from_millis(1));
        self.done.map_or(next, |since| next.min(since + LINGER))
    }

    /// Acts on what came in on the control stream; `None` is its end.
    fn hear(&mut self, bytes: Option<&[u8]>) -> Result<(), TunnelEnd> {
        let Some(bytes) = bytes else {
            self.peer_done = true;
            return if self.shared.heard_goaway.get() { Ok(()) } else { Err(TunnelEnd::PeerClosed) };
        };
        let (shared, peer, liveness) = (&self.shared, &self.peer, &mut self.liveness);
        let mut overflow = None;
        self.inbox.receive(bytes, |said| match said {
            Said::Hello(settings) => {
                shared.peer.set(Some(settings));
                shared.greeting.set(Some(Greeting::now(&settings.about)));
                peer.gateway.set(settings.about.gateway);
                if *shared.health.borrow() == TunnelHealth::Starting {
                    shared.set_health(TunnelHealth::Live);
                }
            }
            Said::Credit(id, more) => {
                if let Some(credit) = shared.credits.borrow().get(&id) {
                    credit.left.set(credit.left.get() + more);
                    credit.wake();
                    if credit.left.get() > MAX_CREDIT {
                        overflow = Some(ProtocolError::CreditOverflow(id));
                    }
                }
            }
            Said::Ping(payload) => shared.outbox.borrow_mut().pong(payload),
            Said::Pong(token) => liveness.answered(token, Instant::now()),
            Said::Limit(limit) => shared.declined.set(Some(limit)),
            Said::Path(report) => {
                shared.peers_packets.set(report.packets);
                Greeting::compare(&shared.greeting, report.clock);
            }
            Said::Goaway => {
                shared.heard_goaway.set(true);
                shared.settled.notify_waiters();
                shared.say_goaway();
                shared.set_health(TunnelHealth::Draining);
            }
        })?;
        overflow.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Takes a stream that the peer has opened: its OPEN is mostly there with it.
    fn offered(&mut self, (send, mut receive): (SendStream, RecvStream)) -> Result<(), TunnelEnd> {
        if send.id().index() > LAST_STREAM {
            return Err(ProtocolError::BadStream(crate::tunnel::mux::frame::Kind::Open, u32::MAX).into());
        }
        let limit = u64::from(self.shared.config.settings.max_streams);
        if 2 * self.shared.streams_in.get() as u64 > self.streams && self.streams < 2 * limit {
            self.streams = (self.streams * 2).min(2 * limit);
            self.shared.connection.set_max_concurrent_bi_streams(streams(self.streams));
        }
        let mut reading = head::Reading::open();
        let polled = poll_head(&mut receive, &mut reading, &mut Context::from_waker(Waker::noop()));
        let (shared, peer, ingress) = (self.shared.clone(), self.peer.clone(), self.ingress.clone());
        if matches!(polled, Poll::Ready(Ok(()))) {
            incoming(&shared, &peer, &*ingress, (send, receive), &reading);
            return Ok(());
        }
        if self.opening.len() >= limit as usize {
            self.ingress.is_full();
            reject((send, receive));
            return Ok(());
        }
        self.opening.spawn_local(async move {
            let read =
                tokio::time::timeout(OPEN_TIMEOUT, poll_fn(|cx| poll_head(&mut receive, &mut reading, cx))).await;
            match read {
                Ok(Ok(())) => incoming(&shared, &peer, &*ingress, (send, receive), &reading),
                Ok(Err(HeadError::Cut | HeadError::Reset | HeadError::Lost)) | Err(_) => reject((send, receive)),
            }
        });
        Ok(())
    }

    /// Ends the control stream once both sides have said goodbye, all streams are over here and the peer has their last bytes, and
    /// the tunnel once the peer has, too.
    fn say_done(&mut self, control: &mut SendStream) -> Result<(), TunnelEnd> {
        self.forget_unsayable();
        let shared = &self.shared;
        let goodbye = shared.said_goaway.get() && shared.heard_goaway.get();
        let idle = shared.credits.borrow().is_empty() && self.opening.is_empty() && shared.farewells.is_empty();
        if !goodbye || !idle || self.sent < self.sending.len() || !shared.outbox.borrow().is_empty() {
            return Ok(());
        }
        if self.done.is_none() {
            self.done = Some(Instant::now());
            let _ = control.finish();
        }
        let waited = self.done.is_some_and(|since| since.elapsed() >= LINGER);
        if self.peer_done || waited { Err(TunnelEnd::Drained) } else { Ok(()) }
    }

    /// Why the connection has ended.
    fn ended(&self, error: ConnectionError) -> TunnelEnd {
        let goodbye = self.shared.said_goaway.get() && self.shared.heard_goaway.get();
        match error {
            ConnectionError::ApplicationClosed(_) if goodbye => TunnelEnd::Drained,
            ConnectionError::ApplicationClosed(_) => TunnelEnd::PeerClosed,
            ConnectionError::LocallyClosed => TunnelEnd::Closed,
            ConnectionError::TimedOut => TunnelEnd::Unresponsive,
            error => error.into(),
        }
    }

    /// The same where a stream failed by it.
    fn lost(&self) -> TunnelEnd {
        self.shared.connection.close_reason().map_or(TunnelEnd::PeerClosed, |error| self.ended(error))
    }
}

/// A number of streams, as QUIC has it.
pub(super) fn streams(count: u64) -> VarInt {
    // RFC 9000 section 4.6: at most 2^60.
    VarInt::from_u64(count.min(1 << 60)).unwrap_or(VarInt::MAX)
}

/// Hands a stream whose OPEN has come in to the ingress, or refuses it.
fn incoming(
    shared: &Rc<Shared>,
    peer: &Rc<PeerIdentity>,
    ingress: &dyn Ingress,
    halves: (SendStream, RecvStream),
    reading: &head::Reading,
) {
    let (settings, budget) = (shared.config.settings, &shared.config.budget);
    let window = settings.window as usize;
    let why = if shared.streams_in.get() >= settings.max_streams as usize {
        ingress.is_full();
        Some("too many streams on this tunnel")
    } else if !budget.take_for_peer(window) {
        Some("the memory budget is used up")
    } else {
        None
    };
    let window = Window::new(if why.is_some() { 0 } else { window }, super::endpoint::LARGEST_WINDOW);
    let credit = shared.peer.get().map_or(0, |peer| peer.window as usize);
    let mut stream = QuicStream::offered(shared.clone(), halves, credit, window);
    if let Some(why) = why {
        return stream.refuse(&super::refusal(RefusalReason::Limit, why));
    }
    let denied = match reading.request() {
        Ok(request) if request.source.id.trust_domain() == peer.id.trust_domain() => {
            return ingress.incoming(peer, request, Box::new(stream));
        }
        Ok(request) => format!("{} may not speak for {}", peer.id, request.source.id),
        Err(bad) => bad.to_string(),
    };
    stream.refuse(&Refusal { reason: RefusalReason::Denied, message: denied, retry: false });
}

/// Ends a stream that nobody has taken.
fn reject((mut send, mut receive): (SendStream, RecvStream)) {
    let _ = send.reset(NOTHING);
    let _ = receive.stop(NOTHING);
}
