//! The task that drives one TLS connection.

use super::{MuxStream, MuxTunnel, StreamState, TunnelEnd};
use crate::{
    busy,
    socket::{self, Socket, info::tcp_facts},
    tunnel::{
        Greeting, Ingress, PeerIdentity, Refusal, RefusalReason, Tunnel, TunnelHealth, TunnelStream,
        anew::{self, Anew},
        mux::{
            Event, liveness,
            path::{Clock, PathReport},
        },
        open,
        tls::{Handshaken, Opened, TlsError, TrafficKeys, Wire, record},
    },
};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};
use tokio::time::Sleep;

mod incoming;
mod outgoing;
use incoming::Incoming;
use outgoing::Outgoing;

/// Reads before the other tasks of the core have their turn.
const READS: usize = 4;
/// Answers that wait to go out before nothing more is read from the peer: a peer that asks and never reads gets no further.
pub(super) const BACKLOG: usize = 1024 * 1024;
/// How long a drained tunnel may take to send its last bytes and hear the peer's end.
pub(in crate::tunnel) const LINGER: Duration = Duration::from_secs(5);
/// The same for one that is closed: nothing of worth is under way.
const FAREWELL: Duration = Duration::from_millis(500);
/// DATA frames of one stream that are written to its socket together.
pub(super) const RUN: usize = 16;

/// Drives a tunnel's connection; see [`Self::run`].
#[derive(Debug)]
pub struct Driver {
    tunnel: MuxTunnel,
    socket: Rc<Socket>,
    keys: TrafficKeys,
    peer: Rc<PeerIdentity>,
    ingress: Rc<dyn Ingress>,
    incoming: Incoming,
    outgoing: Outgoing,
    liveness: liveness::Liveness,
    short_path: bool,
    anew: Anew,
}

/// Consecutive DATA frames of one stream, as ranges of the incoming bytes.
#[derive(Default)]
struct Run {
    stream: u32,
    ranges: [(usize, usize); RUN],
    length: usize,
}

impl Driver {
    pub(super) fn new(
        tunnel: MuxTunnel,
        handshaken: Handshaken<impl Wire>,
        peer: Rc<PeerIdentity>,
        ingress: Rc<dyn Ingress>,
    ) -> io::Result<Self> {
        let Handshaken { socket, keys, received: bytes, .. } = handshaken;
        let socket = Rc::new(Socket::new(socket.into_fd()?)?);
        *tunnel.0.socket.borrow_mut() = Rc::downgrade(&socket);
        let incoming = Incoming::new(bytes);
        let liveness = liveness::Liveness::new(Instant::now());
        Ok(Self {
            tunnel,
            socket,
            keys,
            peer,
            ingress,
            incoming,
            outgoing: Outgoing::default(),
            liveness,
            short_path: false,
            anew: Anew::default(),
        })
    }

