//! One session of a gateway with its control.

use super::{Client, Incoming, Tunnels};
use crate::{
    MAX_MESSAGE, PATIENCE, PROTOCOL, Reached,
    codec::Prost,
    convert,
    feed::Position,
    pipe,
    replica::Refusal,
    server::{ATTACH, EXCHANGE},
    transport::{Channel, Tasks},
    wire::{self, FromControl, FromGateway, Head, Piece, Said, Told},
};
use http::uri::PathAndQuery;
use isthmus_control_api::{ClusterName, GatewayId};
use std::os::unix::net::UnixStream;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Request, Status, Streaming, client::Grpc};
use tracing::{debug, info};

/// Messages to control that wait for HTTP/2 to take them.
const WAITING: usize = 16;

/// Runs it to its end: why it ended.
pub(super) async fn run(client: &mut Client, channel: Channel, tasks: &Tasks, tunnels: &mut Tunnels) -> String {
    let (to_control, messages) = mpsc::channel(WAITING);
    client.replica.begin();
    let reached = tunnels.reached.borrow_and_update().clone();
    let hello = hello(client, &reached);
    let attached = async {
        to_control.send(say(Said::Hello(hello))).await.map_err(|_| Status::internal("no room for a hello"))?;
        let mut grpc = grpc(&channel).await?;
        let answers =
            grpc.streaming(Request::new(pipe::stream(messages)), PathAndQuery::from_static(ATTACH), Prost::default());
        Ok::<_, Status>(answers.await?.into_inner())
    };
    let from_control = match timeout(PATIENCE, attached).await {
        Ok(Ok(from_control)) => from_control,
        Ok(Err(status)) => return status.message().to_owned(),
        Err(_) => return "control does not answer".into(),
    };
    let exchange = Exchange { channel, tasks: tasks.clone() };
    let mut session = Session { client, exchange, to_control };
    match session.follow(from_control, tunnels).await {
        Ok(()) => "control has ended the session".into(),
        Err(status) => status.message().to_owned(),
    }
}

fn hello(client: &Client, reached: &Reached) -> wire::Hello {
    wire::Hello {
        protocol: PROTOCOL,
        gateway: client.config.gateway.0,
        name: client.config.name.clone(),
        version: client.config.version.clone(),
        has: client.replica.position().as_ref().map(convert::at),
        reached: Some(convert::reached(reached)),
    }
}

struct Session<'a> {
    client: &'a mut Client,
    exchange: Exchange,
    to_control: mpsc::Sender<FromGateway>,
}

