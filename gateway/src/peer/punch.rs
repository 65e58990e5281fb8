//! A direct path between two gateways behind NATs, found with the help of the relay between them.
//!
//! ```text
//! west ── where am I? ──▶ hub ◀── where am I? ── east      over QUIC, from the socket that both will use
//! west ◀════ inside the relayed tunnel: proposal, answer ════▶ east
//! west ── datagrams, QUIC ──▶ NAT ──── internet ──── NAT ◀── datagrams ── east
//! ```
//!
//! Each NAT lets in what comes from where something was sent to, so both send. What comes of it is a QUIC tunnel like any: its
//! handshake shows who is there. New streams take it while it is live, and the relayed one when it is not.

mod address;
mod message;
mod schedule;
mod turns;

pub(super) use schedule::Schedule;
pub(crate) use turns::Turns;

use super::{
    connect::{self, Dial},
    quic,
    relayed::carried,
};
use crate::{
    core::Core,
    metrics::reasons::{Bound, PunchResult},
    relay::{self, Over},
    reserved::Reserved,
    tunnel::{PeerIdentity, Refusal, RefusalReason, Tunnel, TunnelHealth, TunnelStream},
};
use isthmus_control_api::{ClusterName, TransportChoice};
use message::{LONGEST, Proposal, Role};
use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::{AddrParseError, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, sleep_until, timeout},
};
use turns::Turn;

/// How long a conversation may take.
const TALK: Duration = Duration::from_secs(5);
/// How long either side dials, or waits to be dialled: three of QUIC's first datagrams, a second apart.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Datagrams that open a NAT.
const OPENERS: u32 = 5;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(100);
/// Direct tunnels to a cluster that a core may have, whatever state they are in: more are not tried for.
const MOST: usize = 2;

/// Why there is no direct path, this time.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no address: {0}")]
    NoAddress(#[from] AddrParseError),
    #[error("{0}: {1}")]
    Unfit(SocketAddr, address::Unfit),
    #[error("it has {0} tunnels with us, and may have no more")]
    Full(usize),
    #[error("the other side did not answer within {} s", TALK.as_secs())]
    Silent,
    #[error("nobody got through to {0} within {limit} s", limit = ATTEMPT.as_secs())]
    Blocked(SocketAddr),
}

/// Tries for a direct tunnel to `cluster` whenever there is none, as long as the relayed one lives that this side has dialled.
/// `schedule` is that of all relayed tunnels to it, one after the other.
pub(super) async fn keep(
    core: &Rc<Core>,
    cluster: &ClusterName,
    hub: &ClusterName,
    relayed: &dyn Tunnel,
    schedule: &mut Schedule,
) -> Infallible {
    schedule.resume(Instant::now(), core.random());
    loop {
        let changed = core.changed.notified();
        let wanted = relayed.health() == TunnelHealth::Live
            && !core.peers.is_direct(cluster)
            && core.peers.count_direct(cluster) < MOST
            && core.peers.sees_us(hub);
        if !wanted {
            changed.await;
            continue;
        }
        if schedule.next() > Instant::now() {
            sleep_until(schedule.next().into()).await;
            continue;
        }
        let role = schedule.begin(Instant::now());
        match attempt(core, cluster, hub, relayed, role).await {
            Ok(()) => {
                core.counters.punched(PunchResult::Direct);
                tracing::info!(%cluster, "a direct path was found");
                schedule.worked(Instant::now(), core.random());
            }
            Err(why) => {
                core.counters.punched(PunchResult::Failed);
                tracing::debug!(%cluster, %why, "no direct path");
                schedule.failed(Instant::now(), core.random());
            }
        }
    }
}

/// One attempt, by the side that has dialled the relayed tunnel.
async fn attempt(
    core: &Rc<Core>,
    cluster: &ClusterName,
    hub: &ClusterName,
    relayed: &dyn Tunnel,
    role: Role,
) -> Result<(), Failed> {
    let ours = observed(core, hub).await?;
    let proposal = Proposal { yours: role.other(), address: ours };
    let answer = timeout(TALK, propose(core, relayed, proposal)).await.map_err(|_| Failed::Silent)??;
    let theirs = address::fit(answer, ours).map_err(|why| Failed::Unfit(answer, why))?;
    act(core, cluster, theirs, role).await
}

/// Serves a proposal that `peer` makes inside a tunnel that `hub` relays.
pub(crate) async fn serve(core: Rc<Core>, peer: Rc<PeerIdentity>, hub: ClusterName, mut stream: Box<dyn TunnelStream>) {
    let turn = match turn(&core, &peer.cluster) {
        Ok(turn) => turn,
        Err(refusal) => return stream.refuse(&refusal),
    };
    let ours = match observed(&core, &hub).await {
        Ok(ours) => ours,
        Err(why) => {
            let message = format!("it does not know its own address: {why}");
            return stream.refuse(&Refusal { reason: RefusalReason::NoEndpoint, message, retry: true });
        }
    };
    stream.accept();
    let done = match timeout(TALK, answer(&core, stream, ours)).await {
        Ok(Ok((theirs, role))) => {
            // The proposer has the answer by then: datagrams of both are on their way before either's arrive, which matters to a NAT
            // that remembers what came unasked.
            sleep(core.peers.round_trip(&peer.cluster).min(TALK) / 2).await;
            act(&core, &peer.cluster, theirs, role).await
        }
        Ok(Err(why)) => Err(why),
        Err(_) => Err(Failed::Silent),
    };
    match done {
        Ok(()) => turn.worked(),
        Err(why) => tracing::debug!(cluster = %peer.cluster, %why, "no direct path"),
    }
}

