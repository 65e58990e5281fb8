//! Finds an endpoint that is there. A socket to one is made without a word to it; only datagrams tell.

use super::{
    Ended,
    copy::{self, Delivery, End, endpoint::EndpointEnd},
    idle::Idle,
};
use crate::{
    balance::Tried,
    core::Core,
    meter::StreamMeter,
    metrics::reasons::Dropped,
    tunnel::Refusal,
    upstream::{self, Asker},
};
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

/// Finds an endpoint of `service` that takes what `client` says, and gives it that: the asker's own one first, if it is to stay with one.
///
/// # Errors
/// See [`Unreached`].
pub(super) async fn reach<C: End>(
    core: &Rc<Core>,
    (service, asker): (&ServicePort, Asker),
    client: &mut C,
    idle: &mut Idle,
    meter: &mut StreamMeter<'_>,
) -> Result<EndpointEnd, Unreached> {
    let (mut tried, mut last) = (Tried::default(), None);
    let mut asking = Asking { core, client, idle, meter, said: Said::default() };
    loop {
        let connected = match upstream::connect_flow(core, service, asker, asking.meter, &mut tried, last.take()) {
            Ok(connected) => connected,
            Err(refusal) => return Err(Unreached::Refused(refusal, asking.said.kept)),
        };
        let mut endpoint = EndpointEnd::new(connected, &core.queued);
        let begun = Instant::now();
        match asking.ask(&mut endpoint).await {
            Ok(answered) => {
                if answered {
                    endpoint.connected.answered(begun.elapsed());
                } else {
                    endpoint.connected.silent();
                }
                return Ok(endpoint);
            }
            Err(Ended::Endpoint(error)) => {
                tracing::debug!(%service, address = ?endpoint.connected.address(), %error, "an endpoint failed");
                endpoint.connected.failed();
                asking.meter.datagrams_dropped(Dropped::Unsent, std::mem::take(&mut asking.said.more));
                last = Some(error);
            }
            Err(ended) => return Err(Unreached::Ended(ended)),
        }
    }
}

/// A client that asks one endpoint after the other.
struct Asking<'a, 'm, C> {
    core: &'a Core,
    client: &'a mut C,
    idle: &'a mut Idle,
    meter: &'a mut StreamMeter<'m>,
    said: Said,
}

/// What the client has said so far, to be said again.
#[derive(Default)]
struct Said {
    kept: Vec<Bytes>,
    bytes: usize,
    /// Datagrams that were not kept.
    more: u64,
}

impl<C: End> Asking<'_, '_, C> {
    /// Waits until `endpoint` has answered (true), or has not said in time that it is not there.
    async fn ask(&mut self, endpoint: &mut EndpointEnd) -> Result<bool, Ended> {
        for datagram in &self.said.kept {
            let _ = poll_fn(|cx| endpoint.poll_deliver(cx, datagram)).await?;
        }
        // A client that has said nothing yet is let in as well.
        let word = poll_fn(|cx| {
            self.hear(cx, endpoint)?;
            endpoint.poll_word(cx).map_err(Ended::Endpoint)
        });
        match tokio::time::timeout(GRACE, word).await {
            Ok(word) => word.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Passes on what the client says meanwhile.
    fn hear(&mut self, cx: &mut Context<'_>, endpoint: &mut EndpointEnd) -> Result<(), Ended> {
        while let Poll::Ready(datagram) = self.client.poll_next(cx, &mut self.core.scratch.borrow_mut()) {
            let datagram = datagram?;
            let delivered = endpoint.poll_deliver(cx, &datagram);
            self.said.keep(datagram.clone());
            let (delivery, failed) = match delivered {
                Poll::Ready(Ok(delivery)) => (delivery, None),
                // It was kept, and goes to the next endpoint.
                Poll::Ready(Err(ended)) => (Delivery::Done, Some(ended)),
                Poll::Pending => (Delivery::Dropped(Dropped::Unsent), None),
            };
            copy::up_one(self.core, self.idle, self.meter, delivery, datagram.len());
            if let Some(ended) = failed {
                return Err(ended);
            }
        }
        Ok(())
    }
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
