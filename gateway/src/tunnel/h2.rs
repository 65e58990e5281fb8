//! Tunnels over HTTP/2: one CONNECT per stream, as HBONE has it, so that Envoy and ztunnel can be at the other end (docs/hbone.md).
//!
//! ```text
//! stream tasks ──read sockets into chunks──▶ h2 ──frames──▶ gather ──one flush──▶ TLS     (driver)
//! local sockets ◀──written by stream tasks── h2 ◀──frames── TLS                           (driver)
//! ```
//!
//! In HTTP/2 only the client opens streams, so only the side that dialled does: [`Tunnel::open`] on an accepted tunnel refuses. A
//! link that carries streams both ways over h2 needs a tunnel dialled by each side.
//!
//! Flow control is per stream: [`windows`]. The window that all streams of a connection share is set as large as HTTP/2 has it, above
//! what all stream windows add up to: stalled streams cannot fill it and lock the others out.

use super::{
    Direction, Ingress, OpenRequest, PeerIdentity, Refusal, RefusalReason, Transport, Tunnel, TunnelHealth,
    TunnelStatus, TunnelStream,
    driver::{MuxConfig, TunnelEnd},
};
use http::Uri;
use isthmus_control_api::ServicePort;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

pub mod authority;
mod chunk;
mod driver;
mod gather;
pub mod refusal;
pub mod request;
pub mod source;
mod stream;
mod windows;

use chunk::{Chunk, Pool};
use driver::Connection;
pub use driver::Driver;
use stream::H2Stream;
use windows::Windows;

/// What all streams of a connection may have under way together: the most that HTTP/2 has (RFC 9113 section 6.9.1).
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// What a stream may hold here on its way out. It fills only while the connection itself is slow.
const SEND_BUFFER: usize = 128 * 1024;
/// The longest request or answer head.
const HEADERS: u32 = 16 * 1024;
/// Streams that the peer opened and reset before they were looked at, and streams that we have reset: beyond so many the peer is
/// misusing the connection, or is not told apart from one that does.
const RESETS: usize = 1024;
/// Services whose authority is kept for the next stream.
const URIS: usize = 256;

/// The longest DATA frame that the peer may send.
const FRAME: u32 = 64 * 1024;

/// What a stream may have under way towards us when a tunnel begins, and streams at the same time, each way: within what HTTP/2 allows,
/// and with so few streams that such windows together stay below the connection's.
fn checked(config: &MuxConfig) -> (u32, u32) {
    let window = config.settings.window.clamp(16 * 1024, CONNECTION_WINDOW / 2);
    (window, config.settings.max_streams.clamp(1, CONNECTION_WINDOW / window))
}

/// A live h2 tunnel.
#[derive(Debug)]
pub struct H2Tunnel(Rc<Shared>);

/// What the tunnel's handle, driver and streams share.
#[derive(Debug)]
struct Shared {
    direction: Direction,
    max_streams: usize,
    windows: RefCell<Windows>,
    /// Opens streams; `None` on an accepted tunnel and while draining.
    sender: RefCell<Option<h2::client::SendRequest<Chunk>>>,
    uris: RefCell<HashMap<ServicePort, Uri>>,
    pool: Rc<Pool>,
    health: watch::Sender<TunnelHealth>,
    rtt: Cell<Option<Duration>>,
    streams_out: Cell<usize>,
    streams_in: Cell<usize>,
    /// Streams have sent, or been given, something since the driver last looked.
    sent: Cell<bool>,
    received: Cell<bool>,
    order: Cell<Order>,
    driver: RefCell<Option<Waker>>,
    /// Cancelled when the driver has ended.
    ended: CancellationToken,
}

/// What the driver has been told to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Order {
    #[default]
    Run,
    Drain,
    Close,
}

