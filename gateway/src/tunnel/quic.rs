//! Tunnels over QUIC: one bidirectional QUIC stream per stream, opened by either side (docs/wire.md, "Over QUIC").
//!
//! ```text
//! stream tasks ──read sockets, write──▶ quinn ──datagrams──▶ UDP socket of the core
//! local sockets ◀──written by stream tasks── quinn ◀──datagrams──
//! control stream: HELLO, CREDIT, PING, PONG, GOAWAY          (driver)
//! ```
//!
//! QUIC's own windows are no bound here: credit is our own, as over TLS, because only so it is per stream, grows with the path and
//! stays within the memory budget. See [`endpoint::transport_config`].

use super::{
    Direction, Greeting, Ingress, OpenRequest, Packets, PeerIdentity, Refusal, RefusalReason, Transport, Tunnel,
    TunnelHealth, TunnelStatus, TunnelStream,
    clear::Clear,
    driver::MuxConfig,
    mux::{Settings, window::Window},
};
use crate::flow::queue::Together;
use quinn::{Connection, VarInt};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, mpsc, watch};

pub mod control;
mod datagram;
mod driver;
pub mod endpoint;
mod farewell;
pub mod head;
pub mod steer;
mod stream;
#[cfg(test)]
mod tests;

use control::Outbox;
pub use driver::Driver;
use farewell::Farewells;
use stream::{Asked, QuicStream};

/// With which the connection is ended in peace, and a stream that was not accepted is reset.
const NOTHING: VarInt = VarInt::from_u32(0);
/// With which a stream is reset that was accepted: the reset may overtake the answer.
const CUT: VarInt = VarInt::from_u32(1);
/// With which the connection is ended because the peer broke the protocol.
const BROKEN: VarInt = VarInt::from_u32(1);

/// Streams that were reset before the peer had answered, and wait for the driver to take them. More are reset at once.
const FORSAKEN: usize = 1024;

/// Streams that either side opens on one connection in its life: so many that all ids fit 32 bits.
const LAST_STREAM: u64 = (1 << 30) - 1;

/// A live QUIC tunnel. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QuicTunnel(Rc<Shared>);

/// What the tunnel's handle, driver and streams share.
#[derive(Debug)]
struct Shared {
    connection: Connection,
    direction: Direction,
    config: MuxConfig,
    /// The peer's HELLO, once it came.
    peer: Cell<Option<Settings>>,
    /// What it told of itself there.
    greeting: Cell<Option<Greeting>>,
    /// How many tunnels it takes of this gateway, if it has declined this one.
    declined: Cell<Option<u32>>,
    /// The credit of each live stream, by its QUIC id.
    credits: RefCell<HashMap<u32, Rc<Credit>>>,
    /// Where datagrams of streams that take them wait, by the stream's QUIC id.
    inboxes: RefCell<HashMap<u32, Rc<datagram::Inbox>>>,
    /// What they hold together.
    inboxed: Rc<Together>,
    outbox: RefCell<Outbox>,
    health: watch::Sender<TunnelHealth>,
    rtt: Cell<Option<Duration>>,
    clear: Cell<Clear>,
    /// What the peer has counted of the path.
    peers_packets: Cell<Packets>,
    /// What its streams have been granted, together, and the connection's window.
    granted: Cell<usize>,
    window: Cell<usize>,
    streams_out: Cell<usize>,
    streams_in: Cell<usize>,
    said_goaway: Cell<bool>,
    heard_goaway: Cell<bool>,
    closing: Cell<bool>,
    /// A stream broke the protocol: how.
    broken: Cell<Option<super::mux::ProtocolError>>,
    /// When a stream first sent something since the driver last looked.
    written: Cell<Option<Instant>>,
    /// The driver will look again soon.
    looking: Cell<bool>,
    /// Streams have been given something since the driver last looked.
    received: Cell<bool>,
    /// Where bytes of local sockets lie for a moment; empty while the tunnel idles.
    scratch: RefCell<Vec<u8>>,
    /// Streams that were reset before the peer had answered: the driver keeps them until it has.
    forsaken: mpsc::Sender<Box<QuicStream>>,
    /// Streams that are over here and not at the peer.
    farewells: Farewells,
    /// Told when the peer has the last bytes of all these, has said goodbye, or the tunnel has ended.
    settled: Notify,
    driver: Notify,
}

