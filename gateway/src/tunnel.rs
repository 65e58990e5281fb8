//! Tunnels: live mTLS connections to peers, and the streams inside them.
//!
//! Every transport implements [`Tunnel`] and [`TunnelStream`]; nothing outside `tunnel/` knows which one it has. A tunnel and its
//! streams live on one core: nothing here is `Send`, and nothing locks.

pub mod link;

use crate::socket::Socket;
use bytes::Bytes;
use isthmus_certs::SpiffeId;
use isthmus_control_api::{GatewayId, PodName, ServicePort};
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::watch;

pub mod anew;
mod clear;
pub mod driver;
pub mod h2;
pub mod mux;
pub mod open;
pub mod quic;
pub mod tls;
mod waiting;

/// A live mTLS connection to a peer.
pub trait Tunnel {
    /// Starts a stream and returns it at once: bytes may be written before the peer has accepted it.
    ///
    /// # Errors
    /// The tunnel takes no new streams (draining, at its limit, or gone); another tunnel may.
    fn open(&self, request: &OpenRequest) -> Result<Box<dyn TunnelStream>, Refusal>;

    /// After [`Self::open`] has refused a stream for want of memory: whether to ask again. Pending while room is being made.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let _ = cx;
        Poll::Ready(false)
    }

    /// What it is and how it fares.
    fn status(&self) -> TunnelStatus;

    /// Which transport it is.
    fn transport(&self) -> Transport {
        self.status().transport
    }

    /// Whether it takes new streams.
    fn health(&self) -> TunnelHealth {
        *self.watch().borrow()
    }

    /// Tells every change of [`Self::health`].
    fn watch(&self) -> watch::Receiver<TunnelHealth>;

    /// Which of the peer's gateways it leads to, as far as that is known.
    fn gateway(&self) -> GatewayId {
        self.status().peer.map_or(GatewayId::UNKNOWN, |peer| peer.gateway)
    }

    /// Live streams, of both sides.
    fn load(&self) -> usize {
        let status = self.status();
        status.streams_out + status.streams_in
    }

    /// Looks at what its path loses. Once a second.
    fn look(&self) {}

    /// How many packets this side has sent while it did not fill the path, and the peer, and how many of those were lost, as of the last
    /// [`Self::look`]; `None` where that is not known.
    fn packets_each_way(&self) -> Option<[Packets; 2]> {
        None
    }

    /// The same of both sides together.
    fn packets(&self) -> Option<Packets> {
        self.packets_each_way().map(|[ours, theirs]| ours + theirs)
    }

    /// Whether this side can open streams on it at all: an HTTP/2 server cannot.
    fn can_open(&self) -> bool {
        true
    }

    /// Says goodbye (GOAWAY): no new streams either way; it ends by itself when the last one has.
    fn drain(&self);

    /// Tells the peer that this side takes no more than `limit` tunnels of its gateway, where the transport can say that, and drains.
    fn decline(&self, limit: u32) {
        let _ = limit;
        self.drain();
    }

    /// How many tunnels the peer takes of this gateway, if that is why it drains this one.
    fn declined(&self) -> Option<u32> {
        None
    }

    /// Waits, on a tunnel that drains, until the peer has the last bytes of the streams that have ended here, or the tunnel has
    /// ended. The peer has heard of the drain then; what it had opened before has mostly come in, and is served.
    fn flushed(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;

    /// Ends it now; its streams end as reset.
    fn close(&self);
}

/// What a tunnel tells of itself.
#[derive(Debug, Clone)]
pub struct TunnelStatus {
    /// Which transport it is.
    pub transport: Transport,
    /// Which side dialled it.
    pub direction: Direction,
    /// Whether it takes new streams.
    pub health: TunnelHealth,
    /// The smoothed round trip, once measured.
    pub rtt: Option<Duration>,
    /// Live streams that this side opened.
    pub streams_out: usize,
    /// Live streams that the peer opened.
    pub streams_in: usize,
    /// What the peer told of itself in HELLO, once it has.
    pub peer: Option<Greeting>,
}

/// What a peer told of itself, and how its clock compares with ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The revision of `isthmus/1` that it speaks; `None` over HTTP/2.
    pub revision: Option<u16>,
    /// Which gateway of its cluster it is.
    pub gateway: GatewayId,
    /// By how many milliseconds its clock is ahead of ours, if it tells; less than none: behind.
    pub ahead: Option<i64>,
}