/// Sets up a tunnel on a connection that this side dialled and that speaks `h2`. It returns once the peer has shown that it does,
/// however long that takes: the caller bounds it. The driver must be run; when it ends, the tunnel has.
///
/// # Errors
/// The connection ended, or the peer does not speak HTTP/2.
pub async fn connect<IO>(
    io: IO,
    peer: Rc<PeerIdentity>,
    config: &MuxConfig,
) -> Result<(Rc<H2Tunnel>, Driver<IO>), TunnelEnd>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (window, _) = checked(config);
    let (io, flusher) = gather::gather(io);
    let (sender, mut connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(window)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESETS)
        .handshake::<_, Chunk>(io)
        .await?;
    let settled = |cx: &mut Context<'_>| {
        if let Poll::Ready(end) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(end.map_err(TunnelEnd::from).and(Err(TunnelEnd::PeerClosed)));
        }
        if let Poll::Ready(Err(e)) = flusher.poll_flush(cx) {
            return Poll::Ready(Err(e.into()));
        }
        // The first that a server sends are its settings.
        if flusher.take_read() { Poll::Ready(Ok(())) } else { Poll::Pending }
    };
    poll_fn(settled).await?;
    let shared = Rc::new(Shared::new(Direction::Dialled, config, Some(sender)));
    let driver = Driver::new(Connection::Dialled(connection), flusher, shared.clone(), peer, None);
    Ok((Rc::new(H2Tunnel(shared)), driver))
}

/// Sets up a tunnel on a connection that the peer dialled and on which it wants to speak `h2`. It returns once the peer has begun to,
/// however long that takes: the caller bounds it. The driver must be run; when it ends, the tunnel has.
///
/// # Errors
/// The connection ended, or the peer does not speak HTTP/2.
pub async fn accept<IO>(
    io: IO,
    peer: Rc<PeerIdentity>,
    ingress: Rc<dyn Ingress>,
    config: &MuxConfig,
) -> Result<(Rc<H2Tunnel>, Driver<IO>), TunnelEnd>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (window, max_streams) = checked(config);
    let (io, flusher) = gather::gather(io);
    let connection = h2::server::Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(max_streams)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS)
        .handshake::<_, Chunk>(io)
        .await?;
    let shared = Rc::new(Shared::new(Direction::Accepted, config, None));
    let driver = Driver::new(Connection::Accepted(connection), flusher, shared.clone(), peer, Some(ingress));
    Ok((Rc::new(H2Tunnel(shared)), driver))
}

impl Tunnel for H2Tunnel {
    fn open(&self, request: &OpenRequest) -> Result<Box<dyn TunnelStream>, Refusal> {
        if !request.service.protocol.is_tcp() {
            let message = "an HTTP/2 tunnel carries no UDP".into();
            return Err(Refusal { reason: RefusalReason::NoEndpoint, message, retry: true });
        }
        let shared = &self.0;
        shared.may_open()?;
        let refuse = |reason, message: String| Refusal { reason, message, retry: true };
        let connect = shared.connect_request(request).map_err(|e| Refusal {
            retry: false,
            ..refuse(RefusalReason::NoSuchExport, format!("the request cannot be written: {e}"))
        })?;
        let mut sender = shared.sender.borrow_mut();
        let lost = || refuse(RefusalReason::Draining, "the tunnel takes no new streams".into());
        let sender = sender.as_mut().ok_or_else(lost)?;
        // The handle holds one stream that waits for the peer's limit; a second one is not taken.
        match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Err(lost()),
            Poll::Pending => return Err(refuse(RefusalReason::Limit, "the peer takes no more streams".into())),
        }
        let mut windows = shared.windows.borrow_mut();
        let window = windows.add(false);
        if window.is_none() && windows.news().is_none() {
            // Nobody makes room: it is not waited for.
            windows.note_refused();
        }
        drop(windows);
        let Some(window) = window else {
            shared.wake_driver();
            return Err(refuse(RefusalReason::Limit, "the memory budget is used up".into()));
        };
        let (answer, send) = sender.send_request(connect, false).map_err(|_| {
            shared.windows.borrow_mut().remove(window);
            lost()
        })?;
        Ok(Box::new(H2Stream::asked(shared.clone(), answer, send, window)))
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.0.may_open().is_err() {
            return Poll::Ready(false);
        }
        let room = self.0.windows.borrow_mut().poll_room(false, cx);
        if room.is_pending() {
            self.0.wake_driver();
        }
        room
    }

    fn status(&self) -> TunnelStatus {
        TunnelStatus {
            transport: Transport::H2,
            direction: self.0.direction,
            health: self.health(),
            rtt: self.0.rtt.get(),
            streams_out: self.0.streams_out.get(),
            streams_in: self.0.streams_in.get(),
            peer: None,
        }
    }

    fn transport(&self) -> Transport {
        Transport::H2
    }

    fn watch(&self) -> watch::Receiver<TunnelHealth> {
        self.0.health.subscribe()
    }

    fn health(&self) -> TunnelHealth {
        self.0.health()
    }

    fn load(&self) -> usize {
        self.0.streams_out.get() + self.0.streams_in.get()
    }

    fn can_open(&self) -> bool {
        self.0.direction == Direction::Dialled
    }

    fn drain(&self) {
        self.0.sender.take();
        if self.health() != TunnelHealth::Closed {
            self.0.set_health(TunnelHealth::Draining);
        }
        self.0.order(Order::Drain);
    }

    /// The last bytes of a stream that has ended may still be queued here: the driver ends when they have gone.
    fn flushed(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self.0.ended.cancelled())
    }

    fn close(&self) {
        self.0.order(Order::Close);
    }
}

