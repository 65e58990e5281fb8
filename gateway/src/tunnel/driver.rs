//! A tunnel of our own transport: the multiplexer's state machine, its TLS connection, and the streams' handles.
//!
//! ```text
//! stream tasks ──read sockets into──▶ Mux::out ──seal, write──▶ TLS socket       (pump_out)
//! local sockets ◀──write at once── Mux::receive ◀──open in place── TLS socket    (pump_in)
//! ```
//!
//! One task drives the connection. Bytes that come in are written to their local sockets by that task itself; a stream's own task
//! wakes only for what the socket does not take, and for the end. All of it is on one core: `RefCell`s are held between awaits, never
//! across one.

use super::{
    Direction, Greeting, Ingress, OpenRequest, Packets, PeerIdentity, Refusal, RefusalReason, Transport, Tunnel,
    TunnelHealth, TunnelStatus, TunnelStream,
    clear::Clear,
    mux::{Budget, Mux, OpenError, ProtocolError, Role, Settings},
    open,
    tls::{Handshaken, TlsError, Wire},
};
use crate::socket::{Socket, info::tcp_facts};
use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::Waker,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, watch};

mod line;
mod pump;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use line::Line;
pub use pump::Driver;
pub(super) use pump::LINGER;
use stream::{MuxStream, StreamState};

/// How a tunnel of ours is run.
#[derive(Debug, Clone)]
pub struct MuxConfig {
    /// What to tell the peer.
    pub settings: Settings,
    /// What bounds all credit.
    pub budget: Arc<Budget>,
}

/// Why a tunnel ended.
#[derive(Debug, thiserror::Error)]
pub enum TunnelEnd {
    /// Both sides had said goodbye.
    #[error("drained")]
    Drained,
    /// This side closed it.
    #[error("closed by this gateway")]
    Closed,
    /// The peer closed the connection without saying goodbye.
    #[error("closed by the peer")]
    PeerClosed,
    /// The peer has not answered for too long.
    #[error("the peer does not answer")]
    Unresponsive,
    /// The connection broke.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The peer broke the protocol.
    #[error("protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// HTTP/2 failed, or the connection below it.
    #[error("HTTP/2: {0}")]
    Http2(#[from] ::h2::Error),
    /// QUIC failed.
    #[error("QUIC: {0}")]
    Quic(#[from] quinn::ConnectionError),
}

impl TunnelEnd {
    /// Whether it broke because the peer fell silent: nobody closed it, and nobody did anything wrong.
    pub fn is_break(&self) -> bool {
        use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
        match self {
            Self::Unresponsive | Self::Quic(quinn::ConnectionError::TimedOut) => true,
            Self::Io(error) => matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable),
            _ => false,
        }
    }
}

/// A live tunnel of our own transport. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MuxTunnel(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    mux: RefCell<Mux<StreamState>>,
    /// The driver's task, to be woken when there is something to send.
    driver: RefCell<Option<Waker>>,
    /// Told when a PONG came in, and when the driver has ended.
    answered: Notify,
    /// Streams that wait for room in the outgoing buffer.
    waiting_for_room: RefCell<Line>,
    health: watch::Sender<TunnelHealth>,
    rtt: Cell<Option<Duration>>,
    /// The driver's clock, read once each time it runs.
    now: Cell<Instant>,
    closing: Cell<bool>,
    direction: Direction,
    /// The driver's, to ask the kernel of the path.
    socket: RefCell<Weak<Socket>>,
    clear: Cell<Clear>,
    /// What the peer has counted.
    peers_packets: Cell<Packets>,
    /// What it told of itself.
    greeting: Cell<Option<Greeting>>,
    /// How many tunnels it takes of this gateway, if it has declined this one.
    declined: Cell<Option<u32>>,
}

