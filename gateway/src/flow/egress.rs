//! The client's side of a flow: which cluster or endpoint, open, and copy. Once more, if the client has sent more meanwhile.

use super::{
    Ended,
    copy::{
        self,
        client::{ClientEnd, Flow},
        endpoint::EndpointEnd,
        stream::StreamEnd,
    },
    frame::Frames,
    idle::Idle,
    ingress::{aged, silence, stopped},
    reach::{Unreached, reach},
};
use crate::{
    close::Closed,
    core::Core,
    limit::Comer,
    meter::StreamMeter,
    metrics::{reasons::Dropped, streams::Side},
    peer::Target,
    stream::{Accepted, Asking, Established, doubted, guard::Guard},
    tunnel::{RefusalReason, StreamError},
    upstream,
};
use bytes::Bytes;
use isthmus_control_api::{ClusterName, Import, Listen, Timeouts};
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// How long a client's datagrams are dropped after its flow was refused for a limit.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Serves a flow to its end.
pub(super) async fn serve(core: &Rc<Core>, (listen, import): (&Listen, &Import), client: &mut ClientEnd) {
    loop {
        let mut meter = StreamMeter::new(core, Side::Egress, import.service.clone());
        let comer = Comer { source: Some(client.address.ip()), ..Comer::default() };
        let closed = match meter.admit(Side::Egress, &import.policy, comer) {
            Ok(()) => serve_once(core, (listen, import), client, &mut meter).await,
            Err(_) => Closed::Refused(RefusalReason::Limit),
        };
        if may_open_again(closed) && client.flow.has_waiting() && client.flow.how_closed().is_none() {
            meter.close(closed);
            client.flow.reopen();
            continue;
        }
        let left = if matches!(closed, Closed::Refused(_)) { Dropped::Unopened } else { Dropped::Ended };
        if closed == Closed::Refused(RefusalReason::Limit) {
            meter.held.give_up(Side::Egress);
            // What it says meanwhile is dropped: a client that goes on costs a flow a second, and not one for each datagram.
            let _ = tokio::time::timeout(REFUSED_FOR, ended(core, &client.flow)).await;
        }
        meter.datagrams_dropped(left, client.flow.abandon());
        return meter.close(closed);
    }
}

/// Whether a flow that ended so goes on if its client has said more meanwhile: its tunnel or its endpoint is lost, the peer thinks
/// that it is over, it has reached its age, or the client spoke while a silent flow said goodbye.
fn may_open_again(closed: Closed) -> bool {
    use Closed::{Fin, Idle, ResetLocal, ResetPeer, Timeout, TunnelLost};
    matches!(closed, TunnelLost | ResetPeer | ResetLocal | Fin | Idle | Timeout)
}

async fn serve_once(
    core: &Rc<Core>,
    (listen, import): (&Listen, &Import),
    client: &mut ClientEnd,
    meter: &mut StreamMeter<'_>,
) -> Closed {
    let (flow, address) = (client.flow.clone(), client.address);
    // In a box of its own, so that a flow that is open does not keep room for what opening it took.
    let opened = tokio::select! {
        biased;
        how = closed(&flow) => return how,
        opened = Box::pin(open(core, (listen, import), client, meter)) => opened,
    };
    match opened {
        Ok(Upstream::Cluster(cluster, accepted, early)) => {
            let mut idle = Idle::new(silence(core, &import.policy.timeouts), Instant::now());
            for datagram in datagrams(&early) {
                idle.up(Instant::now());
                meter.datagram_up(datagram.len());
            }
            let unsent = early[accepted.sent..].to_vec();
            drop(early);
            let mut upstream = StreamEnd::new(accepted.stream, unsent);
            let doubted = async {
                doubted(core, &Target::any(&cluster), &*accepted.tunnel, false).await;
                Ended::Stream(StreamError::TunnelLost)
            };
            let stop = aged(meter, &import.policy.timeouts, doubted);
            let ended = copy::copy(core, client, &mut upstream, &mut idle, meter, stop).await;
            close(core, ended, upstream).await
        }
        Ok(Upstream::Local(end, guard, timeouts)) => {
            local(core, import, client, (*end, &guard, &timeouts), meter).await
        }
        Err(closed) => {
            tracing::debug!(service = %import.service, from = %address, %closed, "a flow was not opened");
            closed
        }
    }
}

/// What has taken a flow.
enum Upstream<'a> {
    /// The cluster, and what it was sent, or is to be.
    Cluster(ClusterName, Accepted, Vec<u8>),
    Local(Box<(EndpointEnd, Idle)>, Guard<'a>, Timeouts),
}

