//! One endpoint that is being connected to, and what its end says of the endpoint.

use super::{
    asks::{Ask, Then},
    hedge,
    lease::Lease,
};
use crate::{
    core::{Core, said::Line},
    metrics::reasons::{EndpointSource, Hedge},
    socket::{Connecting, is_out_of_sockets},
};
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

/// One endpoint that is being connected to.
pub(super) struct Attempt {
    pub(super) lease: Lease,
    pub(super) address: SocketAddr,
    pub(super) connecting: Connecting,
    pub(super) begun: Instant,
    /// When it is late.
    pub(super) late_at: Instant,
    /// When it has failed.
    pub(super) until: Instant,
    /// Whether it was begun beside another one.
    pub(super) hedge: bool,
    /// Whether it comes from the client's own address: that it fails says nothing of the endpoint then.
    pub(super) transparent: bool,
    /// Whether it may join the local hop.
    pub(super) may_join: bool,
}

impl Attempt {
    /// It is waited for as long again before another one is looked for.
    pub(super) fn once_more(self) -> Self {
        let late_at = Instant::now() + hedge::patience(self.lease.usual());
        Self { late_at, ..self }
    }

    /// It has met `error`, or had its time.
    pub(super) fn fail(self, core: &Rc<Core>, error: &io::Error) {
        self.count_lost(core);
        let limit = self.limit();
        failed(core, self.lease, (self.address, limit), self.transparent, error);
    }

    /// Its stream does not wait for it any more. Whether it connects after all is of use to the next stream.
    pub(super) fn leave(self, core: &Rc<Core>) {
        self.count_lost(core);
        if !self.transparent {
            self.lease.overtaken();
        }
        core.tasks.spawn_local(see_out(core.clone(), self));
    }

    /// It was begun beside another one, and is not the one that has the stream.
    pub(super) fn count_lost(&self, core: &Core) {
        if self.hedge {
            core.counters.hedged(Hedge::Lost);
        }
    }

    fn limit(&self) -> Duration {
        self.until.saturating_duration_since(self.begun)
    }
}

/// A connection to the endpoint at that address, which may take so long, has met `error`. That there was no socket for it is not held
/// against the endpoint. Where it was to come from the client's own
/// address, the endpoint is connected to from the gateway's before that counts as its failure: who may use the service could have
/// endpoints left out otherwise, by an address that nothing leads to, that they reject, or whose ports are used up. However many fail
/// so, it is asked once at a time, and what it answers counts once. The others count for nothing; what they have probed stays out.
pub(super) fn failed(
    core: &Rc<Core>,
    lease: Lease,
    (address, limit): (SocketAddr, Duration),
    transparent: bool,
    error: &io::Error,
) {
    if is_out_of_sockets(error) {
        return drop(lease);
    }
    if !transparent {
        return lease.failed();
    }
    match core.asks.failed(address) {
        Then::Ask(ask) => {
            core.tasks.spawn_local(plainly(core.clone(), ask, lease, (address, limit), error.kind()));
        }
        // That the endpoint answers brings it back, whoever asked.
        Then::Wait => lease.put_off(),
        Then::Leave => {
            core.counters.endpoint_source(EndpointSource::Unasked);
            lease.put_off();
        }
    }
}

/// Waits until an endpoint that was overtaken has connected after all, or had its time, and closes the connection.
async fn see_out(core: Rc<Core>, attempt: Attempt) {
    let connecting = poll_fn(|cx| attempt.connecting.poll(cx));
    let ended = tokio::select! {
        biased;
        () = core.common.draining.cancelled() => return,
        connected = tokio::time::timeout_at(attempt.until.into(), connecting) => connected,
    };
    let error = match ended {
        Ok(Ok(())) => {
            attempt.lease.connected(attempt.begun.elapsed());
            if attempt.transparent {
                core.counters.endpoint_source(EndpointSource::Transparent);
            }
            return;
        }
        Ok(Err(error)) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    if attempt.transparent {
        let limit = attempt.limit();
        failed(&core, attempt.lease, (attempt.address, limit), true, &error);
    }
}

/// Connects to an endpoint from the gateway's own address, and sends nothing. From the client's it has met `error`.
async fn plainly(
    core: Rc<Core>,
    ask: Ask,
    lease: Lease,
    (address, limit): (SocketAddr, Duration),
    error: io::ErrorKind,
) {
    let begun = Instant::now();
    let connecting = async {
        let connecting = Connecting::begin(address, |_| ())?;
        poll_fn(|cx| connecting.poll(cx)).await
    };
    let connected = tokio::select! {
        biased;
        () = core.common.draining.cancelled() => return,
        connected = tokio::time::timeout(limit, connecting) => match connected {
            // There was no socket to find out with.
            Ok(Err(error)) if is_out_of_sockets(&error) => return lease.put_off(),
            connected => matches!(connected, Ok(Ok(()))),
        },
    };
    let source = if connected { EndpointSource::Unanswered } else { EndpointSource::Transparent };
    core.counters.endpoint_source_times(source, ask.failures());
    if connected {
        lease.connected(begun.elapsed());
        let service = lease.service();
        if core.may_say(Line::NoWayBack(service.clone()), Instant::now()) {
            tracing::warn!(%service, %error, "an endpoint takes connections from this gateway's address, but not from a client's own: `isthmus check` says what is missing");
        }
    } else {
        lease.failed();
    }
}