    /// Runs the tunnel to its end.
    pub async fn run(mut self) -> TunnelEnd {
        let mut timer = Box::pin(tokio::time::sleep_until(self.liveness.next().into()));
        let end = poll_fn(|cx| match self.poll(cx, timer.as_mut()) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        })
        .await;
        self.tunnel.set_health(TunnelHealth::Closed);
        self.tunnel.0.answered.notify_waiters();
        self.abort_streams();
        match end {
            TunnelEnd::Drained => self.say_close(LINGER).await,
            TunnelEnd::Closed | TunnelEnd::Protocol(_) | TunnelEnd::Tls(_) => self.say_close(FAREWELL).await,
            _ => {}
        }
        end
    }

    fn abort_streams(&self) {
        let mut mux = self.tunnel.0.mux.borrow_mut();
        mux.abort();
        mux.users().for_each(StreamState::wake);
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Result<(), TunnelEnd> {
        if self.tunnel.0.closing.get() {
            return Err(TunnelEnd::Closed);
        }
        let now = Instant::now();
        self.tunnel.0.now.set(now);
        busy::worked(now);
        // Waking the driver while it runs would make it run twice: it sends below whatever was queued above.
        *self.tunnel.0.driver.borrow_mut() = None;
        let held_up = self.pump_in(cx, now)?;
        let is_done = self.tunnel.0.mux.borrow_mut().is_done();
        if self.tunnel.0.mux.borrow_mut().take_active() {
            self.liveness.sent(now);
        }
        self.watch(cx, now, timer.as_mut())?;
        self.pump_out(cx)?;
        if is_done && self.outgoing.is_empty() {
            return Err(TunnelEnd::Drained);
        }
        *self.tunnel.0.driver.borrow_mut() = Some(cx.waker().clone());
        // Nothing was asked of the reading side, so it will not wake this task.
        if held_up && self.tunnel.0.mux.borrow_mut().out().len() < BACKLOG {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Asks, doubts and gives up as [`liveness`] says.
    fn watch(&mut self, cx: &mut Context<'_>, now: Instant, mut timer: Pin<&mut Sleep>) -> Result<(), TunnelEnd> {
        loop {
            match self.liveness.verdict(now) {
                liveness::Verdict::Live => {}
                liveness::Verdict::Ask(token) => {
                    let mut mux = self.tunnel.0.mux.borrow_mut();
                    mux.ping(token);
                    if mux.is_ready() {
                        let packets = self.tunnel.0.clear.get().packets();
                        mux.tell_path(PathReport { packets, clock: Clock::at(SystemTime::now()) });
                    }
                    drop(mux);
                    self.incoming.release_if_empty();
                }
                liveness::Verdict::Doubt => {
                    if self.tunnel.health() == TunnelHealth::Live {
                        self.tunnel.set_health(TunnelHealth::Unresponsive);
                    }
                }
                liveness::Verdict::GiveUp => return Err(TunnelEnd::Unresponsive),
            }
            let next = self.liveness.next().max(now + Duration::from_millis(1));
            if next < timer.deadline().into_std() || timer.is_elapsed() {
                timer.as_mut().reset(next.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }

    /// Reads and acts on what the peer has sent; true if it stopped because too much waits to go out.
    fn pump_in(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, TunnelEnd> {
        for _ in 0..READS {
            self.open_records(now)?;
            if self.tunnel.0.mux.borrow_mut().out().len() >= BACKLOG {
                return Ok(true);
            }
            let Poll::Ready(read) = self.incoming.poll_fill(cx, &self.socket) else { return Ok(false) };
            if read? == 0 {
                return Err(self.peer_closed());
            }
        }
        self.open_records(now)?;
        cx.waker().wake_by_ref();
        Ok(false)
    }

    /// Opens every whole record and acts on its frames.
    fn open_records(&mut self, now: Instant) -> Result<(), TunnelEnd> {
        let mut run = Run::default();
        loop {
            let Some(whole) = self.incoming.next_record().map_err(TlsError::from)? else { break };
            let start = whole.start;
            match self.keys.open(self.incoming.bytes_mut(whole))? {
                Opened::Data(payload) => {
                    let payload = start + record::HEADER..start + record::HEADER + payload.len();
                    self.act(payload, &mut run, now)?;
                }
                Opened::Handled => {}
                Opened::Closed => return Err(self.peer_closed()),
            }
        }
        self.deliver(&mut run, now);
        Ok(())
    }

    /// How the tunnel ends by the peer's end: where nothing was left, that is in order.
    fn peer_closed(&self) -> TunnelEnd {
        if self.tunnel.0.mux.borrow().is_over() { TunnelEnd::Drained } else { TunnelEnd::PeerClosed }
    }

    /// Acts on the frames of one record's payload.
    fn act(&mut self, payload: std::ops::Range<usize>, run: &mut Run, now: Instant) -> Result<(), TunnelEnd> {
        let (mut at, mut active) = (payload.start, false);
        loop {
            let bytes = self.incoming.bytes(at..payload.end);
            let mut rest = bytes;
            let mut mux = self.tunnel.0.mux.borrow_mut();
            let Some(event) = mux.receive(&mut rest)? else { break };
            active |= !matches!(event, Event::Pong(_) | Event::Path(_) | Event::Full | Event::Nothing);
            let next = payload.end - rest.len();
            if let Event::Data(stream, data) = event {
                let range = (next - data.len(), next);
                drop(mux);
                if run.length == RUN || (run.length > 0 && run.stream != stream) {
                    self.deliver(run, now);
                }
                run.push(stream, range);
                at = next;
                continue;
            }
            // What came before must be delivered before: a FIN behind its bytes.
            if run.length > 0 {
                drop(mux);
                self.deliver(run, now);
                mux = self.tunnel.0.mux.borrow_mut();
            }
            match event {
                Event::Ready(peer) => {
                    drop(mux);
                    self.peer.gateway.set(peer.about.gateway);
                    self.tunnel.0.greeting.set(Some(Greeting::now(&peer.about)));
                    if self.tunnel.health() == TunnelHealth::Starting {
                        self.tunnel.set_health(TunnelHealth::Live);
                    }
                }
                Event::Open(id, request) => {
                    drop(mux);
                    self.incoming_stream(id, request);
                }
                Event::Opened(id, status, retry, message) => {
                    if let Some(state) = mux.user(id) {
                        state.answered(open::answer(status, retry, message));
                    }
                }
                Event::Full => self.ingress.is_full(),
                Event::Fin(id) | Event::Rst(id) | Event::Credit(id) => {
                    if let Some(state) = mux.user(id) {
                        state.wake();
                    }
                }
                Event::Pong(token) => {
                    self.liveness.answered(token, now);
                    self.tunnel.0.rtt.set(self.liveness.rtt());
                    self.tunnel.0.answered.notify_waiters();
                    drop(mux);
                    self.tune_to_path();
                }
                Event::Limit(limit) => self.tunnel.0.declined.set(Some(limit)),
                Event::Path(report) => {
                    self.tunnel.0.peers_packets.set(report.packets);
                    Greeting::compare(&self.tunnel.0.greeting, report.clock);
                }
                Event::Goaway => {
                    drop(mux);
                    self.tunnel.set_health(TunnelHealth::Draining);
                }
                Event::Data(..) | Event::Nothing => {}
            }
            at = next;
        }
        self.liveness.received(now, active);
        if self.tunnel.health() == TunnelHealth::Unresponsive {
            self.tunnel.set_health(TunnelHealth::Live);
        }
        Ok(())
    }

    /// Once the path is known to be short: see [`socket::tune_short_path`].
    fn tune_to_path(&mut self) {
        if !self.short_path && self.liveness.rtt().is_some_and(|rtt| rtt < socket::SHORT_PATH) {
            self.short_path = true;
            socket::tune_short_path(&*self.socket);
        }
    }

    /// The kernel takes less than there is: see [`Anew`].
    fn held_back(&mut self) {
        let now = self.tunnel.0.now.get();
        let Some(rtt) = self.liveness.rtt().filter(|_| !self.short_path) else { return };
        if !self.anew.is_due(now, rtt) {
            return;
        }
        let Ok(facts) = tcp_facts(&*self.socket) else { return };
        let path = anew::Path { rtt: facts.rtt, least_rtt: facts.least_rtt, rate: facts.rate };
        if self.anew.begins(now, path) {
            // It has none that learns, or is no connection of TCP.
            let learns = socket::congestion::learn_anew(&*self.socket).unwrap_or_default();
            tracing::debug!(peer = %self.peer.cluster, learns, "much comes after little: the path is learned anew");
        }
    }

    fn incoming_stream(&self, id: u32, request: &[u8]) {
        let mut stream = MuxStream::new(self.tunnel.clone(), id);
        let denied = match open::decode(request) {
            Ok(request) if request.source.id.trust_domain() == self.peer.id.trust_domain() => {
                return self.ingress.incoming(&self.peer, request, Box::new(stream));
            }
            Ok(request) => format!("{} may not speak for {}", self.peer.id, request.source.id),
            Err(bad) => bad.to_string(),
        };
        stream.refuse(&Refusal { reason: RefusalReason::Denied, message: denied, retry: false });
    }

    /// Writes a run of DATA to its stream's socket, as far as that takes it.
    fn deliver(&self, run: &mut Run, now: Instant) {
        let length = std::mem::take(&mut run.length);
        if length == 0 {
            return;
        }
        let mut parts: [&[u8]; RUN] = [&[]; RUN];
        for (part, &(start, end)) in parts.iter_mut().zip(&run.ranges[..length]) {
            *part = self.incoming.bytes(start..end);
        }
        let mut mux = self.tunnel.0.mux.borrow_mut();
        let Some(state) = mux.user(run.stream) else { return };
        let delivered = state.deliver(&parts[..length], now);
        if delivered > 0 {
            mux.consumed(run.stream, delivered, now, self.tunnel.0.rtt.get().unwrap_or_default());
        }
    }
}

impl Run {
    fn push(&mut self, stream: u32, range: (usize, usize)) {
        self.stream = stream;
        self.ranges[self.length] = range;
        self.length += 1;
    }
}
