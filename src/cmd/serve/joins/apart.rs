//! Where gateways have no rights, and control is another process: the gateway carries the connection there as it is. Its TLS ends at
//! control, which has the CA and the invitations.

use super::{Inviting, bounded, serve_by, source};
use crate::cmd::{Failure, serve::secrets};
use isthmus_certs::{Directory, Role};
use isthmus_control::Config;
use isthmus_control_api::{PeerAddress, Table};
use isthmus_gateway::{IncomingJoin, metrics::Metrics};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream, lookup_host},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Connections whose conversation waits to begin.
const WAITING: usize = 16;
/// Conversations that a gateway brings to control at once: more than control has, which knows best whose to end.
const BROUGHT: usize = 16;
/// For control to take a connection, at each of its addresses.
const CONNECT: Duration = Duration::from_secs(2);
/// Addresses that its name may have.
const ADDRESSES: usize = 16;
/// For a conversation: more than its own limits are together.
const CONVERSATION: Duration = Duration::from_secs(40);

/// Brings those who come to a gateway to its control, until `joining` ends. A gateway does not see who of them has proven that he was
/// invited, and ends none for another: beyond [`BROUGHT`] the new one is refused.
pub(in crate::cmd) async fn bring(joining: mpsc::Receiver<IncomingJoin>, to: PeerAddress, metrics: Arc<Metrics>) {
    let each = |join: IncomingJoin, stays: Arc<AtomicBool>| {
        stays.store(true, Ordering::Relaxed);
        let to = to.clone();
        async move {
            let from = join.from;
            match timeout(CONVERSATION, carry(join, &to)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%from, %to, %error, "a cluster that wants to join was not brought to control");
                }
                Err(_) => tracing::debug!(%from, "a cluster that wants to join took too long"),
            }
        }
    };
    bounded(joining, BROUGHT, |join| Some(source(join.from)), &metrics, each).await;
}

async fn carry(join: IncomingJoin, to: &PeerAddress) -> io::Result<()> {
    let IncomingJoin { socket, received, permit, .. } = join;
    let (mut joiner, mut control) = (TcpStream::from_std(socket)?, connect(to).await?);
    control.write_all(&received).await?;
    // Control bounds the conversation from here.
    drop(permit);
    // Either may break off: that is told to the other by closing.
    drop(copy_bidirectional(&mut joiner, &mut control).await);
    Ok(())
}

async fn connect(to: &PeerAddress) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((to.host.as_str(), to.port)).await?.take(ADDRESSES) {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

/// Takes those whom gateways bring to `listen`, once it is polled. Each is received with an SVID of the moment: control's own is no gateway's.
pub(in crate::cmd) async fn at_control(
    config: &Config,
    listen: SocketAddr,
    table: watch::Receiver<Arc<Table>>,
    metrics: Arc<Metrics>,
) -> Result<impl Future<Output = ()> + Send + use<>, Failure> {
    let expected = "registry.kubernetes.caSecret beside it: control needs the CA, and a place for what it grants";
    let path = config.path.display();
    let Some((secrets, _)) = secrets::of(config).await? else {
        return Err(Failure::failed(format!("{path}: control.joins: found no Secrets, expected {expected}")));
    };
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|e| Failure::failed(format!("control.joins: cannot listen on {listen}: {e}")))?;
    let directory = Directory::of(&config.identity, Role::Control);
    let host = Inviting::by_secrets(directory, None, table, secrets);
    Ok(async move {
        let (to, joining) = mpsc::channel(WAITING);
        // All come from gateways: by their addresses nobody can be told apart.
        let mut serving = JoinSet::from_iter([serve_by(joining, |_| None, Arc::new(host), metrics)]);
        let room = Arc::new(Semaphore::new(WAITING));
        loop {
            let accepted = tokio::select! {
                _ = serving.join_next() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, from)) = accepted else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(permit) = room.clone().try_acquire_owned() else { continue };
            let Ok(socket) = socket.into_std() else { continue };
            // One that finds no place is closed.
            drop(to.try_send(IncomingJoin { socket, received: Vec::new(), from, permit }));
        }
    })
}
