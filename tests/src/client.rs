//! Clients: connecting from a namespace, sending patterns, and telling a FIN from an RST.

use crate::{
    netns::Netns,
    pattern::{Digest, Digester, Pattern},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// How long a stream may stand still before the test counts it as hung.
pub const STALL_BOUND: Duration = Duration::from_secs(30);

/// Connects from one of a namespace's addresses.
///
/// # Errors
/// As connect(2) has them.
pub async fn connect_from(netns: &Netns, from: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = netns.run(if from.is_ipv4() { TcpSocket::new_v4 } else { TcpSocket::new_v6 })?;
    socket.bind((from, 0).into())?;
    socket.connect(address).await
}

/// How the other side's bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With FIN: they are whole.
    Fin,
    /// With an error: RST, or a timeout of the kernel's.
    Error(io::ErrorKind),
    /// Not at all: nothing came for [`STALL_BOUND`].
    Hung,
}

/// What came, to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
    /// How they ended.
    pub end: End,
}

impl Received {
    /// An error unless it ended with FIN.
    ///
    /// # Errors
    /// As said.
    pub fn clean(&self) -> io::Result<()> {
        match self.end {
            End::Fin => Ok(()),
            end => Err(io::Error::other(format!("{} bytes, then {end:?}", self.bytes))),
        }
    }

    /// Asserts that it is the first `length` bytes of the pattern, ended with FIN.
    ///
    /// # Panics
    /// If it is not.
    pub fn assert_whole(&self, seed: u64, length: u64) {
        assert_eq!((self.bytes, self.end), (length, End::Fin), "of pattern {seed}");
        assert_eq!(self.digest, Pattern::digest(seed, length), "the bytes of pattern {seed} differ");
    }

    /// Asserts that it was broken off by RST, and that what came before are the first bytes of the pattern.
    ///
    /// # Panics
    /// If it is not so.
    pub fn assert_reset(&self, seed: u64) {
        assert_eq!(self.end, End::Error(io::ErrorKind::ConnectionReset), "after {} bytes", self.bytes);
        assert_eq!(self.digest, Pattern::digest(seed, self.bytes), "the bytes of pattern {seed} differ");
    }
}

/// Connects from inside a namespace.
///
/// # Errors
/// As connect(2) has them, and `TimedOut`.
pub async fn connect(netns: &Netns, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = netns.socket(address);
    socket.set_nonblocking(true)?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(address);
    timeout(STALL_BOUND, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Sends the first `length` bytes of a pattern.
///
/// # Errors
/// As the socket has them, and `TimedOut` if it stands still.
pub async fn send(stream: &mut (impl AsyncWrite + Unpin), seed: u64, length: u64) -> io::Result<()> {
    let (mut pattern, mut buffer, mut left) = (Pattern::new(seed), vec![0; 64 * 1024], length);
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        pattern.fill(&mut buffer[..n]);
        timeout(STALL_BOUND, stream.write_all(&buffer[..n]))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        left -= n as u64;
    }
    Ok(())
}

/// Reads to the end.
pub async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Received {
    receive_slowly(stream, u64::MAX, Duration::ZERO).await
}

/// Reads to the end, with a pause after every `burst` bytes.
pub async fn receive_slowly(stream: &mut (impl AsyncRead + Unpin), burst: u64, pause: Duration) -> Received {
    let (mut digester, mut bytes, mut in_burst) = (Digester::default(), 0, 0);
    let mut buffer = vec![0; 64 * 1024];
    let end = loop {
        match timeout(STALL_BOUND, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => break End::Fin,
            Ok(Ok(n)) => {
                digester.update(&buffer[..n]);
                bytes += n as u64;
                in_burst += n as u64;
            }
            Ok(Err(e)) => break End::Error(e.kind()),
            Err(_) => break End::Hung,
        }
        if in_burst >= burst {
            tokio::time::sleep(pause).await;
            in_burst = 0;
        }
    };
    Received { bytes, digest: digester.finish(), end }
}

/// Sends `bytes` and reads as many back.
///
/// # Errors
/// As the socket has them, `TimedOut` if it stands still, and `InvalidData` if they differ.
pub async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut back = vec![0; bytes.len()];
    let both = async { tokio::try_join!(writer.write_all(bytes), reader.read_exact(&mut back)) };
    timeout(STALL_BOUND, both).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if back == bytes { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "other bytes came back")) }
}