/// Tries upstreams until one accepts.
async fn open<'a>(
    core: &'a Rc<Core>,
    (listen, import): (&Listen, &Import),
    client: &mut ClientEnd,
    meter: &mut StreamMeter<'_>,
) -> Result<Upstream<'a>, Closed> {
    let flow = client.flow.clone();
    let read = |cx: &mut Context<'_>, room: &mut [u8]| flow.poll_frames(cx, room).map(Ok);
    let mut asking = Asking::new(core, (listen, import), Some(client.address), &read, meter);
    loop {
        match asking.establish(meter).await? {
            Established::Cluster(cluster, accepted) => {
                meter.connected();
                flow.opened();
                return Ok(Upstream::Cluster(cluster, accepted, asking.early.bytes));
            }
            Established::Local(guard) => {
                flow.put_back(datagrams(&std::mem::take(&mut asking.early.bytes)).into_iter());
                let timeouts = match upstream::exported(core, &import.service)
                    .and_then(|export| upstream::admit(core, &export.policy, &asking.here(), meter).map(|()| export))
                {
                    Ok(export) => import.policy.timeouts.and(&export.policy.timeouts),
                    Err(refusal) => {
                        asking.refused(&refusal)?;
                        continue;
                    }
                };
                let mut idle = Idle::new(silence(core, &timeouts), Instant::now());
                match reach(core, (&import.service, asking.asker()), client, &mut idle, meter).await {
                    Ok(endpoint) => {
                        meter.connected();
                        flow.opened();
                        return Ok(Upstream::Local(Box::new((endpoint, idle)), guard, timeouts));
                    }
                    Err(Unreached::Refused(refusal, said)) => {
                        meter.held.give_up(Side::Ingress);
                        asking.refused(&refusal)?;
                        flow.put_back(said.into_iter());
                    }
                    Err(Unreached::Ended(Ended::Closed(how))) => return Err(how),
                    Err(Unreached::Ended(_)) => return Err(Closed::ResetLocal),
                }
            }
        }
    }
}

/// What whole frames hold.
fn datagrams(bytes: &[u8]) -> Vec<Bytes> {
    let mut frames = Frames::default();
    frames.add(bytes);
    std::iter::from_fn(|| frames.take().map(Bytes::copy_from_slice)).collect()
}

/// Serves a flow that stays in its cluster.
async fn local(
    core: &Rc<Core>,
    import: &Import,
    client: &mut ClientEnd,
    ((mut endpoint, mut idle), guard, timeouts): ((EndpointEnd, Idle), &Guard<'_>, &Timeouts),
    meter: &mut StreamMeter<'_>,
) -> Closed {
    let stop = aged(meter, timeouts, stopped(core, &import.service, &endpoint, guard));
    let ended = copy::copy(core, client, &mut endpoint, &mut idle, meter, stop).await;
    meter.datagrams_dropped(Dropped::Overflow, endpoint.connected.socket.overflowed());
    match ended {
        Ended::Endpoint(error) => {
            if !idle.was_answered() {
                endpoint.connected.failed();
            }
            Closed::from(&StreamError::Socket(error))
        }
        Ended::Closed(how) => how,
        Ended::Denied(by) => {
            meter.denied(by);
            Closed::Denied
        }
        Ended::Finished | Ended::Stream(_) => Closed::ResetLocal,
    }
}

/// Waits until somebody ends the flow, or the gateway drains.
async fn ended(core: &Core, flow: &Flow) {
    tokio::select! {
        _ = closed(flow) => {}
        () = core.common.draining.cancelled() => {}
    }
}

/// Waits until somebody ends the flow.
async fn closed(flow: &Flow) -> Closed {
    poll_fn(|cx| match flow.how_closed() {
        Some(how) => Poll::Ready(how),
        None => {
            flow.wait(cx);
            Poll::Pending
        }
    })
    .await
}

/// Tells the peer how it ended.
async fn close(core: &Core, ended: Ended, mut upstream: StreamEnd) -> Closed {
    match ended {
        Ended::Finished => {
            upstream.stream.finish();
            Closed::Fin
        }
        Ended::Stream(error) => Closed::from(&error),
        Ended::Endpoint(error) => Closed::from(&StreamError::Socket(error)),
        // The service's gateway decides.
        Ended::Denied(_) => Closed::Denied,
        Ended::Closed(how) => {
            upstream.finish(core).await;
            how
        }
    }
}

#[cfg(test)]
mod tests;
