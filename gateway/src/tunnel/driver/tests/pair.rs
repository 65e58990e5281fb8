//! Two tunnels with their drivers, and streams between local sockets.

use super::super::*;
use crate::{
    socket::Socket,
    tunnel::{
        Source, StreamError, mux,
        tls::{Wire, tests::Configs},
    },
};
use isthmus_control_api::ServicePort;
use std::{future::poll_fn, os::fd::OwnedFd, task::Poll};
use tokio::{
    net::UnixStream,
    sync::mpsc,
    task::{JoinHandle, LocalSet},
};

/// A stream as a tunnel hands it out.
pub(crate) type Stream = Box<dyn TunnelStream>;

/// Keeps what a tunnel hands in.
#[derive(Debug)]
struct Offers(mpsc::Sender<Offer>);

/// What was asked for, and the stream.
pub(crate) struct Offer(pub(crate) OpenRequest, pub(crate) Stream);

impl Ingress for Offers {
    fn incoming(&self, _: &Rc<PeerIdentity>, request: OpenRequest, stream: Stream) {
        // Without room the stream is dropped, which resets it.
        let _ = self.0.try_send(Offer(request, stream));
    }

    fn is_full(&self) {}
}

/// One end of the connection.
pub(crate) struct End {
    pub(crate) tunnel: MuxTunnel,
    pub(crate) offers: mpsc::Receiver<Offer>,
    pub(crate) end: JoinHandle<TunnelEnd>,
    pub(crate) budget: Arc<Budget>,
}

/// How long a test may take. Generous: it ends a test that hangs, it measures nothing.
const BOUND: Duration = Duration::from_mins(5);

impl End {
    /// Waits until the tunnel is so.
    pub(crate) async fn tunnel_is(&self, wanted: TunnelHealth) {
        self.tunnel.watch().wait_for(|&health| health == wanted).await.unwrap();
    }
}

/// Runs a test on a core of its own.
pub(crate) fn on_a_core(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(BOUND, test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, bounded);
}

/// Lets the other tasks of the core and its sockets go on until something is so.
pub(crate) async fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        tokio::task::yield_now().await;
    }
}

/// A task of the test: it ends with the test's core.
pub(crate) fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "the test's LocalSet owns it")]
    tokio::task::spawn_local(task)
}

pub(crate) fn identity(cluster: &str) -> Rc<PeerIdentity> {
    let id = format!("spiffe://{cluster}.demo/ns/isthmus-system/sa/gateway").parse().unwrap();
    Rc::new(PeerIdentity { cluster: cluster.parse().unwrap(), id, gateway: Default::default() })
}

pub(crate) fn request(cluster: &str) -> OpenRequest {
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

pub(crate) const SETTINGS: Settings =
    Settings { window: 64 * 1024, max_streams: 100, cores: 1, about: mux::Introduction::UNKNOWN };

/// West dialled, east accepted; both are live.
pub(crate) async fn pair() -> (End, End) {
    let (dialled, accepted) = Configs::new().pair().await;
    let mut west = start(dialled, Direction::Dialled, "east");
    let mut east = start(accepted, Direction::Accepted, "west");
    for end in [&mut west, &mut east] {
        end.tunnel.watch().wait_for(|&health| health == TunnelHealth::Live).await.unwrap();
    }
    (west, east)
}

pub(crate) fn start(handshaken: Handshaken, direction: Direction, peer: &str) -> End {
    start_with(handshaken, direction, peer, SETTINGS)
}

pub(crate) fn start_with(handshaken: Handshaken, direction: Direction, peer: &str, settings: Settings) -> End {
    crate::socket::tune_tunnel(&handshaken.socket, None).unwrap();
    start_over(handshaken, direction, peer, settings)
}

/// The same over any socket.
pub(crate) fn start_over(
    handshaken: Handshaken<impl Wire>,
    direction: Direction,
    peer: &str,
    settings: Settings,
) -> End {
    let (sender, offers) = mpsc::channel(128);
    let budget = Arc::new(Budget::new(64 << 20));
    let config = MuxConfig { settings, budget: budget.clone() };
    let ingress = Rc::new(Offers(sender));
    let (tunnel, driver) = MuxTunnel::start(handshaken, direction, identity(peer), ingress, &config).unwrap();
    End { tunnel, offers, end: spawn(driver.run()), budget }
}

/// A stream that the other side has accepted: both its ends.
pub(crate) async fn stream(from: &End, to: &mut End) -> (Stream, Stream) {
    let cluster = if from.tunnel.status().direction == Direction::Dialled { "west" } else { "east" };
    let mut ours = from.tunnel.open(&request(cluster)).unwrap();
    let Offer(asked, mut theirs) = to.offers.recv().await.unwrap();
    assert_eq!(asked, request(cluster));
    theirs.accept();
    opened(&mut ours).await.unwrap();
    (ours, theirs)
}

pub(crate) async fn opened(stream: &mut Stream) -> Result<(), Refusal> {
    poll_fn(|cx| stream.poll_opened(cx)).await
}

/// A proxied end of a stream: what a client or an endpoint sees, and how the copying ended.
pub(crate) struct Proxied {
    pub(crate) socket: UnixStream,
    pub(crate) copied: JoinHandle<Result<(), StreamError>>,
}

pub(crate) async fn proxied(from: &End, to: &mut End) -> (Proxied, Proxied) {
    let (ours, theirs) = stream(from, to).await;
    (proxy(ours), proxy(theirs))
}

pub(crate) fn proxy(stream: Stream) -> Proxied {
    proxy_with(stream, None)
}

/// `buffer`: how much the gateway's own socket takes while nobody reads.
pub(crate) fn proxy_with(stream: Stream, buffer: Option<usize>) -> Proxied {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    if let Some(buffer) = buffer {
        socket2::SockRef::from(&near).set_send_buffer_size(buffer).unwrap();
    }
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let near = Rc::new(Socket::new(OwnedFd::from(near)).unwrap());
    Proxied { socket: UnixStream::from_std(far).unwrap(), copied: spawn(copy(stream, near)) }
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
