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
    ingress::stopped,
    reach::{Unreached, reach},
};
use crate::{
    close::Closed,
    core::Core,
    meter::StreamMeter,
    metrics::{reasons::Dropped, streams::Side},
    peer::Target,
    stream::{Accepted, Asking, Established, doubted, guard::Guard},
    tunnel::StreamError,
};
use bytes::Bytes;
use isthmus_control_api::{ClusterName, Import};
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

/// Serves a flow to its end.
pub(super) async fn serve(core: &Rc<Core>, import: &Import, client: &mut ClientEnd) {
    loop {
        let mut meter = StreamMeter::new(core, Side::Egress, import.service.clone());
        let closed = serve_once(core, import, client, &mut meter).await;
        if may_open_again(closed) && client.flow.has_waiting() && client.flow.how_closed().is_none() {
            meter.close(closed);
            client.flow.reopen();
            continue;
        }
        let left = if matches!(closed, Closed::Refused(_)) { Dropped::Unopened } else { Dropped::Ended };
        meter.datagrams_dropped(left, client.flow.abandon());
        return meter.close(closed);
    }
}

/// Whether a flow that ended so goes on if its client has said more meanwhile: its tunnel or its endpoint is lost, the peer thinks
/// that it is over, or the client spoke while a silent flow said goodbye.
fn may_open_again(closed: Closed) -> bool {
    matches!(closed, Closed::TunnelLost | Closed::ResetPeer | Closed::ResetLocal | Closed::Fin | Closed::Idle)
}

async fn serve_once(core: &Rc<Core>, import: &Import, client: &mut ClientEnd, meter: &mut StreamMeter<'_>) -> Closed {
    let (flow, address) = (client.flow.clone(), client.address);
    // In a box of its own, so that a flow that is open does not keep room for what opening it took.
    let opened = tokio::select! {
        biased;
        how = closed(&flow) => return how,
        opened = Box::pin(open(core, import, client, meter)) => opened,
    };
    match opened {
        Ok(Upstream::Cluster(cluster, accepted, early)) => {
            let mut idle = Idle::new(core.common.config.udp_idle, Instant::now());
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
            let ended = copy::copy(core, client, &mut upstream, &mut idle, meter, doubted).await;
            close(core, ended, upstream).await
        }
        Ok(Upstream::Local(end, guard)) => local(core, import, client, (*end, &guard), meter).await,
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
    Local(Box<(EndpointEnd, Idle)>, Guard<'a>),
}

/// Tries upstreams until one accepts.
async fn open<'a>(
    core: &'a Rc<Core>,
    import: &Import,
    client: &mut ClientEnd,
    meter: &mut StreamMeter<'_>,
) -> Result<Upstream<'a>, Closed> {
    let flow = client.flow.clone();
    let read = |cx: &mut Context<'_>, room: &mut [u8]| flow.poll_frames(cx, room).map(Ok);
    let mut asking = Asking::new(core, import, Some(client.address), &read, meter);
    loop {
        match asking.establish(meter).await? {
            Established::Cluster(cluster, accepted) => {
                meter.connected();
                flow.opened();
                return Ok(Upstream::Cluster(cluster, accepted, asking.early.bytes));
            }
            Established::Local(guard) => {
                flow.put_back(datagrams(&std::mem::take(&mut asking.early.bytes)).into_iter());
                let mut idle = Idle::new(core.common.config.udp_idle, Instant::now());
                match reach(core, (&import.service, asking.asker()), client, &mut idle, meter).await {
                    Ok(endpoint) => {
                        meter.connected();
                        flow.opened();
                        return Ok(Upstream::Local(Box::new((endpoint, idle)), guard));
                    }
                    Err(Unreached::Refused(refusal, said)) => {
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
    ((mut endpoint, mut idle), guard): ((EndpointEnd, Idle), &Guard<'_>),
    meter: &mut StreamMeter<'_>,
) -> Closed {
    let stop = stopped(core, &import.service, &endpoint, guard);
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
