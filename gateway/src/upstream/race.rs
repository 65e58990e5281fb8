//! Connects to one of a service's endpoints: another one beside one that is late, and in place of one that fails.
//!
//! Who connects first has the stream, and nobody else is sent a byte. When an endpoint is late, and how it goes on then, [`super::hedge`]
//! says ●.

use super::{
    Asker, Connected, Opening,
    attempt::{self, Attempt},
    beyond_budget, has_another_well,
    hedge::{self, Sought, Then},
    introduce,
    lease::{Lease, Noted},
    not_from_client, out_of_sockets, refusal, transparent,
};
use crate::{
    balance::Tried,
    core::{Core, said::Line},
    hop,
    meter::StreamMeter,
    metrics::{
        reasons::{EndpointSource, Hedge},
        streams::Side,
    },
    socket::{self, Connecting, is_out_of_sockets},
    tunnel::Refusal,
};
use isthmus_control_api::Export;
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// A stream's attempts to find an endpoint.
pub(super) struct Race<'r> {
    core: &'r Rc<Core>,
    export: &'r Export,
    opening: &'r Opening<'r>,
    /// How long each endpoint may take.
    limit: Duration,
    tried: Tried,
    /// The one that was begun last, unless it is late and nobody else is to be looked for.
    newest: Option<Attempt>,
    /// Those that are late; [`crate::balance::MAX_TRIED`] bounds them all.
    late: Vec<Attempt>,
    /// What the last one that failed has met.
    last: Option<Failure>,
    /// Whether the retry budget did not allow one more, while one that is well was left.
    cut_short: bool,
}

/// Why an attempt came to nothing.
struct Failure {
    error: io::Error,
    /// Whether it came from the client's own address.
    transparent: bool,
}

enum Event {
    Connected(Attempt),
    Failed(Attempt, io::Error),
    /// The newest is.
    Late,
}

impl<'r> Race<'r> {
    /// Nothing is begun yet.
    pub(super) fn new(core: &'r Rc<Core>, export: &'r Export, opening: &'r Opening<'r>) -> Self {
        let limit = export.policy.timeouts.connect.unwrap_or(core.common.config.connect_timeout);
        let (tried, late) = (Tried::default(), Vec::new());
        Self { core, export, opening, limit, tried, newest: None, late, last: None, cut_short: false }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// No endpoint has taken the connection, as far as it was waited for.
    pub(super) async fn run(mut self, meter: &mut StreamMeter<'_>) -> Result<Connected, Refusal> {
        self.seek(false, meter);
        while self.newest.is_some() || !self.late.is_empty() {
            let then = match self.event().await {
                Event::Connected(attempt) => match self.take(attempt, meter) {
                    Ok(connected) => return Ok(connected),
                    Err(failure) => self.after_failure(failure, meter),
                },
                Event::Failed(attempt, error) => {
                    let transparent = attempt.transparent;
                    attempt.fail(self.core, &error);
                    self.after_failure(Failure { error, transparent }, meter)
                }
                Event::Late => self.after_lateness(meter),
            };
            if then == Then::Over {
                break;
            }
        }
        if !self.late.is_empty() {
            let transparent = self.late.iter().any(|attempt| attempt.transparent);
            self.last = Some(Failure { error: io::ErrorKind::TimedOut.into(), transparent });
            self.leave_late();
        }
        let service = &self.opening.request.service;
        Err(match &self.last {
            Some(Failure { error, .. }) if is_out_of_sockets(error) => out_of_sockets(self.core, service, error),
            Some(Failure { error, transparent: true }) => not_from_client(service, error),
            Some(Failure { error, .. }) if self.cut_short => beyond_budget(service, error),
            last => refusal(service, last.as_ref().map(|failure| &failure.error)),
        })
    }

    fn after_failure(&mut self, failure: Failure, meter: &mut StreamMeter<'_>) -> Then {
        tracing::debug!(service = %self.opening.request.service, error = %failure.error, "an endpoint failed");
        self.last = Some(failure);
        if self.newest.is_some() {
            return Then::On;
        }
        let sought = self.seek(false, meter);
        let then = hedge::then(sought, self.late.len(), self.opening.request.elsewhere);
        if then == Then::AskAgain {
            self.newest = self.late.pop().map(Attempt::once_more);
        }
        then
    }

    fn after_lateness(&mut self, meter: &mut StreamMeter<'_>) -> Then {
        let Some(newest) = self.newest.take() else { return Then::On };
        if !newest.transparent {
            newest.lease.late();
        }
        self.late.push(newest);
        let sought = self.seek(true, meter);
        let then = hedge::then(sought, self.late.len(), self.opening.request.elsewhere);
        if then == Then::AskAgain {
            self.newest = self.late.pop().map(Attempt::once_more);
        }
        then
    }

    /// Begins with one more endpoint, if there is one. The first one is nobody's budget.
    fn seek(&mut self, hedge: bool, meter: &mut StreamMeter<'_>) -> Sought {
        let (service, asker) = (&self.opening.request.service, Asker::of(self.opening.request));
        self.cut_short = false;
        loop {
            let mut tried = self.tried;
            let noted = Noted::before(self.core, service, &tried, meter);
            let Some((lease, address)) = Lease::take(self.core, service, asker, &mut tried) else {
                return Sought::Nobody;
            };
            let is_first = self.last.is_none() && self.late.is_empty();
            if !is_first && !meter.may_retry(Side::Ingress) {
                self.cut_short = has_another_well(self.core, service, &self.tried);
                return Sought::NoBudget;
            }
            self.tried = tried;
            noted.chose(address, meter);
            meter.endpoint(Some(address));
            let (mut transparent, mut may_join) = (false, false);
            let prepare = |socket: BorrowedFd<'_>| {
                may_join = hop::mark(self.core, (socket, address), service, &self.export.policy);
                transparent = self.bind(socket, address);
            };
            match Connecting::begin(address, prepare) {
                Ok(connecting) => {
                    let begun = Instant::now();
                    let (late_at, until) = (begun + hedge::patience(lease.usual()), begun + self.limit);
                    let attempt =
                        Attempt { lease, address, connecting, begun, late_at, until, hedge, transparent, may_join };
                    self.newest = Some(attempt);
                    return Sought::Begun;
                }
                Err(error) => {
                    tracing::debug!(%service, %address, %error, "an endpoint failed");
                    let is_hopeless = is_out_of_sockets(&error);
                    attempt::failed(self.core, lease, (address, self.limit), transparent, &error);
                    self.last = Some(Failure { error, transparent });
                    if is_hopeless {
                        // No other endpoint has one either.
                        return Sought::Nobody;
                    }
                }
            }
        }
    }