impl Greeting {
    /// Of a HELLO that has just come in.
    pub fn now(about: &mux::Introduction) -> Self {
        let ahead = about.ahead(std::time::SystemTime::now());
        Self { revision: Some(about.revision), gateway: about.gateway, ahead }
    }

    /// Compares clocks anew: the peer's said `clock` just now. One that was put right is right from then on.
    fn compare(known: &Cell<Option<Self>>, clock: mux::path::Clock) {
        if let (Some(greeting), Some(ahead)) = (known.get(), clock.ahead(std::time::SystemTime::now())) {
            known.set(Some(Self { ahead: Some(ahead), ..greeting }));
        }
    }
}

/// What a tunnel has counted on its path, from its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packets {
    /// Sent.
    pub sent: u64,
    /// Of these, lost.
    pub lost: u64,
}

/// Both sides' counts. What the peer says may be anything.
impl std::ops::Add for Packets {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { sent: self.sent.saturating_add(other.sent), lost: self.lost.saturating_add(other.lost) }
    }
}

/// A tunnel's transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Our multiplexer over TLS.
    Tls,
    /// A QUIC stream for each stream.
    Quic,
    /// HTTP/2 CONNECT.
    H2,
}

impl Transport {
    /// A word for status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::H2 => "h2",
        }
    }
}

/// Which side dialled a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// This gateway.
    Dialled,
    /// The peer.
    Accepted,
}

impl Direction {
    /// A word for status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dialled => "dialled",
            Self::Accepted => "accepted",
        }
    }
}

/// Whether a tunnel takes new streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelHealth {
    /// Not yet: the peer has not said HELLO.
    Starting,
    /// Yes.
    Live,
    /// The peer has not answered for a second: not while others do.
    Unresponsive,
    /// One side said goodbye: no.
    Draining,
    /// It has ended: no.
    Closed,
}

impl TunnelHealth {
    /// A word for status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Unresponsive => "unresponsive",
            Self::Draining => "draining",
            Self::Closed => "closed",
        }
    }
}

/// What a stream asks for, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// The service and its port.
    pub service: ServicePort,
    /// On whose behalf.
    pub source: Source,
    /// Whether the client's streams are to go to the same endpoint, as long as that serves.
    pub sticky: bool,
    /// Whether another cluster may serve it: a refusal is worth more than waiting for endpoints that are late.
    pub elsewhere: bool,
    /// W3C trace context, where the egress gateway has one.
    pub traceparent: Option<String>,
}

/// On whose behalf a stream is opened: asserted by the egress gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The workload, or the gateway itself where nothing better is known.
    pub id: SpiffeId,
    /// Which pod it is, where that is known.
    pub pod: Option<PodName>,
    /// The client's address as the egress gateway saw it.
    pub address: Option<SocketAddr>,
}

impl Source {
    /// Whether `peer` may speak for it: within its own trust domain it is believed, and nowhere else.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, peer: &PeerIdentity) -> Result<(), Refusal> {
        if self.id.trust_domain() == peer.id.trust_domain() {
            return Ok(());
        }
        let message = format!("{} cannot speak for {}", peer.id, self.id).chars().take(200).collect();
        Err(Refusal { reason: RefusalReason::Denied, message, retry: false })
    }
}

/// Why a stream was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// The kind.
    pub reason: RefusalReason,
    /// One line for people, at most 200 bytes.
    pub message: String,
    /// Whether another attempt elsewhere (another tunnel, another cluster) may succeed.
    pub retry: bool,
}

/// The kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// Policy forbids it.
    Denied,
    /// The cluster does not export the service.
    NoSuchExport,
    /// No endpoint could be reached.
    NoEndpoint,
    /// No endpoint answered in time.
    Timeout,
    /// A bound was reached.
    Limit,
    /// The gateway or tunnel is draining.
    Draining,
    /// The tunnel ended first.
    TunnelLost,
    /// Endpoints did not take a connection from the client's own address, which says nothing of them.
    Source,
}

