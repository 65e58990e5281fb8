//! Opens a stream to another cluster, while the client may be sending already.

use crate::{
    core::Core,
    peer::{Opened, Target},
    stream::{copy::Tally, early::Early},
    tunnel::{OpenRequest, Refusal, RefusalReason, Tunnel, TunnelHealth, TunnelStream},
};
use isthmus_control_api::{ClusterName, GatewayId};
use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

/// Bytes of a client that are kept until its stream is accepted, so that another cluster can be tried with nothing lost.
const EARLY: usize = 64 * 1024;
/// How much longer than one endpoint may take to accept a connection the peer may take to answer an OPEN: for the way there and
/// back, and for an endpoint that refuses before another is tried. It is also how long one of several gateways may take while
/// another one can be asked.
const ANSWER: Duration = Duration::from_secs(3);

/// Reads what a client sends meanwhile, 0 bytes being its end.
pub(crate) type Read<'a> = &'a dyn Fn(&mut Context<'_>, &mut [u8]) -> Poll<io::Result<usize>>;

/// A stream that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: Box<dyn TunnelStream>,
    pub(crate) tunnel: Rc<dyn Tunnel>,
    /// How much of what was read early it has taken.
    pub(crate) sent: usize,
}

impl Accepted {
    /// The stream, and what it has not taken of `early`, if there is any; the rest is counted.
    pub(super) fn begin(self, mut early: Early, tally: &mut impl Tally) -> (Box<dyn TunnelStream>, Option<Box<Early>>) {
        tally.sent(self.sent as u64);
        // Most peers have taken all, and what they have is not kept.
        let bytes = early.bytes.split_off(self.sent);
        (self.stream, (early.ended || !bytes.is_empty()).then(|| Box::new(Early { bytes, ..early })))
    }
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenFailed {
    /// The client has gone.
    #[error("the client has gone")]
    Client,
    /// The peer, or the lack of a tunnel.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Opens a stream to `cluster`, to its gateway `only` if one is named. What the client sends meanwhile goes along, and is kept in
/// `early` in case it is refused. `may_retry`: whether it may be tried on another tunnel;
/// one that was lost says nothing of the service, and nobody is asked.
pub(super) async fn open(
    core: &Core,
    (cluster, only): (&ClusterName, Option<GatewayId>),
    request: &OpenRequest,
    read: Read<'_>,
    early: &mut Early,
    may_retry: &mut dyn FnMut() -> bool,
) -> Result<Accepted, OpenFailed> {
    let opening = async {
        let mut target = Target { cluster, only, not: Vec::new() };
        for _ in 1..TUNNELS {
            let (refusal, tunnel) = match open_on_one(core, &target, request, read, early).await {
                Ok(accepted) => {
                    core.peers.unshun(&request.service, accepted.tunnel.gateway());
                    return Ok(accepted);
                }
                Err(failed) => failed,
            };
            let OpenFailed::Refused(refused) = &refusal else { return Err(refusal) };
            let is_free = match tunnel {
                // A tunnel may fail before the peer has answered, while another one, over another transport, say, goes on.
                Some(_) if refused.reason == RefusalReason::TunnelLost => true,
                // What one gateway cannot do, another one of the cluster may.
                Some(tunnel) if refused.retry && tunnel.is_known() => {
                    core.peers.shun(&request.service, tunnel);
                    target.not.push(tunnel);
                    false
                }
                _ => return Err(refusal),
            };
            if !core.peers.has(&target) || !(is_free || may_retry()) {
                return Err(refusal);
            }
        }
        open_on_one(core, &target, request, read, early).await.map_err(|(failed, _)| failed)
    };
    let limit = core.common.config.connect_timeout.saturating_add(ANSWER);
    tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
        let message = format!("{cluster} did not answer within {} s", limit.as_secs());
        Err(Refusal { reason: RefusalReason::Timeout, message, retry: true }.into())
    })
}

/// Tunnels to one cluster that a stream is tried on.
const TUNNELS: usize = 5;

