//! Two ends of a tunnel, local sockets, and what is between.

use super::super::*;
use crate::{
    socket::{Socket, udp},
    tunnel::{Source, StreamError, driver::TunnelEnd, mux::Budget, tls::tests::Configs},
};
use isthmus_control_api::ServicePort;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use std::{future::poll_fn, os::fd::OwnedFd, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    task::JoinHandle,
};

/// A stream as a tunnel hands it out.
pub(super) type Stream = Box<dyn TunnelStream>;

/// Keeps what a tunnel hands in.
#[derive(Debug)]
struct Offers {
    offers: mpsc::Sender<Offer>,
    full: Rc<Cell<u32>>,
}

/// What was asked for, and the stream.
pub(super) struct Offer(pub(super) OpenRequest, pub(super) Stream);

impl Ingress for Offers {
    fn incoming(&self, _: &Rc<PeerIdentity>, request: OpenRequest, stream: Stream) {
        // Without room the stream is dropped, which resets it.
        let _ = self.offers.try_send(Offer(request, stream));
    }

    fn is_full(&self) {
        self.full.set(self.full.get() + 1);
    }
}

/// One end of a tunnel.
pub(super) struct End {
    pub(super) tunnel: QuicTunnel,
    pub(super) offers: mpsc::Receiver<Offer>,
    /// How often it was full.
    pub(super) full: Rc<Cell<u32>>,
    pub(super) end: JoinHandle<TunnelEnd>,
    pub(super) budget: Arc<Budget>,
    pub(super) endpoint: Endpoint,
}

/// Runs a test on a runtime as a core has it.
pub(super) fn on_a_core(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap().block_on(test);
}

/// A task of the test: it ends with the test's core.
pub(super) fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "the test's runtime owns it")]
    tokio::task::spawn_local(task)
}

pub(super) fn identity(cluster: &str) -> Rc<PeerIdentity> {
    let id = format!("spiffe://{cluster}.demo/ns/isthmus-system/sa/gateway").parse().unwrap();
    Rc::new(PeerIdentity { cluster: cluster.parse().unwrap(), id, gateway: Default::default() })
}

pub(super) fn request(cluster: &str) -> OpenRequest {
    OpenRequest {
        service: ServicePort::tcp("shop/api".parse().unwrap(), 80),
        source: Source {
            id: format!("spiffe://{cluster}.demo/ns/shop/sa/web").parse().unwrap(),
            pod: None,
            address: None,
        },
        sticky: false,
        elsewhere: false,
        traceparent: None,
    }
}

pub(super) const SETTINGS: Settings =
    Settings { window: 64 * 1024, max_streams: 100, cores: 1, about: crate::tunnel::mux::Introduction::UNKNOWN };

/// West dialled, east accepted; both are live.
pub(super) async fn pair() -> (End, End) {
    pair_with(SETTINGS, 64 << 20).await
}

pub(super) async fn pair_with(settings: Settings, memory: usize) -> (End, End) {
    let config = || MuxConfig { settings, budget: Arc::new(Budget::new(memory)) };
    let (west_config, east_config) = (config(), config());
    let ((dialled, west), (accepted, east)) = connect(EndpointConfig::default()).await;
    let mut west = start(dialled, west, Direction::Dialled, "east", west_config);
    let mut east = start(accepted, east, Direction::Accepted, "west", east_config);
    for end in [&mut west, &mut east] {
        end.tunnel.watch().wait_for(|&health| health == TunnelHealth::Live).await.unwrap();
    }
    (west, east)
}

/// East alone, and its peer's connection, with which a test can do what no gateway does.
pub(super) async fn by_hand() -> (Connection, Endpoint, End) {
    by_hand_with(SETTINGS).await
}

pub(super) async fn by_hand_with(settings: Settings) -> (Connection, Endpoint, End) {
    let config = MuxConfig { settings, budget: Arc::new(Budget::new(64 << 20)) };
    let ((dialled, west), (accepted, east)) = connect(EndpointConfig::default()).await;
    (dialled, west, start(accepted, east, Direction::Accepted, "west", config))
}

