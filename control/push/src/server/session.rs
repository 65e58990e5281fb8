//! One gateway's session, from its hello to its end.

use super::{
    Shared,
    gateways::{Ask, Newcomer, Place},
};
use crate::{
    MAX_MESSAGE, PATIENCE, PROTOCOL, PushKind,
    convert::{self, one_line},
    feed::{Answer, Feed, Sent},
    history::History,
    pipe,
    transport::{LastHeard, Tasks},
    wire,
};
use futures_util::Stream;
use isthmus_control::ControlStatus;
use isthmus_control_api::GatewayId;
use prost::Message as _;
use std::{io, pin::Pin, sync::Arc, time::Instant};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Duration, interval, sleep_until, timeout},
};
use tonic::{Request, Response, Status, Streaming, server::StreamingService};
use tracing::{debug, info, warn};

/// Messages to a gateway that wait for HTTP/2 to take them: parts of one update, and little else.
const WAITING: usize = 4;
/// What control asks a gateway for, and it was not told yet.
const ASKS: usize = 16;
/// A gateway that takes nothing for so long is let go.
const STALLED: Duration = Duration::from_secs(30);
/// How long a gateway that has a table keeps it, while control does not know yet what its peers export.
const HOLD: Duration = Duration::from_secs(10);
/// How often a gateway is told which table is the newest.
const BEAT: Duration = Duration::from_secs(2);

/// Who calls.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: u64,
    pub(super) heard: LastHeard,
    pub(super) tasks: Tasks,
}

/// The call by which a gateway attaches.
pub(super) struct Attach(pub(super) Caller);

type Answers = Pin<Box<dyn Stream<Item = Result<wire::FromControl, Status>> + Send>>;

impl StreamingService<wire::FromGateway> for Attach {
    type Response = wire::FromControl;
    type ResponseStream = Answers;
    type Future = std::future::Ready<Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<wire::FromGateway>>) -> Self::Future {
        let (to_gateway, answers) = mpsc::channel(WAITING);
        let (caller, tasks) = (self.0.clone(), self.0.tasks.clone());
        tasks.spawn_to_end(async move {
            if let Err(status) = serve(&caller, request.into_inner(), &to_gateway).await {
                // It may be gone: then there is nobody to tell.
                let _ = timeout(PATIENCE, to_gateway.send(Err(status))).await;
            }
        });
        std::future::ready(Ok(Response::new(pipe::stream(answers))))
    }
}

type ToGateway = mpsc::Sender<Result<wire::FromControl, Status>>;

/// Serves a gateway to its end. `Ok`: it went by itself.
async fn serve(
    caller: &Caller,
    mut from_gateway: Streaming<wire::FromGateway>,
    to_gateway: &ToGateway,
) -> Result<(), Status> {
    let late = |_| Status::deadline_exceeded("its hello is late");
    let first = timeout(PATIENCE, from_gateway.message()).await.map_err(late)??;
    let Some(wire::FromGateway { said: Some(wire::Said::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("found another message, expected its hello"));
    };
    if hello.protocol != PROTOCOL {
        let found = hello.protocol;
        return Err(Status::failed_precondition(format!("found protocol {found}, expected {PROTOCOL}")));
    }
    let gateway = GatewayId(hello.gateway);
    if !gateway.is_known() {
        return Err(Status::invalid_argument("found gateway 0, expected the number that it has drawn"));
    }
    let (asks_to, asks) = mpsc::channel(ASKS);
    let (name, version) = (one_line(&hello.name), one_line(&hello.version));
    info!(%gateway, name, version, "a gateway is attached");
    let (connection, shared, heard) = (caller.connection, &caller.shared, caller.heard.clone());
    let has = hello.has.as_ref().map(convert::read_at).transpose().map_err(|error| malformed(&error))?;
    if let Some(has) = has {
        shared.found(&has);
    }
    let place = shared.gateways.attach(Newcomer { gateway, connection, name, version, asks: asks_to, heard })?;
    let mut session = Session {
        shared,
        connection,
        place: &place,
        to_gateway,
        history: shared.history.subscribe(),
        feed: Feed::new(has),
        is_new: has.is_none(),
        may_send: false,
    };
    place.reaches(convert::read_reached(hello.reached.unwrap_or_default()).map_err(|error| malformed(&error))?);
    let ended = session.run(from_gateway, asks).await;
    match &ended {
        Ok(()) => info!(%gateway, "a gateway has left"),
        Err(status) => info!(%gateway, why = status.message(), "a gateway is gone"),
    }
    ended
}

struct Session<'a> {
    shared: &'a Shared,
    connection: u64,
    place: &'a Place<'a>,
    to_gateway: &'a ToGateway,
    history: watch::Receiver<History>,
    feed: Feed,
    /// Whether it came without a table.
    is_new: bool,
    /// Whether control knows enough for this gateway to give up the table that it has.
    may_send: bool,
}

