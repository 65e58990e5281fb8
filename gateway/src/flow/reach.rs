//! Finds an endpoint that is there. A socket to one is made without a word to it; only datagrams tell.

use super::{
    Ended,
    copy::{self, Delivery, End, endpoint::EndpointEnd},
    idle::Idle,
};
use crate::{balance::Tried, core::Core, meter::StreamMeter, metrics::reasons::Dropped, tunnel::Refusal, upstream};
use bytes::Bytes;
use isthmus_control_api::ServicePort;
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// How long an endpoint's host may take to say that nobody is there. Who answers nothing to a datagram is there as well.
const GRACE: Duration = Duration::from_millis(20);
/// Bytes that are kept to be said again to another endpoint.
const KEPT: usize = 64 * 1024;

/// Why no endpoint was reached.
pub(super) enum Unreached {
    /// None is there. What the client has said may be said elsewhere.
    Refused(Refusal, Vec<Bytes>),
    /// The client's side has ended meanwhile.
    Ended(Ended),
}

/// What the client has said so far, to be said again.
#[derive(Default)]
struct Said {
    kept: Vec<Bytes>,
    bytes: usize,
    /// Datagrams that were not kept.
    more: u64,
}

impl Said {
    fn keep(&mut self, datagram: Bytes) {
        if self.bytes + datagram.len() > KEPT {
            self.more += 1;
        } else {
            self.bytes += datagram.len();
            self.kept.push(datagram);
        }
    }
}

/// Finds an endpoint of `service` that takes what `client` says, and gives it that.
///
/// # Errors
/// See [`Unreached`].
pub(super) async fn reach(
    core: &Rc<Core>,
    service: &ServicePort,
    client: &mut impl End,
    idle: &mut Idle,
    meter: &mut StreamMeter<'_>,
) -> Result<EndpointEnd, Unreached> {
    let (mut said, mut tried, mut last) = (Said::default(), Tried::default(), None);
    loop {
        let connected = match upstream::connect_flow(core, service, meter, &mut tried, last.take()) {
            Ok(connected) => connected,
            Err(refusal) => return Err(Unreached::Refused(refusal, said.kept)),
        };
        let mut endpoint = EndpointEnd::new(connected);
        let begun = Instant::now();
        match try_one(core, &mut endpoint, client, &mut said, idle, meter).await {
            Ok(answered) => {
                if answered {
                    endpoint.connected.answered(begun.elapsed());
                }
                return Ok(endpoint);
            }
            Err(Ended::Endpoint(error)) => {
                tracing::debug!(%service, address = ?endpoint.connected.address(), %error, "an endpoint failed");
                endpoint.connected.failed();
                meter.retry();
                meter.datagrams_dropped(Dropped::Unsent, std::mem::take(&mut said.more));
                last = Some(error);
            }
            Err(ended) => return Err(Unreached::Ended(ended)),
        }
    }
}

/// Waits until `endpoint` has answered (true), or has not said in time that it is not there.
async fn try_one(
    core: &Core,
    endpoint: &mut EndpointEnd,
    client: &mut impl End,
    said: &mut Said,
    idle: &mut Idle,
    meter: &mut StreamMeter<'_>,
) -> Result<bool, Ended> {
    for datagram in &said.kept {
        let _ = poll_fn(|cx| endpoint.poll_deliver(cx, datagram)).await?;
    }
    // A client that has said nothing yet is let in as well.
    let word = poll_fn(|cx| {
        hear(cx, core, endpoint, client, said, idle, meter)?;
        endpoint.poll_word(cx).map_err(Ended::Endpoint)
    });
    match tokio::time::timeout(GRACE, word).await {
        Ok(word) => word.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// Passes on what the client says meanwhile.
fn hear(
    cx: &mut Context<'_>,
    core: &Core,
    endpoint: &mut EndpointEnd,
    client: &mut impl End,
    said: &mut Said,
    idle: &mut Idle,
    meter: &mut StreamMeter<'_>,
) -> Result<(), Ended> {
    while let Poll::Ready(datagram) = client.poll_next(cx, &mut core.scratch.borrow_mut()) {
        let datagram = datagram?;
        let delivery = match endpoint.poll_deliver(cx, &datagram) {
            Poll::Ready(Ok(delivery)) => delivery,
            Poll::Ready(Err(Ended::Endpoint(error))) => {
                said.keep(datagram);
                return Err(Ended::Endpoint(error));
            }
            Poll::Ready(Err(ended)) => return Err(ended),
            Poll::Pending => Delivery::Dropped(Dropped::Unsent),
        };
        copy::up_one(core, idle, meter, delivery, datagram.len());
        said.keep(datagram);
    }
    Ok(())
}