impl Session<'_> {
    async fn follow(&mut self, mut from_control: Streaming<FromControl>, tunnels: &mut Tunnels) -> Result<(), Status> {
        tunnels.links.mark_changed();
        loop {
            tokio::select! {
                message = from_control.message() => match message? {
                    Some(message) => self.told(message, tunnels).await?,
                    None => return Ok(()),
                },
                Ok(()) = tunnels.reached.changed() => {
                    let reached = convert::reached(&tunnels.reached.borrow_and_update());
                    self.say(Said::Reached(reached)).await?;
                }
                Ok(()) = tunnels.links.changed() => {
                    let links = tunnels.links.borrow_and_update().clone();
                    self.say(Said::Links(wire::Links { links })).await?;
                }
                Some(incoming) = tunnels.incoming.recv() => {
                    let Incoming { cluster, gateway, stream } = incoming;
                    let head = wire::Incoming { cluster: cluster.to_string(), gateway: gateway.0 };
                    self.exchange.bring(stream, Head::Incoming(head));
                }
            }
        }
    }

    async fn told(&mut self, message: FromControl, tunnels: &Tunnels) -> Result<(), Status> {
        if !self.client.status.borrow().attached {
            info!(control = %self.client.config.address, "attached to control");
            self.client.note(|status| {
                (status.attached, status.since_ms, status.error) = (true, super::now_ms(), None);
            });
        }
        match message.told {
            Some(Told::Part(part)) => self.part(part, tunnels).await,
            Some(Told::Open(wire::Open { id, cluster, gateway })) => self.open(id, &cluster, gateway, tunnels).await,
            Some(Told::Newest(wire::Newest { term: _, version, waits_for })) => {
                self.client.note(|status| {
                    status.newest_version = Some(version);
                    status.waits_for = Some(convert::one_line(&waits_for)).filter(|why| !why.is_empty());
                });
                Ok(())
            }
            // Of a later version: it can do without this gateway's taking note.
            None => Ok(()),
        }
    }

    async fn part(&mut self, part: wire::Part, tunnels: &Tunnels) -> Result<(), Status> {
        let whole = part.from.is_empty();
        match self.client.replica.take(part, |table| (tunnels.fits)(table)) {
            Ok(None) => Ok(()),
            Ok(Some(to)) => {
                self.client.take(to, whole);
                self.answer(to, wire::Outcome::Taken, String::new()).await
            }
            Err((to, refusal)) => {
                self.client.refuse(&refusal);
                let outcome = match refusal {
                    Refusal::NeedsAll(_) => wire::Outcome::NeedsAll,
                    Refusal::Rejected(_) => wire::Outcome::Rejected,
                    // With such a control there is nothing to be said.
                    Refusal::Fenced { .. } | Refusal::Malformed(_) => {
                        return Err(Status::failed_precondition(refusal.to_string()));
                    }
                };
                self.answer(to, outcome, refusal.to_string()).await
            }
        }
    }

    async fn answer(&self, to: Position, outcome: wire::Outcome, reason: String) -> Result<(), Status> {
        let (outcome, reason) = (outcome as i32, convert::one_line(&reason));
        self.say(Said::Answer(wire::Answer { term: to.term, version: to.version, outcome, reason })).await
    }

    async fn open(&self, id: u64, cluster: &str, gateway: u64, tunnels: &Tunnels) -> Result<(), Status> {
        let opened = cluster
            .parse::<ClusterName>()
            .map_err(|error| error.to_string())
            .and_then(|cluster| (tunnels.open)(&cluster, GatewayId(gateway)).map_err(|error| error.to_string()));
        match opened {
            Ok(stream) => {
                self.exchange.bring(stream, Head::Opened(id));
                Ok(())
            }
            Err(reason) => self.say(Said::NotOpened(wire::NotOpened { id, reason })).await,
        }
    }

    async fn say(&self, said: Said) -> Result<(), Status> {
        let sent = timeout(PATIENCE * 4, self.to_control.send(say(said))).await;
        sent.map_err(|_| Status::deadline_exceeded("control takes nothing any more"))?
            .map_err(|_| Status::unavailable("control has ended the session"))
    }
}

fn say(said: Said) -> FromGateway {
    FromGateway { said: Some(said) }
}

/// Where streams of the exchange are brought to control.
struct Exchange {
    channel: Channel,
    tasks: Tasks,
}

impl Exchange {
    /// Brings one, in a task of its own: one that does not move is nobody else's matter.
    fn bring(&self, stream: UnixStream, head: Head) {
        let channel = self.channel.clone();
        self.tasks.spawn(async move {
            if let Err(status) = bring(&channel, stream, head).await {
                debug!(%status, "a stream of the exchange is lost");
            }
        });
    }
}

async fn bring(channel: &Channel, stream: UnixStream, head: Head) -> Result<(), Status> {
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let (to_control, pieces) = mpsc::channel::<Piece>(pipe::PIECES);
    let first = Piece { bytes: bytes::Bytes::new(), head: Some(head) };
    to_control.send(first).await.map_err(|_| Status::internal("no room for a head"))?;
    let opened = async {
        let mut grpc = grpc(channel).await?;
        grpc.streaming(Request::new(pipe::stream(pieces)), PathAndQuery::from_static(EXCHANGE), Prost::default()).await
    };
    let late = |_| Status::deadline_exceeded("control does not answer");
    let from_control = timeout(PATIENCE, opened).await.map_err(late)??.into_inner();
    pipe::copy(stream, from_control, to_control, |piece| piece).await;
    Ok(())
}

async fn grpc(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    // The name is nobody's: who is at the other end, its certificate has said.
    let origin = http::Uri::from_static("https://control");
    let mut grpc = Grpc::with_origin(channel.clone(), origin).max_decoding_message_size(MAX_MESSAGE);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(grpc)
}