impl MuxTunnel {
    /// Goes on where the handshake ended. The driver must be run; when it ends, the tunnel has.
    ///
    /// # Errors
    /// The core's reactor cannot take the socket.
    pub fn start(
        handshaken: Handshaken<impl Wire>,
        direction: Direction,
        peer: Rc<PeerIdentity>,
        ingress: Rc<dyn Ingress>,
        config: &MuxConfig,
    ) -> io::Result<(Self, Driver)> {
        let role = if direction == Direction::Dialled { Role::Dialler } else { Role::Acceptor };
        let settings = config.settings.said_at(SystemTime::now());
        let tunnel = Self(Rc::new(Shared {
            mux: RefCell::new(Mux::new(role, settings, config.budget.clone())),
            driver: RefCell::default(),
            answered: Notify::new(),
            waiting_for_room: RefCell::default(),
            health: watch::Sender::new(TunnelHealth::Starting),
            rtt: Cell::default(),
            now: Cell::new(Instant::now()),
            closing: Cell::default(),
            direction,
            socket: RefCell::default(),
            clear: Cell::default(),
            peers_packets: Cell::default(),
            greeting: Cell::default(),
            declined: Cell::default(),
        }));
        let driver = Driver::new(tunnel.clone(), handshaken, peer, ingress)?;
        Ok((tunnel, driver))
    }

    fn set_health(&self, health: TunnelHealth) {
        self.0.health.send_if_modified(|was| std::mem::replace(was, health) != health);
    }

    fn wake_driver(&self) {
        if let Some(waker) = self.0.driver.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Tunnel for MuxTunnel {
    fn open(&self, request: &OpenRequest) -> Result<Box<dyn TunnelStream>, Refusal> {
        let state = StreamState::default();
        let opened = self.0.mux.borrow_mut().open(&open::encode(request), state);
        let id = opened.map_err(|e| Refusal {
            reason: match e {
                OpenError::NotReady | OpenError::Draining => RefusalReason::Draining,
                OpenError::TooMany(_) | OpenError::Memory | OpenError::TooLong => RefusalReason::Limit,
            },
            message: e.to_string(),
            retry: e != OpenError::TooLong && e != OpenError::Memory,
        })?;
        self.wake_driver();
        Ok(Box::new(MuxStream::new(self.clone(), id)))
    }

    fn status(&self) -> TunnelStatus {
        let (streams_out, streams_in) = self.0.mux.borrow().live();
        TunnelStatus {
            transport: Transport::Tls,
            direction: self.0.direction,
            health: self.health(),
            rtt: self.0.rtt.get(),
            streams_out,
            streams_in,
            peer: self.0.greeting.get(),
        }
    }

    fn transport(&self) -> Transport {
        Transport::Tls
    }

    fn watch(&self) -> watch::Receiver<TunnelHealth> {
        self.0.health.subscribe()
    }

    fn health(&self) -> TunnelHealth {
        *self.0.health.borrow()
    }

    fn load(&self) -> usize {
        let (ours, theirs) = self.0.mux.borrow().live();
        ours + theirs
    }

    fn look(&self) {
        let Some(facts) = self.0.socket.borrow().upgrade().and_then(|socket| tcp_facts(&*socket).ok()) else { return };
        let mut clear = self.0.clear.get();
        clear.look(Packets { sent: facts.sent, lost: facts.lost }, facts.rtt, facts.least_rtt);
        self.0.clear.set(clear);
    }

    fn packets_each_way(&self) -> Option<[Packets; 2]> {
        Some([self.0.clear.get().packets(), self.0.peers_packets.get()])
    }

    fn drain(&self) {
        self.0.mux.borrow_mut().goaway();
        if self.health() != TunnelHealth::Closed {
            self.set_health(TunnelHealth::Draining);
        }
        self.wake_driver();
    }

    fn decline(&self, limit: u32) {
        self.0.mux.borrow_mut().tell_limit(limit);
        self.drain();
    }

    fn declined(&self) -> Option<u32> {
        self.0.declined.get()
    }

    /// Asks it. Before its HELLO the peer has opened nothing, and was told nothing of worth.
    fn flushed(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {
            let number = {
                let mut mux = self.0.mux.borrow_mut();
                mux.is_ready().then(|| mux.flush())
            };
            let Some(number) = number else { return };
            self.wake_driver();
            while self.health() != TunnelHealth::Closed && !self.0.mux.borrow().is_flushed(number) {
                // Nothing can happen between the look and the wait: all of it is one thread.
                self.0.answered.notified().await;
            }
        })
    }

    fn close(&self) {
        self.0.closing.set(true);
        self.wake_driver();
    }
}
