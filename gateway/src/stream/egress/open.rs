//! Opens a stream to another cluster, while the client may be sending already.

use crate::{
    core::Core,
    meter::StreamMeter,
    socket::Socket,
    tunnel::{OpenRequest, Refusal, RefusalReason, StreamError, Tunnel, TunnelHealth, TunnelStream},
};
use isthmus_control_api::ClusterName;
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

/// Bytes of a client that are kept until its stream is accepted, so that another cluster can be tried with nothing lost.
const EARLY: usize = 64 * 1024;
/// How much longer than one endpoint may take to accept a connection the peer may take to answer an OPEN: for the way there and
/// back, and for an endpoint that refuses before another is tried.
const ANSWER: Duration = Duration::from_secs(3);

/// What a client has sent before its stream was accepted.
#[derive(Default)]
pub(super) struct Early {
    pub(super) bytes: Vec<u8>,
    pub(super) ended: bool,
    /// Bytes that the client has been sent meanwhile.
    pub(super) received: u64,
}

impl Early {
    /// Counts what has been sent already and frees it; whether the client has ended.
    pub(super) fn into_ended(self, meter: &mut StreamMeter<'_>) -> bool {
        meter.up(self.bytes.len() as u64);
        meter.down(self.received);
        self.ended
    }
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenFailed {
    /// The client has gone.
    #[error("the client has gone")]
    Client,
    /// The peer, or the lack of a tunnel.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Opens a stream to `cluster`. What the client sends meanwhile goes along, and is kept in `early` in case it is refused.
pub(super) async fn open(
    core: &Core,
    cluster: &ClusterName,
    request: &OpenRequest,
    socket: &Rc<Socket>,
    early: &mut Early,
) -> Result<Box<dyn TunnelStream>, OpenFailed> {
    let opening = async {
        // A tunnel may fail before the peer has answered, while another one, over another transport, say, goes on.
        for _ in 1..TUNNELS {
            let answer = open_on_one(core, cluster, request, socket, early).await;
            let lost =
                matches!(&answer, Err(OpenFailed::Refused(refusal)) if refusal.reason == RefusalReason::TunnelLost);
            if !lost || !core.peers.is_live(cluster) {
                return answer;
            }
        }
        open_on_one(core, cluster, request, socket, early).await
    };
    let limit = core.common.config.connect_timeout.saturating_add(ANSWER);
    let (mut stream, mut sent) = match tokio::time::timeout(limit, opening).await {
        Ok(opened) => opened?,
        Err(_) => {
            let message = format!("{cluster} did not answer within {} s", limit.as_secs());
            return Err(Refusal { reason: RefusalReason::Timeout, message, retry: true }.into());
        }
    };
    let rest = poll_fn(|cx| poll_rest(cx, &mut *stream, socket, early, &mut sent));
    tokio::select! {
        biased;
        sent = rest => sent?,
        // Nobody reads what would tell of the reset.
        () = socket.failed() => return Err(OpenFailed::Client),
    }
    Ok(stream)
}

/// Tunnels to one cluster that a stream is tried on.
const TUNNELS: usize = 3;

/// Opens a stream on one tunnel, and says how much of `early` it has taken.
async fn open_on_one(
    core: &Core,
    cluster: &ClusterName,
    request: &OpenRequest,
    socket: &Socket,
    early: &mut Early,
) -> Result<(Box<dyn TunnelStream>, usize), OpenFailed> {
    let (mut stream, tunnel) = core.peers.open(cluster, request)?;
    let mut sent = 0;
    let opened = poll_fn(|cx| poll_open(cx, core, &mut *stream, socket, early, &mut sent));
    tokio::select! {
        biased;
        opened = opened => opened?,
        () = doubted(core, cluster, &*tunnel) => {
            let message = format!("a tunnel to {cluster} does not answer");
            return Err(Refusal { reason: RefusalReason::TunnelLost, message, retry: true }.into());
        }
    }
    Ok((stream, sent))
}

/// Waits until a tunnel's peer does not answer any more while another tunnel leads there.
async fn doubted(core: &Core, cluster: &ClusterName, tunnel: &dyn Tunnel) {
    loop {
        let changed = core.changed.notified();
        if tunnel.health() == TunnelHealth::Unresponsive && core.peers.is_live(cluster) {
            return;
        }
        changed.await;
    }
}

/// Sends what of `early` the peer has given no credit for yet. The endpoint may want to be read before it reads on.
fn poll_rest(
    cx: &mut Context<'_>,
    stream: &mut dyn TunnelStream,
    socket: &Rc<Socket>,
    early: &mut Early,
    sent: &mut usize,
) -> Poll<Result<(), OpenFailed>> {
    while *sent < early.bytes.len() {
        match stream.poll_write(cx, &early.bytes[*sent..]) {
            Poll::Ready(Ok(n)) => *sent += n,
            // The stream is over, which the copy reports.
            Poll::Ready(Err(_)) => break,
            Poll::Pending => match stream.poll_receive(cx, socket) {
                Poll::Ready(Ok(n)) if n > 0 => early.received += n as u64,
                Poll::Ready(Err(StreamError::Socket(_))) => return Poll::Ready(Err(OpenFailed::Client)),
                Poll::Ready(Err(_)) => break,
                // An end is still there for the copy, and the client need not wait for that.
                Poll::Ready(Ok(_)) => {
                    socket.finish();
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            },
        }
    }
    Poll::Ready(Ok(()))
}

fn poll_open(
    cx: &mut Context<'_>,
    core: &Core,
    stream: &mut dyn TunnelStream,
    socket: &Socket,
    early: &mut Early,
    sent: &mut usize,
) -> Poll<Result<(), OpenFailed>> {
    loop {
        while *sent < early.bytes.len() {
            match stream.poll_write(cx, &early.bytes[*sent..]) {
                Poll::Ready(Ok(n)) => *sent += n,
                // What became of the stream, its answer tells.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        if let Poll::Ready(answer) = stream.poll_opened(cx) {
            return Poll::Ready(answer.map_err(OpenFailed::from));
        }
        let room = EARLY - early.bytes.len();
        if early.ended || room == 0 {
            return Poll::Pending;
        }
        let mut scratch = core.scratch.borrow_mut();
        match socket.poll_recv(cx, &mut scratch[..room]) {
            Poll::Ready(Ok(0)) => early.ended = true,
            Poll::Ready(Ok(n)) => early.bytes.extend_from_slice(&scratch[..n]),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(OpenFailed::Client)),
            Poll::Pending => return Poll::Pending,
        }
    }
}