/// A connection: west's end, and east's.
pub(super) async fn connect(west_endpoint: EndpointConfig) -> ((Connection, Endpoint), (Connection, Endpoint)) {
    let configs = Configs::new();
    let crypto = QuicServerConfig::try_from(configs.server.clone()).unwrap();
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(endpoint::transport_config());
    let bind = || udp::bind_any("127.0.0.1:1".parse().unwrap()).unwrap();
    let new = |config, server| Endpoint::new(config, server, bind(), Arc::new(TokioRuntime)).unwrap();
    let (west, east) = (new(west_endpoint, None), new(EndpointConfig::default(), Some(server)));
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(configs.client.clone()).unwrap()));
    client.transport_config(endpoint::transport_config());
    let address = ([127, 0, 0, 1], east.local_addr().unwrap().port()).into();
    let dialling = west.connect_with(client, address, &configs.name.to_str()).unwrap();
    let accepting = async { east.accept().await.unwrap().await };
    let (dialled, accepted) = tokio::try_join!(dialling, accepting).unwrap();
    ((dialled, west), (accepted, east))
}

pub(super) fn start(
    connection: Connection,
    endpoint: Endpoint,
    direction: Direction,
    peer: &str,
    config: MuxConfig,
) -> End {
    let ((sender, offers), full) = (mpsc::channel(128), Rc::default());
    let ingress = Rc::new(Offers { offers: sender, full: Rc::clone(&full) });
    let (tunnel, driver) = QuicTunnel::start(connection, direction, identity(peer), ingress, &config);
    End { tunnel, offers, full, end: spawn(driver.run()), budget: config.budget, endpoint }
}

/// A stream that the other side has accepted: both its ends.
pub(super) async fn stream(from: &End, to: &mut End) -> (Stream, Stream) {
    let cluster = if from.tunnel.status().direction == Direction::Dialled { "west" } else { "east" };
    let mut ours = from.tunnel.open(&request(cluster)).unwrap();
    let Offer(asked, mut theirs) = to.offers.recv().await.unwrap();
    assert_eq!(asked, request(cluster));
    theirs.accept();
    opened(&mut ours).await.unwrap();
    (ours, theirs)
}

pub(super) async fn opened(stream: &mut Stream) -> Result<(), Refusal> {
    poll_fn(|cx| stream.poll_opened(cx)).await
}

/// A proxied end of a stream: what a client or an endpoint sees, and how the copying ended.
pub(super) struct Proxied {
    pub(super) socket: UnixStream,
    pub(super) copied: JoinHandle<Result<(), StreamError>>,
}

pub(super) async fn proxied(from: &End, to: &mut End) -> (Proxied, Proxied) {
    let (ours, theirs) = stream(from, to).await;
    (proxy(ours), proxy(theirs))
}

pub(super) fn proxy(stream: Stream) -> Proxied {
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

/// Copies both ways until both have ended, a piece of each in turn.
async fn copy(mut stream: Stream, socket: Rc<Socket>) -> Result<(), StreamError> {
    let (mut sent, mut received) = (false, false);
    poll_fn(|cx| {
        let mut again = false;
        if !received && let Poll::Ready(n) = stream.poll_receive(cx, &socket) {
            received = n? == 0;
            again = true;
            if received {
                socket.finish();
            }
        }
        if !sent && let Poll::Ready(n) = stream.poll_send(cx, &socket) {
            sent = n? == 0;
            again = true;
            if sent {
                stream.finish();
            }
        }
        if sent && received {
            return Poll::Ready(Ok(()));
        }
        if again {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
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
    assert!(heard == text, "the bytes differ");
}

/// What is left up to the end.
pub(super) async fn hear_end(socket: &mut UnixStream) -> Vec<u8> {
    let mut rest = vec![];
    socket.read_to_end(&mut rest).await.unwrap();
    rest
}