impl Session<'_> {
    async fn run(
        &mut self,
        mut from_gateway: Streaming<wire::FromGateway>,
        mut asks: mpsc::Receiver<Ask>,
    ) -> Result<(), Status> {
        let (mut status, mut term) = (self.shared.handles.status.clone(), self.shared.term.clone());
        let (told, mut counts) = oneshot::channel();
        // What it reaches has been told before: a table without that is none for it.
        self.shared.gateways.counts(told);
        let mut counted = false;
        let hold = tokio::time::Instant::now() + HOLD;
        let mut beat = interval(BEAT);
        loop {
            if term.borrow_and_update().is_none() {
                return Err(Status::unavailable("another control leads"));
            }
            // Without knowing what its own cluster wants, control would say that it wants nothing.
            let is_loaded = status.borrow_and_update().loaded;
            self.may_send |= is_loaded && (self.is_new || counted && is_known(&status.borrow()));
            self.feed().await?;
            tokio::select! {
                message = from_gateway.message() => match message? {
                    Some(message) => self.said(message)?,
                    None => return Ok(()),
                },
                Some(ask) = asks.recv() => {
                    let Ask { id, cluster, gateway } = ask;
                    self.tell(wire::Told::Open(wire::Open { id, cluster: cluster.into(), gateway: gateway.0 })).await?;
                }
                changed = self.history.changed() => changed.map_err(ended)?,
                changed = term.changed() => changed.map_err(ended)?,
                _ = &mut counts, if !counted => counted = true,
                changed = status.changed(), if !self.may_send => changed.map_err(ended)?,
                () = sleep_until(hold), if !self.may_send && is_loaded => {
                    debug!("not all that peers export is known; the gateway gets the table all the same");
                    self.may_send = true;
                }
                _ = beat.tick() => self.beat(is_loaded, counted).await?,
                () = self.place.replaced.cancelled() => {
                    return Err(Status::aborted("the same gateway has come by another connection"));
                }
            }
        }
    }

    /// Sends what is due.
    async fn feed(&mut self) -> Result<(), Status> {
        let newest = self.history.borrow_and_update().position();
        self.place.feed(&self.feed, &newest, Instant::now());
        if !self.may_send || !self.feed.is_due(&newest) {
            return Ok(());
        }
        let update = self.history.borrow().update(self.feed.has().map(|has| has.digest));
        let whole = update.from.is_none();
        self.feed.sent(Sent { to: update.to, whole, since: update.since });
        let parts = convert::parts(&update);
        let bytes = parts.iter().map(wire::Part::encoded_len).sum();
        if parts.iter().any(|part| part.encoded_len() >= MAX_MESSAGE) {
            warn!(limit = MAX_MESSAGE, "one service has more endpoints than a message has room for");
        }
        for part in parts {
            self.tell(wire::Told::Part(part)).await?;
        }
        self.shared.meter.pushed(if whole { PushKind::Snapshot } else { PushKind::Delta }, bytes);
        Ok(())
    }

    fn said(&mut self, message: wire::FromGateway) -> Result<(), Status> {
        match message.said {
            Some(wire::Said::Answer(answer)) => return self.answered(&answer),
            Some(wire::Said::Reached(all)) => {
                self.place.reaches(convert::read_reached(all).map_err(|error| malformed(&error))?);
            }
            Some(wire::Said::Links(links)) => {
                self.place.links(convert::read_links(links).map_err(|error| malformed(&error))?);
            }
            Some(wire::Said::NotOpened(wire::NotOpened { id, reason })) => {
                let why = io::Error::new(io::ErrorKind::NotConnected, one_line(&reason));
                self.shared.gateways.answer(self.connection, id, Err(why));
            }
            Some(wire::Said::Hello(_)) => return Err(Status::invalid_argument("a second hello")),
            // Of a later version: it can do without an answer.
            None => {}
        }
        Ok(())
    }

    fn answered(&mut self, answer: &wire::Answer) -> Result<(), Status> {
        let (age, reason) = ((answer.term, answer.version), one_line(&answer.reason));
        let outcome = match wire::Outcome::try_from(answer.outcome) {
            Ok(wire::Outcome::Taken) => Answer::Taken,
            Ok(wire::Outcome::NeedsAll) => Answer::NeedsAll(reason),
            Ok(wire::Outcome::Rejected) => {
                warn!(version = answer.version, reason, "a gateway does not take the table");
                self.shared.meter.rejected();
                Answer::Rejected(reason)
            }
            Ok(wire::Outcome::Unspecified) | Err(_) => return Err(Status::invalid_argument("an unknown answer")),
        };
        let taken = self.feed.answered(age, outcome).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if let Some(since) = taken.and_then(|sent| sent.since) {
            self.shared.meter.propagated(since.elapsed());
        }
        Ok(())
    }

    async fn beat(&self, is_loaded: bool, counted: bool) -> Result<(), Status> {
        let position = self.history.borrow().position();
        let waits_for = match (self.may_send, counted) {
            (true, _) => "",
            (false, _) if !is_loaded => "what this cluster wants: control has not seen its registry yet",
            (false, true) => "what the linked clusters export",
            (false, false) => "control",
        };
        let newest = wire::Newest { term: position.term, version: position.version, waits_for: waits_for.into() };
        self.tell(wire::Told::Newest(newest)).await
    }

    async fn tell(&self, told: wire::Told) -> Result<(), Status> {
        let sent = timeout(STALLED, self.to_gateway.send(Ok(wire::FromControl { told: Some(told) }))).await;
        sent.map_err(|_| Status::deadline_exceeded("it takes nothing any more"))?.map_err(ended)
    }
}

/// Whether it is known of every cluster that is reached what it exports.
fn is_known(status: &ControlStatus) -> bool {
    status.peers.values().all(|peer| peer.known || !peer.up)
}

fn malformed(error: &convert::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn ended<E>(_: E) -> Status {
    Status::unavailable("control ends")
}
