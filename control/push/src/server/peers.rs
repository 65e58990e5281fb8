//! The exchange with peers, whose bytes go through gateways.

use super::{Shared, session::Caller};
use crate::{
    PATIENCE, pipe,
    wire::{Head, Incoming, Piece},
};
use futures_util::Stream;
use isthmus_control::{LinkEvent, Peers};
use isthmus_control_api::{ClusterName, GatewayId};
use std::{io, pin::Pin, sync::Arc};
use tokio::{
    net::UnixStream,
    sync::mpsc,
    time::{Duration, timeout},
};
use tonic::{Request, Response, Status, Streaming, server::StreamingService};
use tracing::debug;

/// For one gateway to open a stream, before the next is asked.
const OPEN: Duration = Duration::from_secs(3);

/// Reaches peers through whichever gateway has a tunnel.
pub(super) struct Through(pub(super) Arc<Shared>);

impl Peers for Through {
    fn open(
        &self,
        cluster: &ClusterName,
        gateway: GatewayId,
    ) -> Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send + '_>> {
        let cluster = cluster.clone();
        Box::pin(async move {
            let mut failed =
                io::Error::new(io::ErrorKind::NotConnected, format!("no gateway has a tunnel to {cluster}"));
            for through in self.0.gateways.reaching(&cluster, gateway) {
                match self.one(through, &cluster, gateway).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failed = error,
                }
            }
            Err(failed)
        })
    }
}

impl Through {
    async fn one(&self, through: GatewayId, cluster: &ClusterName, gateway: GatewayId) -> io::Result<UnixStream> {
        let answer = self.0.gateways.ask(through, cluster, gateway)?;
        let answer = timeout(OPEN, answer).await.map_err(|_| io::ErrorKind::TimedOut)?;
        answer.map_err(|_| io::ErrorKind::ConnectionAborted)?
    }
}

/// The call by which a gateway brings a stream.
pub(super) struct Exchange(pub(super) Caller);

impl StreamingService<Piece> for Exchange {
    type Response = Piece;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Piece, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Piece>>) -> Self::Future {
        let (to_gateway, answers) = mpsc::channel(pipe::PIECES);
        let (caller, tasks) = (self.0.clone(), self.0.tasks.clone());
        tasks.spawn(async move {
            let mut from_gateway = request.into_inner();
            match begin(&caller, &mut from_gateway).await {
                Ok(socket) => pipe::copy(socket, from_gateway, to_gateway, Ok).await,
                Err(status) => {
                    debug!(%status, "a stream of the exchange is lost");
                    let _ = to_gateway.send(Err(status)).await;
                }
            }
        });
        std::future::ready(Ok(Response::new(pipe::stream(answers))))
    }
}

/// Control's end of the stream goes to who asked for it, or to control; the other end is returned.
async fn begin(caller: &Caller, from_gateway: &mut Streaming<Piece>) -> Result<UnixStream, Status> {
    let late = |_| Status::deadline_exceeded("the stream's first message is late");
    let first = timeout(PATIENCE, from_gateway.message()).await.map_err(late)??;
    let head = first.and_then(|piece| piece.head).ok_or_else(|| Status::invalid_argument("a stream without a head"))?;
    let (ours, theirs) = UnixStream::pair()?;
    let gateways = &caller.shared.gateways;
    match head {
        Head::Opened(id) => {
            if !gateways.answer(caller.connection, id, Ok(theirs)) {
                return Err(Status::not_found("nobody waits for this stream"));
            }
        }
        Head::Incoming(Incoming { cluster, gateway }) => {
            let through = gateways.of(caller.connection);
            let through = through.ok_or_else(|| Status::failed_precondition("the gateway is not attached"))?;
            let cluster = cluster.parse().map_err(|_| Status::invalid_argument("no cluster's name"))?;
            let event = LinkEvent::Incoming { through, cluster, gateway: GatewayId(gateway), stream: theirs };
            gateways.events.send(event).await.map_err(|_| Status::unavailable("control has ended"))?;
        }
    }
    Ok(ours)
}
