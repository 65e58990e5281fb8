//! The TLS 1.3 handshake, driven by rustls; what comes out are keys, who the peer is, and bytes that came behind the handshake.

use super::{
    keys::{Schedule, TrafficKeys},
    record::RecordError,
};
use isthmus_certs::RefusedHandshake;
use rustls::{
    ClientConfig, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::{CertificateDer, ServerName},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, UnbufferedConnectionCommon, UnbufferedStatus},
};
use std::{io, os::fd::OwnedFd, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

/// The most bytes that a handshake may take from the peer: chains of a few certificates and a post-quantum key share fit easily.
const MAX_HANDSHAKE: usize = 64 * 1024;

/// What TLS runs over: a stream socket that our record layer goes on with after the handshake.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Takes it from its reactor.
    ///
    /// # Errors
    /// The reactor does not let it go.
    fn into_fd(self) -> io::Result<OwnedFd>;
}

impl Wire for TcpStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

/// One of a pair, whose other one is copied to and from a stream of another tunnel.
impl Wire for UnixStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Handshaken<W = TcpStream> {
    /// The socket, with nothing of it buffered but `received`.
    pub socket: W,
    /// The keys.
    pub keys: TrafficKeys,
    /// The peer's chain, leaf first, as verified.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The protocol that both agreed on.
    pub alpn: Vec<u8>,
    /// Encrypted bytes that came behind the handshake.
    pub received: Vec<u8>,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// One side refused the other, or did not speak TLS as it must.
    #[error("{}", RefusedHandshake::from(.0))]
    Tls(#[from] rustls::Error),
    /// The connection broke, or ended too early.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sent more than any handshake needs.
    #[error("the peer's handshake is longer than {MAX_HANDSHAKE} bytes")]
    TooLong,
    /// The negotiated keys cannot be used.
    #[error(transparent)]
    Keys(#[from] RecordError),
}

/// Shakes hands as the side that dialled.
///
/// # Errors
/// See [`HandshakeError`]. There is no time limit here: the caller has one.
pub async fn dial<W: Wire>(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    mut socket: W,
) -> Result<Handshaken<W>, HandshakeError> {
    let mut connection = UnbufferedClientConnection::new(config, name)?;
    let received = drive(&mut connection, &mut socket, Vec::with_capacity(4096)).await?;
    let (certificates, alpn) = agreed(&connection);
    let (secrets, schedule) = connection.dangerous_into_kernel_connection()?;
    let keys = TrafficKeys::new(&secrets, Schedule::Client(schedule))?;
    Ok(Handshaken { socket, keys, certificates, alpn, received })
}

/// Shakes hands as the side that was dialled.
///
/// # Errors
/// See [`HandshakeError`]. There is no time limit here: the caller has one.
pub async fn accept<W: Wire>(config: Arc<ServerConfig>, socket: W) -> Result<Handshaken<W>, HandshakeError> {
    accept_begun(config, socket, Vec::new()).await
}

/// The same, with what was received already.
///
/// # Errors
/// See [`accept`].
pub async fn accept_begun<W: Wire>(
    config: Arc<ServerConfig>,
    mut socket: W,
    received: Vec<u8>,
) -> Result<Handshaken<W>, HandshakeError> {
    let mut connection = UnbufferedServerConnection::new(config)?;
    let received = drive(&mut connection, &mut socket, received).await?;
    let (certificates, alpn) = agreed(&connection);
    let (secrets, schedule) = connection.dangerous_into_kernel_connection()?;
    let keys = TrafficKeys::new(&secrets, Schedule::Server(schedule))?;
    Ok(Handshaken { socket, keys, certificates, alpn, received })
}

fn agreed<Data>(connection: &UnbufferedConnectionCommon<Data>) -> (Vec<CertificateDer<'static>>, Vec<u8>) {
    let certificates = connection.peer_certificates().unwrap_or_default();
    let certificates = certificates.iter().map(|certificate| certificate.clone().into_owned()).collect();
    (certificates, connection.alpn_protocol().unwrap_or_default().to_vec())
}

/// Either side's connection.
trait Connection {
    type Data;
    fn process<'c, 'i>(&'c mut self, tls: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, tls: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(tls)
    }
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, tls: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(tls)
    }
}

/// What the handshake wants next.
enum Step {
    Again,
    Send,
    Receive,
    Done,
}

/// Drives a handshake to its end; the bytes that came behind it.
///
/// rustls is shown one record more at a time, so that it never opens what is meant for our record layer.
async fn drive<C: Connection>(
    connection: &mut C,
    socket: &mut impl Wire,
    mut incoming: Vec<u8>,
) -> Result<Vec<u8>, HandshakeError> {
    let (mut shown, mut outgoing) = (0, Vec::new());
    let mut total = incoming.len();
    loop {
        match step(connection, &mut incoming, &mut shown, &mut outgoing) {
            Ok(Step::Again) => {}
            Ok(Step::Done) => return Ok(incoming),
            Ok(Step::Send) => {
                socket.write_all(&outgoing).await?;
                outgoing.clear();
            }
            Ok(Step::Receive) => {
                while !show_next_record(&incoming, &mut shown) {
                    let n = socket.read_buf(&mut incoming).await?;
                    total += n;
                    match n {
                        0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                        _ if total > MAX_HANDSHAKE => return Err(HandshakeError::TooLong),
                        _ => {}
                    }
                }
            }
            Err(refusal) => {
                // The alert tells the peer why. That it may not arrive changes nothing.
                let _ = step(connection, &mut Vec::new(), &mut 0, &mut outgoing);
                let _ = socket.write_all(&outgoing).await;
                let _ = socket.shutdown().await;
                return Err(refusal.into());
            }
        }
    }
}

fn step<C: Connection>(
    connection: &mut C,
    incoming: &mut Vec<u8>,
    shown: &mut usize,
    outgoing: &mut Vec<u8>,
) -> Result<Step, rustls::Error> {
    let UnbufferedStatus { discard, state, .. } = connection.process(&mut incoming[..*shown]);
    let step = match state? {
        ConnectionState::EncodeTlsData(mut data) => {
            encode(outgoing, |room| data.encode(room))?;
            Step::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Send
        }
        ConnectionState::BlockedHandshake => Step::Receive,
        ConnectionState::WriteTraffic(_) => Step::Done,
        _ => return Err(rustls::Error::General("the TLS connection closed during its handshake".into())),
    };
    incoming.drain(..discard);
    *shown -= discard;
    Ok(step)
}

fn encode(
    outgoing: &mut Vec<u8>,
    mut into: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), rustls::Error> {
    let start = outgoing.len();
    let mut room = 2048;
    loop {
        outgoing.resize(start + room, 0);
        match into(&mut outgoing[start..]) {
            Ok(n) => {
                outgoing.truncate(start + n);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Err(EncodeError::AlreadyEncoded) => return Err(rustls::Error::General("TLS data encoded twice".into())),
        }
    }
}

/// Moves `shown` behind the next whole record, if it has come in. Lengths are rustls' business: a bad one fails there.
fn show_next_record(incoming: &[u8], shown: &mut usize) -> bool {
    let Some(&[_, _, _, high, low]) = incoming.get(*shown..*shown + 5) else { return false };
    let end = *shown + 5 + usize::from(u16::from_be_bytes([high, low]));
    let whole = incoming.len() >= end;
    if whole {
        *shown = end;
    }
    whole
}