/// What the peer lets a stream send.
#[derive(Debug)]
struct Credit {
    left: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl QuicTunnel {
    /// Goes on where the handshake ended. The driver must be run; when it ends, the tunnel has.
    pub fn start(
        connection: Connection,
        direction: Direction,
        peer: Rc<PeerIdentity>,
        ingress: Rc<dyn Ingress>,
        config: &MuxConfig,
    ) -> (Self, Driver) {
        let (forsaken, forsaken_streams) = mpsc::channel(FORSAKEN);
        let tunnel = Self(Rc::new(Shared {
            connection,
            direction,
            config: config.clone(),
            peer: Cell::default(),
            greeting: Cell::default(),
            declined: Cell::default(),
            credits: RefCell::default(),
            inboxes: RefCell::default(),
            inboxed: Together::new(datagram::MOST),
            outbox: RefCell::new(Outbox::new(&config.settings.said_at(SystemTime::now()))),
            health: watch::Sender::new(TunnelHealth::Starting),
            rtt: Cell::default(),
            clear: Cell::default(),
            peers_packets: Cell::default(),
            granted: Cell::default(),
            window: Cell::new(endpoint::FIRST_WINDOW),
            streams_out: Cell::default(),
            streams_in: Cell::default(),
            said_goaway: Cell::default(),
            heard_goaway: Cell::default(),
            closing: Cell::default(),
            broken: Cell::default(),
            written: Cell::default(),
            looking: Cell::default(),
            received: Cell::default(),
            scratch: RefCell::default(),
            forsaken,
            farewells: Farewells::default(),
            settled: Notify::new(),
            driver: Notify::new(),
        }));
        let driver = Driver::new(tunnel.0.clone(), peer, ingress, forsaken_streams);
        (tunnel, driver)
    }
}

impl Tunnel for QuicTunnel {
    fn open(&self, request: &OpenRequest) -> Result<Box<dyn TunnelStream>, Refusal> {
        let shared = &self.0;
        let credit = shared.may_open()?;
        let head = head::open(request)
            .ok_or_else(|| Refusal { retry: false, ..refusal(RefusalReason::Limit, "the request is too long") })?;
        let window = shared.config.settings.window as usize;
        if !shared.config.budget.take(window) {
            return Err(Refusal { retry: false, ..refusal(RefusalReason::Limit, "the memory budget is used up") });
        }
        let opened = std::pin::pin!(shared.connection.open_bi()).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok((send, receive))) = opened else {
            shared.config.budget.give_back(window);
            return Err(match opened {
                Poll::Pending => refusal(RefusalReason::Limit, "the peer takes no more streams on this tunnel now"),
                Poll::Ready(_) => refusal(RefusalReason::TunnelLost, "the tunnel has ended"),
            });
        };
        if send.id().index() >= LAST_STREAM {
            self.drain();
        }
        let stream = QuicStream::asked(
            shared.clone(),
            (send, receive),
            head,
            credit,
            Window::new(window, endpoint::LARGEST_WINDOW),
        );
        Ok(Box::new(Asked::new(stream)))
    }

    fn status(&self) -> TunnelStatus {
        TunnelStatus {
            transport: Transport::Quic,
            direction: self.0.direction,
            health: self.health(),
            rtt: self.0.rtt.get(),
            streams_out: self.0.streams_out.get(),
            streams_in: self.0.streams_in.get(),
            peer: self.0.greeting.get(),
        }
    }

    fn transport(&self) -> Transport {
        Transport::Quic
    }

    fn watch(&self) -> watch::Receiver<TunnelHealth> {
        self.0.health.subscribe()
    }

    fn health(&self) -> TunnelHealth {
        *self.0.health.borrow()
    }

    fn load(&self) -> usize {
        self.0.streams_out.get() + self.0.streams_in.get()
    }

    fn look(&self) {
        let path = self.0.connection.stats().path;
        let mut clear = self.0.clear.get();
        clear.look(Packets { sent: path.sent_packets, lost: path.lost_packets }, path.rtt, path.min_rtt);
        self.0.clear.set(clear);
    }

    fn packets_each_way(&self) -> Option<[Packets; 2]> {
        Some([self.0.clear.get().packets(), self.0.peers_packets.get()])
    }