impl Shared {
    fn new(direction: Direction, config: &MuxConfig, sender: Option<h2::client::SendRequest<Chunk>>) -> Self {
        let (window, max_streams) = checked(config);
        Self {
            direction,
            max_streams: max_streams as usize,
            windows: RefCell::new(Windows::new(window as usize, config.budget.clone())),
            sender: RefCell::new(sender),
            uris: RefCell::default(),
            pool: Rc::default(),
            health: watch::Sender::new(TunnelHealth::Live),
            rtt: Cell::default(),
            streams_out: Cell::default(),
            streams_in: Cell::default(),
            sent: Cell::default(),
            received: Cell::default(),
            order: Cell::default(),
            driver: RefCell::default(),
            ended: CancellationToken::new(),
        }
    }

    fn may_open(&self) -> Result<(), Refusal> {
        let refuse = |reason, message: &str| Err(Refusal { reason, message: message.into(), retry: true });
        match self.health() {
            TunnelHealth::Starting | TunnelHealth::Live | TunnelHealth::Unresponsive => {}
            TunnelHealth::Draining => return refuse(RefusalReason::Draining, "the tunnel is draining"),
            TunnelHealth::Closed => return refuse(RefusalReason::TunnelLost, "the tunnel has ended"),
        }
        if self.direction == Direction::Accepted {
            return refuse(RefusalReason::Limit, "over HTTP/2 only the side that dialled the tunnel opens streams");
        }
        let peers = self.sender.borrow().as_ref().map_or(0, h2::client::SendRequest::current_max_send_streams);
        if self.streams_out.get() >= self.max_streams.min(peers) {
            return refuse(RefusalReason::Limit, "the tunnel has as many streams as it may have");
        }
        Ok(())
    }

    fn connect_request(&self, request: &OpenRequest) -> Result<http::Request<()>, http::Error> {
        let mut uris = self.uris.borrow_mut();
        let uri = match uris.get(&request.service) {
            Some(uri) => uri.clone(),
            None => {
                let uri = request::uri(request)?;
                if uris.len() == URIS {
                    uris.clear();
                }
                uris.insert(request.service.clone(), uri.clone());
                uri
            }
        };
        request::encode(uri, request)
    }

    fn health(&self) -> TunnelHealth {
        *self.health.borrow()
    }

    fn set_health(&self, health: TunnelHealth) {
        self.health.send_if_modified(|was| std::mem::replace(was, health) != health);
    }

    fn order(&self, order: Order) {
        self.order.set(order);
        self.wake_driver();
    }

    fn wake_driver(&self) {
        if let Some(waker) = self.driver.borrow_mut().take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
