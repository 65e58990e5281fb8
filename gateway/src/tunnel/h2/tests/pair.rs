//! Two ends of a tunnel in memory, local sockets, and peers that are not ours.

use super::super::*;
use crate::{
    socket::Socket,
    tunnel::{
        Source, StreamError,
        mux::{Introduction, Settings, budget::Budget},
    },
};
use std::{collections::VecDeque, io, os::fd::OwnedFd, pin::Pin, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::UnixStream,
    task::JoinHandle,
};

/// A stream as a tunnel hands it out.
pub(super) type Stream = Box<dyn TunnelStream>;

/// Keeps what a tunnel hands in.
#[derive(Default)]
pub(super) struct Offers {
    queue: RefCell<VecDeque<(OpenRequest, Stream)>>,
    arrived: tokio::sync::Notify,
}

impl std::fmt::Debug for Offers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Offers")
    }
}

impl Ingress for Offers {
    fn incoming(&self, _: &Rc<PeerIdentity>, request: OpenRequest, stream: Stream) {
        self.queue.borrow_mut().push_back((request, stream));
        self.arrived.notify_one();
    }

    fn is_full(&self) {}
}

impl Offers {
    pub(super) async fn next(&self) -> (OpenRequest, Stream) {
        loop {
            let next = self.queue.borrow_mut().pop_front();
            match next {
                Some(offer) => return offer,
                None => self.arrived.notified().await,
            }
        }
    }
}

/// West dialled, east accepted.
pub(super) struct Pair {
    pub(super) west: Rc<H2Tunnel>,
    pub(super) east: Rc<H2Tunnel>,
    pub(super) offers: Rc<Offers>,
    pub(super) west_end: JoinHandle<TunnelEnd>,
    pub(super) east_end: JoinHandle<TunnelEnd>,
}

/// Runs a test on a core of its own.
pub(super) fn on_a_core(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// A task of the test: it ends with the test's core.
pub(super) fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "the test's LocalSet owns it")]
    tokio::task::spawn_local(task)
}

pub(super) fn identity(cluster: &str) -> Rc<PeerIdentity> {
    let id = format!("spiffe://{cluster}.demo/ns/isthmus-system/sa/gateway").parse().unwrap();
    Rc::new(PeerIdentity { cluster: cluster.parse().unwrap(), id, gateway: Default::default() })
}

pub(super) fn request() -> OpenRequest {
    OpenRequest {
        service: ServicePort::tcp("shop/api".parse().unwrap(), 80),
        source: Source {
            id: "spiffe://west.demo/ns/shop/sa/web".parse().unwrap(),
            pod: None,
            address: Some("10.0.0.9:4711".parse().unwrap()),
        },
        sticky: false,
        elsewhere: false,
        traceparent: None,
    }
}

/// As a gateway of default limits has it.
pub(super) fn config() -> MuxConfig {
    limited(4096, 256 << 20)
}

/// Of `max_streams` and `memory`.
pub(super) fn limited(max_streams: u32, memory: usize) -> MuxConfig {
    let settings = Settings { window: 64 * 1024, max_streams, cores: 1, about: Introduction::UNKNOWN };
    MuxConfig { settings, budget: Arc::new(Budget::new(memory)) }
}

pub(super) async fn pair(config: &MuxConfig) -> Pair {
    pair_of(config, config).await
}

/// West, and east.
pub(super) async fn pair_of(dialler: &MuxConfig, acceptor: &MuxConfig) -> Pair {
    let (west, east) = tokio::io::duplex(64 * 1024);
    let offers = Rc::new(Offers::default());
    let dialled = async {
        let (tunnel, driver) = connect(west, identity("east"), dialler).await.unwrap();
        (tunnel, spawn(driver.run()))
    };
    // West waits for the settings that east's driver sends.
    let accepted = async {
        let (tunnel, driver) = accept(east, identity("west"), offers.clone(), acceptor).await.unwrap();
        (tunnel, spawn(driver.run()))
    };
    let ((west, west_end), (east, east_end)) = tokio::join!(dialled, accepted);
    Pair { west, east, offers, west_end, east_end }
}

