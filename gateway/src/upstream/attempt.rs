//! One endpoint that is being connected to, and what its end says of the endpoint.

use super::{hedge, lease::Lease};
use crate::{
    core::{Core, said::Line},
    metrics::reasons::{EndpointSource, Hedge},
    socket::Connecting,
};
use std::{future::poll_fn, io, net::SocketAddr, rc::Rc, time::Instant};

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
    /// Whether it comes from the client's own address: that it is not answered says nothing of the endpoint then.
    pub(super) transparent: bool,
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
        if self.transparent && error.kind() == io::ErrorKind::TimedOut {
            self.ask_plainly(core);
        } else {
            self.lease.failed();
        }
    }

    /// Finds out whether it was the endpoint that did not answer, or the client's address that answers do not come back from: who may
    /// use the service could have endpoints left out otherwise, by an address that nothing leads to.
    fn ask_plainly(self, core: &Rc<Core>) {
        let Self { lease, address, .. } = self;
        core.tasks.spawn_local(plainly(core.clone(), lease, address));
    }

    /// Its stream does not wait for it any more. Whether it connects after all is of use to the next stream.
    pub(super) fn leave(self, core: &Rc<Core>) {
        self.count_lost(core);
        if self.transparent {
            return self.ask_plainly(core);
        }
        self.lease.overtaken();
        core.tasks.spawn_local(see_out(core.clone(), self));
    }

    /// It was begun beside another one, and is not the one that has the stream.
    pub(super) fn count_lost(&self, core: &Core) {
        if self.hedge {
            core.counters.hedged(Hedge::Lost);
        }
    }
}

/// Waits until an endpoint that was overtaken has connected after all, or had its time, and closes the connection.
async fn see_out(core: Rc<Core>, attempt: Attempt) {
    let connecting = poll_fn(|cx| attempt.connecting.poll(cx));
    tokio::select! {
        biased;
        () = core.common.draining.cancelled() => {}
        connected = tokio::time::timeout_at(attempt.until.into(), connecting) => {
            if let Ok(Ok(())) = connected {
                attempt.lease.connected(attempt.begun.elapsed());
            }
        }
    }
}

/// Connects to an endpoint from the gateway's own address, and sends nothing.
async fn plainly(core: Rc<Core>, lease: Lease, address: SocketAddr) {
    let (begun, patience) = (Instant::now(), hedge::patience(lease.usual()));
    let Ok(connecting) = Connecting::begin(address, |_| ()) else { return lease.failed() };
    tokio::select! {
        biased;
        () = core.common.draining.cancelled() => {}
        connected = tokio::time::timeout(patience, poll_fn(|cx| connecting.poll(cx))) => match connected {
            Ok(Ok(())) => {
                lease.connected(begun.elapsed());
                core.counters.endpoint_source(EndpointSource::Unanswered);
                let service = lease.service();
                if core.may_say(Line::NoWayBack(service.clone()), Instant::now()) {
                    tracing::warn!(%service, "an endpoint answers this gateway, but not a client's own address: `isthmus check` says what is missing");
                }
            }
            _ => lease.failed(),
        },
    }
}
