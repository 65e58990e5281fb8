//! The open streams of a core, to be asked about again when access policies change.

use crate::{
    close::Closed,
    core::Core,
    limit::expiry::{self, Expired, Expiry},
    meter::StreamMeter,
    tunnel::Source,
};
use isthmus_control_api::{ClusterName, ServicePort};
use slab::Slab;
use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// All of them. What bounds streams bounds these.
#[derive(Debug, Default)]
pub(crate) struct Guards(RefCell<Slab<Guarded>>);

#[derive(Debug)]
struct Guarded {
    cluster: ClusterName,
    source: Source,
    service: ServicePort,
    /// By which rule, once it is.
    denied: Option<Arc<str>>,
    /// Whom to tell.
    waker: Option<Waker>,
}

/// One of them, as long as this lives.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    guards: &'a Guards,
    place: usize,
}

/// Why a stream that is open does not go on.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A rule denies it now: which.
    Denied(Arc<str>),
    /// It has taken too long.
    Expired(Expired),
}

impl Stopped {
    /// Notes why, and says how the stream has ended.
    pub(crate) fn close(self, meter: &mut StreamMeter<'_>) -> Closed {
        match self {
            Self::Denied(by) => {
                meter.denied(by);
                Closed::Denied
            }
            Self::Expired(expired) => {
                tracing::debug!(service = %meter.service(), %expired, "ending a stream");
                Closed::Timeout
            }
        }
    }
}

/// Waits until a copy has ended, or its stream is not to go on.
///
/// # Errors
/// The latter.
pub(crate) async fn watched(
    guard: &Guard<'_>,
    expiry: &mut Option<Expiry>,
    copying: Pin<&mut impl Future<Output = Closed>>,
) -> Result<Closed, Stopped> {
    tokio::select! {
        biased;
        by = guard.denied() => Err(Stopped::Denied(by)),
        copied = expiry::until(expiry, copying) => copied.map_err(Stopped::Expired),
    }
}

impl Guards {
    /// Asks about each: which rule denies it now, if any does. Those that are denied are told.
    pub(crate) fn review(&self, denies: impl Fn(&ClusterName, &Source, &ServicePort) -> Option<Arc<str>>) {
        for (_, of) in self.0.borrow_mut().iter_mut().filter(|(_, of)| of.denied.is_none()) {
            of.denied = denies(&of.cluster, &of.source, &of.service);
            if of.denied.is_some()
                && let Some(waker) = of.waker.take()
            {
                waker.wake();
            }
        }
    }
}

impl<'a> Guard<'a> {
    /// Of a stream that is allowed now. Nothing may be waited for between the decision and this.
    pub(crate) fn new(core: &'a Core, cluster: ClusterName, source: Source, service: ServicePort) -> Self {
        let guarded = Guarded { cluster, source, service, denied: None, waker: None };
        Self { guards: &core.guards, place: core.guards.0.borrow_mut().insert(guarded) }
    }

    /// Waits until a rule denies the stream: which.
    pub(crate) async fn denied(&self) -> Arc<str> {
        poll_fn(|cx| self.poll_denied(cx)).await
    }

    fn poll_denied(&self, cx: &mut Context<'_>) -> Poll<Arc<str>> {
        let mut guards = self.guards.0.borrow_mut();
        let Some(of) = guards.get_mut(self.place) else { return Poll::Pending };
        if let Some(by) = &of.denied {
            return Poll::Ready(by.clone());
        }
        if !of.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            of.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.guards.0.borrow_mut().try_remove(self.place);
    }
}