    /// Has a socket come from the client's own address, if the endpoint is to see it and that can be; whether it does.
    fn bind(&self, socket: BorrowedFd<'_>, endpoint: SocketAddr) -> bool {
        let allowed = &self.core.common.config.transparent_sources;
        let why = match transparent::source(allowed, &self.export.policy, self.opening, endpoint.ip()) {
            Ok(None) => return false,
            Ok(Some(client)) => match socket::transparent::bind(&socket, client) {
                Ok(()) => return true,
                Err(error) => {
                    self.warn(&error);
                    EndpointSource::NotPermitted
                }
            },
            Err(why) => {
                if why == EndpointSource::NotPermitted {
                    self.warn(&"transparentSources of its own file does not allow it");
                }
                why
            }
        };
        self.core.counters.endpoint_source(why);
        false
    }

    /// Says, once a minute, that an export wants what this gateway may not do.
    fn warn(&self, why: &dyn std::fmt::Display) {
        if self.core.may_say(Line::NotTransparent, Instant::now()) {
            tracing::warn!(service = %self.opening.request.service, %why, "cannot connect from clients' own addresses");
        }
    }

    /// Waits for what happens next. There is an attempt.
    async fn event(&mut self) -> Event {
        let times = self.attempts().map(|attempt| attempt.until);
        let next = times.chain(self.newest.as_ref().map(|newest| newest.late_at)).min();
        let polled = {
            let polling = poll_fn(|cx| self.poll(cx));
            tokio::time::timeout_at(next.unwrap_or_else(Instant::now).into(), polling).await
        };
        match polled {
            Ok((index, result)) => self.ended(index, result),
            Err(_) => {
                let now = Instant::now();
                let over = self.attempts().position(|attempt| attempt.until <= now);
                match over {
                    Some(index) => self.ended(index, Err(io::ErrorKind::TimedOut.into())),
                    None => Event::Late,
                }
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<(usize, io::Result<()>)> {
        for (index, attempt) in self.attempts().enumerate() {
            if let Poll::Ready(result) = attempt.connecting.poll(cx) {
                return Poll::Ready((index, result));
            }
        }
        Poll::Pending
    }

    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.late.iter().chain(&self.newest)
    }

    /// The attempt at that place among all of them is over.
    fn ended(&mut self, index: usize, result: io::Result<()>) -> Event {
        let attempt = if index < self.late.len() { Some(self.late.swap_remove(index)) } else { self.newest.take() };
        match (attempt, result) {
            (Some(attempt), Ok(())) => Event::Connected(attempt),
            (Some(attempt), Err(error)) => Event::Failed(attempt, error),
            (None, _) => Event::Late,
        }
    }

    /// The attempt has the stream, and the others are over.
    fn take(&mut self, attempt: Attempt, meter: &mut StreamMeter<'_>) -> Result<Connected, Failure> {
        let Attempt { lease, address, connecting, begun, hedge, transparent, may_join, .. } = attempt;
        let socket = connecting.into_socket();
        if let Err(error) = introduce(self.core, self.export, self.opening, address, &socket) {
            attempt::failed(self.core, lease, (address, self.limit), transparent, &error);
            if hedge {
                self.core.counters.hedged(Hedge::Lost);
            }
            return Err(Failure { error, transparent });
        }
        lease.connected(begun.elapsed());
        meter.endpoint(Some(address));
        if transparent {
            self.core.counters.endpoint_source(EndpointSource::Transparent);
        } else {
            // A reset of a connection from the client's address may be about that address.
            meter.watch(lease.id());
        }
        if hedge {
            self.core.counters.hedged(Hedge::Won);
        }
        if let Some(newest) = self.newest.take() {
            // It was not late yet, so nothing is known of it.
            newest.count_lost(self.core);
        }
        self.leave_late();
        let connected = Connected::new(socket, self.export.policy.clone(), lease);
        let service = (&self.opening.request.service, &*self.export.policy);
        hop::take_part(self.core, (&connected.socket, may_join, true), service, Some(address));
        Ok(connected)
    }

    /// Nobody waits any more for those that are late. Whether they connect after all is of use to the next stream.
    fn leave_late(&mut self) {
        for attempt in self.late.drain(..) {
            attempt.leave(self.core);
        }
    }
}