    fn drain(&self) {
        self.0.say_goaway();
        if self.health() != TunnelHealth::Closed {
            self.0.set_health(TunnelHealth::Draining);
        }
    }

    fn decline(&self, limit: u32) {
        // Behind a GOAWAY the control stream may have ended.
        if !self.0.said_goaway.get() {
            self.0.outbox.borrow_mut().limit(limit);
        }
        self.drain();
    }

    fn declined(&self) -> Option<u32> {
        self.0.declined.get()
    }

    fn flushed(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {
            let shared = &self.0;
            // Before its HELLO the peer has opened nothing, and was told nothing of worth.
            let is_ready = || shared.peer.get().is_some() && self.health() != TunnelHealth::Closed;
            while is_ready() && !(shared.heard_goaway.get() && shared.farewells.is_empty()) {
                // Nothing can happen between the look and the wait: all of it is one thread.
                shared.settled.notified().await;
            }
        })
    }

    fn close(&self) {
        self.0.closing.set(true);
        self.0.driver.notify_one();
    }
}

impl Shared {
    /// The first credit that the peer gives a stream, if one may be opened.
    fn may_open(&self) -> Result<usize, Refusal> {
        let Some(peer) = self.peer.get() else {
            return Err(refusal(RefusalReason::Draining, "the tunnel is not ready"));
        };
        if self.said_goaway.get() || self.heard_goaway.get() {
            return Err(refusal(RefusalReason::Draining, "the tunnel is draining"));
        }
        if self.streams_out.get() >= peer.max_streams as usize {
            let message = format!("the peer takes no more than {} streams on a tunnel", peer.max_streams);
            return Err(Refusal { message, ..refusal(RefusalReason::Limit, "") });
        }
        Ok(peer.window as usize)
    }

    fn say_goaway(&self) {
        if !self.said_goaway.replace(true) {
            self.outbox.borrow_mut().goaway();
            self.driver.notify_one();
        }
    }

    /// Lets the peer send more on a stream.
    fn give_credit(&self, id: u32, bytes: usize) {
        self.outbox.borrow_mut().credit(id, bytes);
        self.driver.notify_one();
    }

    /// A stream has sent something.
    fn wrote(&self) {
        if self.written.get().is_none() {
            self.written.set(Some(Instant::now()));
            if !self.looking.replace(true) {
                self.driver.notify_one();
            }
        }
    }

    fn broke(&self, error: super::mux::ProtocolError) {
        self.broken.set(Some(error));
        self.driver.notify_one();
    }

    fn set_health(&self, health: TunnelHealth) {
        self.health.send_if_modified(|was| std::mem::replace(was, health) != health);
    }

    /// Counts a stream, and keeps what the peer lets it send.
    fn enter(&self, id: u32, outgoing: bool, credit: usize, window: usize) -> Rc<Credit> {
        self.resized(0, window);
        let count = if outgoing { &self.streams_out } else { &self.streams_in };
        count.set(count.get() + 1);
        let credit = Rc::new(Credit { left: Cell::new(credit), waker: RefCell::default() });
        self.credits.borrow_mut().insert(id, credit.clone());
        credit
    }

    /// A stream's window has changed: the connection's follows the sum of all, as long as there is memory for that.
    fn resized(&self, from: usize, to: usize) {
        let granted = (self.granted.get() + to).saturating_sub(from);
        self.granted.set(granted);
        let wanted = endpoint::connection_window(granted);
        let more = wanted.saturating_sub(self.window.get());
        if more > 0 && self.config.budget.take_for_connection(more) {
            self.window.set(wanted);
            self.connection.set_receive_window(VarInt::from_u64(wanted as u64).unwrap_or(VarInt::MAX));
        }
    }

    /// A stream is over.
    fn leave(&self, id: u32, outgoing: bool, window: usize) {
        let count = if outgoing { &self.streams_out } else { &self.streams_in };
        count.set(count.get().saturating_sub(1));
        self.credits.borrow_mut().remove(&id);
        self.config.budget.give_back(window);
        self.resized(window, 0);
        if self.said_goaway.get() {
            self.driver.notify_one();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.config.budget.give_back_for_connection(self.window.get() - endpoint::FIRST_WINDOW);
    }
}

impl Credit {
    fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// One that may do better on another tunnel.
fn refusal(reason: RefusalReason, message: &str) -> Refusal {
    Refusal { reason, message: message.into(), retry: true }
}
