//! The service's side of a flow: finds an endpoint, and copies.

use super::{
    Ended,
    copy::{self, endpoint::EndpointEnd, stream::StreamEnd},
    idle::Idle,
    reach::{Unreached, reach},
};
use crate::{
    close::Closed,
    core::Core,
    meter::StreamMeter,
    metrics::reasons::Dropped,
    stream::guard::Guard,
    tunnel::{StreamError, TunnelStream},
    upstream::{self, Asker, Opening},
};
use isthmus_control_api::{ServicePort, Timeouts};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// Serves a flow that a peer has opened; how it ended.
pub(crate) async fn serve(
    core: &Rc<Core>,
    opening: &Opening<'_>,
    mut stream: Box<dyn TunnelStream>,
    guard: &Guard<'_>,
    meter: &mut StreamMeter<'_>,
) -> Closed {
    let request = opening.request;
    let admitted = upstream::exported(core, &request.service)
        .and_then(|export| upstream::admit(core, &export.policy, opening, meter).map(|()| export));
    let policy = match admitted {
        Ok(export) => export.policy.clone(),
        Err(refusal) => {
            tracing::debug!(service = %request.service, %refusal, "refusing a flow");
            stream.refuse(&refusal);
            return Closed::Refused(refusal.reason);
        }
    };
    stream.take_datagrams();
    let mut client = StreamEnd::new(stream, Vec::new());
    let mut idle = Idle::at_endpoint(silence(core, &policy.timeouts), Instant::now());
    let mut endpoint = match reach(core, (&request.service, Asker::of(request)), &mut client, &mut idle, meter).await {
        Ok(endpoint) => endpoint,
        Err(Unreached::Refused(refusal, _)) => {
            tracing::debug!(service = %request.service, %refusal, "refusing a flow");
            client.stream.refuse(&refusal);
            return Closed::Refused(refusal.reason);
        }
        Err(Unreached::Ended(ended)) => return close(core, ended, client, None, meter).await,
    };
    meter.connected();
    client.stream.accept();
    let stop = aged(meter, &policy.timeouts, stopped(core, &request.service, &endpoint, guard));
    let ended = copy::copy(core, &mut client, &mut endpoint, &mut idle, meter, stop).await;
    meter.datagrams_dropped(Dropped::Overflow, endpoint.connected.socket.overflowed());
    close(core, ended, client, Some((endpoint, idle)), meter).await
}

/// How long a flow may be silent.
pub(super) fn silence(core: &Core, timeouts: &Timeouts) -> Duration {
    timeouts.idle.unwrap_or(core.common.config.udp_idle)
}

/// Waits for `stop`, or until the flow has reached its age.
pub(super) fn aged<S: Future<Output = Ended>>(
    meter: &mut StreamMeter<'_>,
    timeouts: &Timeouts,
    stop: S,
) -> impl Future<Output = Ended> + use<S> {
    let expiry = meter.held.watch(&Timeouts { max_age: timeouts.max_age, ..Timeouts::default() });
    async move {
        let Some(expiry) = expiry else { return stop.await };
        tokio::select! {
            biased;
            ended = stop => ended,
            _ = expiry => Ended::Closed(Closed::Timeout),
        }
    }
}

/// Waits until the flow is not to go on: its endpoint is gone, or an access policy denies it.
pub(super) fn stopped<'g, 'c>(
    core: &Rc<Core>,
    service: &ServicePort,
    endpoint: &EndpointEnd,
    guard: &'g Guard<'c>,
) -> impl Future<Output = Ended> + use<'g, 'c> {
    let withdrawn = withdrawn(core, service, endpoint);
    async move {
        tokio::select! {
            biased;
            by = guard.denied() => Ended::Denied(by),
            ended = withdrawn => ended,
        }
    }
}

/// Waits until the endpoint is no longer in the table: a TCP connection would tell of its end, a flow would go on for nothing.
fn withdrawn(core: &Rc<Core>, service: &ServicePort, endpoint: &EndpointEnd) -> impl Future<Output = Ended> + use<> {
    let (core, service, address) = (core.clone(), service.clone(), endpoint.connected.address());
    async move {
        loop {
            let changed = core.changed.notified();
            let is_there = core
                .table
                .borrow()
                .exports
                .get(&service)
                .is_some_and(|export| export.endpoints.iter().any(|endpoint| Some(endpoint.address) == address));
            if !is_there {
                return Ended::Endpoint(std::io::ErrorKind::NotFound.into());
            }
            changed.await;
        }
    }
}

/// Tells the balancer and the peer how it ended.
async fn close(
    core: &Core,
    ended: Ended,
    mut client: StreamEnd,
    endpoint: Option<(EndpointEnd, Idle)>,
    meter: &mut StreamMeter<'_>,
) -> Closed {
    match ended {
        Ended::Finished => {
            client.stream.finish();
            Closed::Fin
        }
        Ended::Stream(error) => Closed::from(&error),
        Ended::Endpoint(error) => {
            tracing::debug!(%error, "an endpoint failed");
            if let Some((endpoint, idle)) = endpoint
                && !idle.was_answered()
            {
                endpoint.connected.failed();
            }
            // The client's next datagram begins a flow to another one.
            client.stream.reset();
            Closed::from(&StreamError::Socket(error))
        }
        Ended::Denied(by) => {
            meter.denied(by);
            client.stream.reset();
            Closed::Denied
        }
        Ended::Closed(how) => {
            drop(endpoint);
            client.finish(core).await;
            how
        }
    }
}