/// Opens a stream on one tunnel; or why not, and which gateway has said so, if another one of its cluster may say otherwise.
async fn open_on_one(
    core: &Core,
    target: &Target<'_>,
    request: &OpenRequest,
    read: Read<'_>,
    early: &mut Early,
) -> Result<Accepted, (OpenFailed, Option<GatewayId>)> {
    let (mut stream, tunnel) = ask(core, target, request).await.map_err(|refusal| (refusal.into(), None))?;
    if !request.service.protocol.is_tcp() {
        stream.take_datagrams();
    }
    let mut sent = 0;
    let opened = poll_fn(|cx| poll_open(cx, core, &mut *stream, read, early, &mut sent));
    tokio::select! {
        biased;
        opened = opened => opened.map_err(|failed| {
            // Its other gateways would ask the same endpoints.
            let gateway = (!gives_way(request, &failed) && !is_of_source(&failed)).then(|| tunnel.gateway());
            (failed, gateway)
        })?,
        () = doubted(core, target, &*tunnel, request.elsewhere) => {
            let message = format!("a tunnel to {} does not answer", target.cluster);
            let refusal = Refusal { reason: RefusalReason::TunnelLost, message, retry: true };
            return Err((refusal.into(), Some(tunnel.gateway())));
        }
        () = others_turn(core, target, tunnel.gateway()) => {
            let message = format!("a gateway of {} did not answer within {} s", target.cluster, ANSWER.as_secs());
            let refusal = Refusal { reason: RefusalReason::Timeout, message, retry: true };
            return Err((refusal.into(), Some(tunnel.gateway())));
        }
    }
    Ok(Accepted { stream, tunnel, sent })
}

/// Whether a cluster's endpoints are late, or do not take the client's own address, and the stream is to go elsewhere.
pub(super) fn gives_way(request: &OpenRequest, failed: &OpenFailed) -> bool {
    let is_late = matches!(failed, OpenFailed::Refused(refusal) if refusal.reason == RefusalReason::Timeout);
    request.elsewhere && (is_late || is_of_source(failed))
}

/// Whether it is about the client's own address: that says nothing of the cluster, nor of its gateway.
pub(super) fn is_of_source(failed: &OpenFailed) -> bool {
    matches!(failed, OpenFailed::Refused(refusal) if refusal.reason == RefusalReason::Source)
}

/// How long a stream waits for tunnels to make room for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks for a stream. Where windows have to get smaller before there is room for it, it waits a little.
async fn ask(core: &Core, target: &Target<'_>, request: &OpenRequest) -> Result<Opened, Refusal> {
    let is_full = |asked: &Result<Opened, Refusal>| matches!(asked, Err(Refusal { reason: RefusalReason::Limit, .. }));
    let mut asked = core.peers.open(target, request);
    if is_full(&asked) {
        let waiting = async {
            while is_full(&asked) && core.peers.room(target).await {
                asked = core.peers.open(target, request);
            }
        };
        // Late or not: what was answered last counts.
        let _ = tokio::time::timeout(PATIENCE, waiting).await;
    }
    asked
}

/// Waits until a gateway has had its time, and another one of its cluster can be asked.
async fn others_turn(core: &Core, target: &Target<'_>, gateway: GatewayId) {
    tokio::time::sleep(ANSWER).await;
    loop {
        let changed = core.changed.notified();
        if gateway.is_known() && core.peers.has_beside(target, gateway) {
            return;
        }
        changed.await;
    }
}

/// Waits until a tunnel's peer does not answer any more while another tunnel leads there, or the stream may go `elsewhere`.
pub(crate) async fn doubted(core: &Core, target: &Target<'_>, tunnel: &dyn Tunnel, elsewhere: bool) {
    loop {
        let changed = core.changed.notified();
        if tunnel.health() == TunnelHealth::Unresponsive && (elsewhere || core.peers.has(target)) {
            return;
        }
        changed.await;
    }
}

fn poll_open(
    cx: &mut Context<'_>,
    core: &Core,
    stream: &mut dyn TunnelStream,
    read: Read<'_>,
    early: &mut Early,
    sent: &mut usize,
) -> Poll<Result<(), OpenFailed>> {
    loop {
        while !early.is_held && *sent < early.bytes.len() {
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
        match read(cx, &mut scratch[..room]) {
            Poll::Ready(Ok(0)) => early.ended = true,
            Poll::Ready(Ok(n)) => early.bytes.extend_from_slice(&scratch[..n]),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(OpenFailed::Client)),
            Poll::Pending => return Poll::Pending,
        }
    }
}
