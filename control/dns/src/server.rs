//! The sockets.

use crate::{Transport, Zone, respond};
use isthmus_control_api::sources::Sources;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections at once, of all clients. One more is closed at once: its client asks again.
pub const MOST_CONNECTIONS: usize = 256;
/// The same of one address.
const MOST_OF_ONE: usize = 64;
/// A connection that asks nothing for so long, or does not take its answer, is closed (RFC 7766, section 6.2.3: some seconds).
const IDLE: Duration = Duration::from_secs(10);
/// The longest query: a name, its type and some options are far below it.
const MOST_QUERY: usize = 4096;
/// Not accepted again sooner after a failure that is not one client's: no file descriptors, say.
const PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: i32 = 256;

/// DNS on some addresses, each for UDP and TCP.
#[derive(Debug)]
pub struct Server {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    counts: Arc<Counts>,
}

/// What was done since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Queries that came in datagrams.
    pub udp: AtomicU64,
    /// Queries that came on connections.
    pub tcp: AtomicU64,
    /// Of these, those that were answered with SERVFAIL: it was not known yet what there is.
    pub not_known: AtomicU64,
    /// What was no query, and was not answered.
    pub unanswered: AtomicU64,
    /// Connections refused because there were [`MOST_CONNECTIONS`], or too many of one address.
    pub refused: AtomicU64,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("dns: cannot listen on {address} ({protocol}): {error}")]
pub struct BindError {
    address: SocketAddr,
    protocol: &'static str,
    error: io::Error,
}

impl Server {
    /// Binds `addresses`. `[::]` takes IPv4 as well, unless `0.0.0.0` stands beside it.
    ///
    /// # Errors
    /// One of them cannot be had. Nothing is bound then.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let mut server = Self { udp: Vec::new(), tcp: Vec::new(), counts: Arc::default() };
        for &address in addresses {
            let at = |protocol| move |error| BindError { address, protocol, error };
            let only_v6 = addresses.contains(&SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()));
            let udp = || socket(address, only_v6, Type::DGRAM).and_then(|socket| UdpSocket::from_std(socket.into()));
            let tcp = |address| {
                let socket = socket(address, only_v6, Type::STREAM)?;
                socket.listen(BACKLOG)?;
                TcpListener::from_std(socket.into())
            };
            let udp = udp().map_err(at("UDP"))?;
            // Port 0 is whatever is free: the same for both.
            let bound = udp.local_addr().map_err(at("UDP"))?;
            server.tcp.push(tcp(bound).map_err(at("TCP"))?);
            server.udp.push(udp);
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// What is being done.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Answers from the newest `zone` until `shutdown`.
    pub async fn run(self, zone: watch::Receiver<Arc<Zone>>, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        for socket in self.udp {
            tasks.spawn(datagrams(socket, zone.clone(), self.counts.clone()));
        }
        let room = Sources::new(MOST_CONNECTIONS, MOST_OF_ONE);
        for listener in self.tcp {
            tasks.spawn(connections(listener, zone.clone(), self.counts.clone(), room.clone()));
        }
        shutdown.cancelled().await;
        tasks.shutdown().await;
    }
}

fn socket(address: SocketAddr, only_v6: bool, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

impl Counts {
    fn answer(&self, zone: &Zone, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let one = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match transport {
            Transport::Udp => one(&self.udp),
            Transport::Tcp => one(&self.tcp),
        };
        if !zone.is_known() {
            one(&self.not_known);
        }
        let answer = respond(zone, query, transport);
        if answer.is_none() {
            one(&self.unanswered);
        }
        answer
    }
}

async fn datagrams(socket: UdpSocket, zone: watch::Receiver<Arc<Zone>>, counts: Arc<Counts>) {
    let mut query = [0; MOST_QUERY];
    loop {
        let (length, client) = match socket.recv_from(&mut query).await {
            Ok(received) => received,
            Err(error) => {
                // Of an earlier answer that nobody took: it says nothing about this socket.
                debug!(%error, "a datagram could not be received");
                continue;
            }
        };
        let zone = zone.borrow().clone();
        if let Some(answer) = counts.answer(&zone, &query[..length], Transport::Udp)
            && let Err(error) = socket.send_to(&answer, client).await
        {
            debug!(%error, %client, "an answer could not be sent");
        }
    }
}

async fn connections(listener: TcpListener, zone: watch::Receiver<Arc<Zone>>, counts: Arc<Counts>, room: Sources) {
    let mut running = JoinSet::new();
    loop {
        let (stream, client) = tokio::select! {
            Some(_) = running.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "dns: a connection could not be accepted");
                    sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let Ok(place) = room.take(client.ip()) else {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (zone, counts) = (zone.clone(), counts.clone());
        running.spawn(async move {
            if let Err(error) = connection(stream, zone, &counts).await {
                debug!(%error, %client, "a connection ended");
            }
            drop(place);
        });
    }
}

/// One query after the other, each with its length in front of it.
async fn connection(mut stream: TcpStream, zone: watch::Receiver<Arc<Zone>>, counts: &Counts) -> io::Result<()> {
    let mut query = Vec::new();
    loop {
        let read = async {
            let length = usize::from(stream.read_u16().await?);
            if length > MOST_QUERY {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a query that is too long"));
            }
            query.resize(length, 0);
            stream.read_exact(&mut query).await
        };
        match timeout(IDLE, read).await {
            Err(_) => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(read) => read?,
        };
        let zone = zone.borrow().clone();
        let Some(answer) = counts.answer(&zone, &query, Transport::Tcp) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