impl Pair {
    /// A stream that east has accepted: both its ends.
    pub(super) async fn stream(&self) -> (Stream, Stream) {
        let mut west = self.west.open(&request()).unwrap();
        let (_, mut east) = self.offers.next().await;
        east.accept();
        opened(&mut west).await.unwrap();
        (west, east)
    }

    /// A stream whose ends are copied to and from two sockets, and the other ends of these.
    pub(super) async fn proxied(&self) -> (Proxied, Proxied) {
        let (west, east) = self.stream().await;
        (proxied(west), proxied(east))
    }
}

/// A proxied end of a stream: what a client or an endpoint sees, and how the copying ended.
pub(super) struct Proxied {
    pub(super) socket: UnixStream,
    pub(super) copied: JoinHandle<Result<(), StreamError>>,
}

pub(super) fn proxied(stream: Stream) -> Proxied {
    let (near, far) = sockets();
    Proxied { socket: far, copied: spawn(copy(stream, near)) }
}

/// A local socket of a gateway, and its other end.
pub(super) fn sockets() -> (Rc<Socket>, UnixStream) {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    (Rc::new(Socket::new(OwnedFd::from(near)).unwrap()), UnixStream::from_std(far).unwrap())
}

pub(super) async fn opened(stream: &mut Stream) -> Result<(), Refusal> {
    poll_fn(|cx| stream.poll_opened(cx)).await
}

/// Copies both ways until both have ended.
pub(super) async fn copy(mut stream: Stream, socket: Rc<Socket>) -> Result<(), StreamError> {
    let (mut sent, mut received) = (false, false);
    poll_fn(|cx| {
        while !received {
            match stream.poll_receive(cx, &socket) {
                Poll::Ready(n) => {
                    if n? == 0 {
                        received = true;
                        socket.finish();
                    }
                }
                Poll::Pending => break,
            }
        }
        while !sent {
            match stream.poll_send(cx, &socket) {
                Poll::Ready(n) => {
                    if n? == 0 {
                        sent = true;
                        stream.finish();
                    }
                }
                Poll::Pending => break,
            }
        }
        if sent && received { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

pub(super) async fn write(stream: &mut Stream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let n = poll_fn(|cx| stream.poll_write(cx, bytes)).await?;
        bytes = &bytes[n..];
    }
    Ok(())
}

/// Everything that comes out of a stream, up to its end.
pub(super) async fn read_all(stream: &mut Stream) -> Result<Vec<u8>, StreamError> {
    let (socket, mut far) = sockets();
    let mut all = vec![];
    loop {
        let n = poll_fn(|cx| stream.poll_receive(cx, &socket)).await?;
        if n == 0 {
            return Ok(all);
        }
        let start = all.len();
        all.resize(start + n, 0);
        far.read_exact(&mut all[start..]).await?;
    }
}

pub(super) async fn say(socket: &mut UnixStream, text: &[u8]) {
    socket.write_all(text).await.unwrap();
}

pub(super) async fn hear(socket: &mut UnixStream, text: &[u8]) {
    let mut heard = vec![0; text.len()];
    socket.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, text);
}

/// What is left up to the end.
pub(super) async fn hear_end(socket: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut rest = vec![];
    socket.read_to_end(&mut rest).await?;
    Ok(rest)
}

/// What a peer that is not ours does with its end of the connection.
pub(super) type Foreign = Pin<Box<dyn Future<Output = ()>>>;

/// West's tunnel to a server that is not ours.
pub(super) async fn to_foreign(server: impl FnOnce(DuplexStream) -> Foreign) -> (Rc<H2Tunnel>, JoinHandle<TunnelEnd>) {
    let (west, foreign) = tokio::io::duplex(64 * 1024);
    spawn(server(foreign));
    let (tunnel, driver) = connect(west, identity("east"), &config()).await.unwrap();
    (tunnel, spawn(driver.run()))
}