/// The cluster's turn to have us try, if there may be one more direct tunnel to it.
fn turn(core: &Core, cluster: &ClusterName) -> Result<Turn, Refusal> {
    let refusal = |message| Refusal { reason: RefusalReason::Limit, message, retry: true };
    if core.peers.count_direct(cluster) >= MOST {
        let own = &core.common.config.cluster;
        return Err(refusal(format!("{own} has {MOST} direct tunnels with {cluster} here, and tries for no more")));
    }
    core.quic.punching.take(cluster, Instant::now()).map_err(|why| refusal(why.to_string()))
}

/// Dials, or waits to be dialled.
async fn act(core: &Rc<Core>, cluster: &ClusterName, theirs: SocketAddr, role: Role) -> Result<(), Failed> {
    let done = match role {
        Role::Dial => timeout(ATTEMPT, dial(core, cluster, theirs)).await,
        Role::Wait => timeout(ATTEMPT, wait(core, cluster, theirs)).await,
    };
    done.unwrap_or(Err(Failed::Blocked(theirs)))
}

async fn dial(core: &Rc<Core>, cluster: &ClusterName, theirs: SocketAddr) -> Result<(), Failed> {
    let dial = Dial { transport: TransportChoice::Quic, address: theirs, anew: false, small: false };
    // It is the peer that has us dial, so it counts as one that the peer has dialled.
    let accepted = &core.common.accepted;
    let place = accepted.enter(cluster).ok_or_else(|| {
        core.counters.refused(Bound::TunnelsPerPeer);
        Failed::Full(accepted.limit())
    })?;
    let (mut running, peer) = connect::dial(core, cluster, &dial).await.map_err(|e| io::Error::other(e.to_string()))?;
    // It is no address of the link's: a link that dials some of its own would leave this one.
    running.address = None;
    running.place = Some(place);
    let mut health = running.tunnel.watch();
    let core_ = core.clone();
    core.tasks.spawn_local(async move { running.live(&core_, &peer).await });
    let live =
        health.wait_for(|&health| health != TunnelHealth::Starting).await.is_ok_and(|h| *h == TunnelHealth::Live);
    if live { Ok(()) } else { Err(Failed::Blocked(theirs)) }
}

async fn wait(core: &Rc<Core>, cluster: &ClusterName, theirs: SocketAddr) -> Result<(), Failed> {
    let before = core.peers.direct(cluster);
    let expecting = quic::expect(core, theirs)?;
    let open = async {
        for _ in 0..OPENERS {
            expecting.send_opener(theirs);
            sleep(PAUSE).await;
        }
        std::future::pending::<Infallible>().await
    };
    let direct = async {
        loop {
            let changed = core.changed.notified();
            let is_new = |tunnel: &Rc<dyn Tunnel>| !before.iter().any(|old| Rc::ptr_eq(old, tunnel));
            if core.peers.direct(cluster).iter().any(is_new) {
                return;
            }
            changed.await;
        }
    };
    tokio::select! {
        () = direct => Ok(()),
        never = open => match never {},
        never = expecting.accept(core) => match never {},
    }
}

/// Where the relay sees the datagrams come from that this core dials with.
async fn observed(core: &Rc<Core>, hub: &ClusterName) -> Result<SocketAddr, Failed> {
    let (stream, _) = relay::ask(core, hub, &Reserved::Address, Over::DialledQuic).await?;
    let (mut socket, _carrying) = carried(core, stream)?;
    let read = async {
        socket.shutdown().await?;
        line(&mut socket).await
    };
    let line = timeout(TALK, read).await.map_err(|_| Failed::Silent)??;
    Ok(line.parse()?)
}

/// Makes a proposal: the other side's address.
async fn propose(core: &Rc<Core>, relayed: &dyn Tunnel, proposal: Proposal) -> Result<SocketAddr, Failed> {
    let mut stream = relayed.open(&relay::request(core, &Reserved::Punch))?;
    poll_fn(|cx| stream.poll_opened(cx)).await?;
    let (mut socket, _carrying) = carried(core, stream)?;
    socket.write_all(proposal.to_string().as_bytes()).await?;
    socket.shutdown().await?;
    Ok(line(&mut socket).await?.parse()?)
}

/// Reads a proposal and answers it: where to send datagrams, and what to do.
async fn answer(
    core: &Rc<Core>,
    stream: Box<dyn TunnelStream>,
    ours: SocketAddr,
) -> Result<(SocketAddr, Role), Failed> {
    let (mut socket, carrying) = carried(core, stream)?;
    let proposal: Proposal = line(&mut socket).await?.parse().map_err(io::Error::other)?;
    let theirs = address::fit(proposal.address, ours).map_err(|why| Failed::Unfit(proposal.address, why))?;
    socket.write_all(ours.to_string().as_bytes()).await?;
    socket.shutdown().await?;
    carrying.finish();
    Ok((theirs, proposal.yours))
}

/// What comes, to the end.
async fn line(socket: &mut tokio::net::UnixStream) -> io::Result<String> {
    let mut line = String::new();
    socket.take(LONGEST).read_to_string(&mut line).await?;
    Ok(line)
}

#[cfg(test)]
mod tests;