impl RefusalReason {
    /// A word for metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NoSuchExport => "no_such_export",
            Self::NoEndpoint => "no_endpoint",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Draining => "draining",
            Self::TunnelLost => "tunnel_lost",
            Self::Source => "source",
        }
    }
}

impl std::fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One proxied TCP connection, or UDP flow, inside a tunnel. Dropping one that has not ended both ways resets it.
///
/// Every `poll_` method keeps the waker of its last caller only; one task owns a stream.
pub trait TunnelStream {
    /// Opener: waits for the peer's answer.
    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>>;

    /// Acceptor: says that the endpoint is there.
    fn accept(&mut self);

    /// Acceptor: says that there will be no endpoint. The stream is over then.
    fn refuse(&mut self, refusal: &Refusal);

    /// Takes some of `bytes` towards the peer; how many.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>>;

    /// Moves bytes from `socket` towards the peer; how many, 0 once `socket` has ended (the caller then calls [`Self::finish`]).
    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>>;

    /// Moves bytes from the peer into `socket`; how many since the last call, 0 once the peer has finished and all was delivered.
    fn poll_receive(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>>;

    /// Moves bytes from the peer into `room`, which is not empty; how many, 0 once the peer has finished and all was read. A stream
    /// is read this way or by [`Self::poll_receive`], not by both.
    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>>;

    /// Waits, while nobody reads it, for the peer to reset it or its tunnel to end.
    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError>;

    /// Takes the peer's datagrams from now on, on the side that accepts: before it does. See [`Self::poll_send_datagram`].
    fn take_datagrams(&mut self) {}

    /// Hands a datagram to the transport, to be sent beside the stream: unordered, and lost where packets are. `Pending` while the
    /// transport has too many of them.
    ///
    /// # Errors
    /// The transport cannot carry it so: what to do instead. Transports without datagrams never can.
    fn poll_send_datagram(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<Result<(), DatagramError>> {
        let (_, _) = (cx, datagram);
        Poll::Ready(Err(DatagramError::Unsupported))
    }

    /// The next datagram that came in beside the stream, and how many were dropped before it because nobody took them.
    fn poll_receive_datagram(&mut self, cx: &mut Context<'_>) -> Poll<(Bytes, u64)> {
        let _ = cx;
        Poll::Pending
    }

    /// No more bytes will follow from this side (FIN).
    fn finish(&mut self);

    /// Ends it now, so that the other end sees an error and not an end (RST).
    fn reset(&mut self);

    /// From now on bytes that come in wait until they are asked for, where they otherwise go to the local socket by themselves. Before
    /// the first are received.
    fn hold(&mut self) {}

    /// When the peer's first byte came in, where the transport notes it.
    fn first_byte(&self) -> Option<Instant> {
        None
    }
}

/// How a stream failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The local socket: the peer has to be told with [`TunnelStream::reset`].
    #[error("local socket: {0}")]
    Socket(#[from] io::Error),
    /// The peer reset it: the local socket has to be reset.
    #[error("reset by the peer")]
    Reset,
    /// Its tunnel ended: the local socket has to be reset.
    #[error("the tunnel ended")]
    TunnelLost,
}

/// Why a datagram does not go beside its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// The transport has no datagrams, here or at the peer.
    #[error("the transport has no datagrams")]
    Unsupported,
    /// It is larger than what the path takes at the moment, in bytes.
    #[error("the path takes no more than {0} bytes")]
    TooLarge(usize),
    /// The tunnel has ended.
    #[error("the tunnel ended")]
    TunnelLost,
}

/// Where a tunnel hands the streams that its peer opens.
pub trait Ingress: std::fmt::Debug {
    /// Takes a stream that `peer` opened. It must be accepted, refused or dropped in bounded time.
    fn incoming(&self, peer: &Rc<PeerIdentity>, request: OpenRequest, stream: Box<dyn TunnelStream>);

    /// A stream that the peer opened was refused: its tunnel carries as many as it may.
    fn is_full(&self);
}

/// Who is at the other end of a tunnel, as its certificate proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The linked cluster.
    pub cluster: isthmus_control_api::ClusterName,
    /// The gateway's SPIFFE id.
    pub id: SpiffeId,
    /// Which of its cluster's gateways it is, once its HELLO has told: its own word, and no proof.
    pub gateway: Cell<GatewayId>,
}
