//! The endpoints: each says who it is, and each stream begins with what its client wants of them.

use crate::restarts::Served;
use isthmus_tests::{Pattern, client};
use socket2::SockRef;
use std::{
    io::{self, ErrorKind},
    ops::{Deref, DerefMut},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wish {
    /// Everything back.
    Echo,
    /// `length` bytes of the pattern `seed`, and an end.
    Source,
    /// The digest of everything to the client's end.
    Sink,
    /// `length` bytes of the pattern, and a reset once the client has said a byte.
    Reset,
}

/// How it is written.
pub(crate) const HEAD: usize = 17;

/// What a client says first.
pub(crate) fn head(wish: Wish, seed: u64, length: u64) -> [u8; HEAD] {
    let mut head = [wish as u8; HEAD];
    head[1..9].copy_from_slice(&seed.to_be_bytes());
    head[9..].copy_from_slice(&length.to_be_bytes());
    head
}

/// Serves one connection as this endpoint. One that is dropped before it has begun, too, is a reset.
///
/// # Errors
/// As the socket has them.
pub(crate) fn serve(stream: TcpStream, served: Served) -> impl Future<Output = io::Result<()>> {
    answer(Abrupt(Some(stream)), served)
}

async fn answer(mut stream: Abrupt, served: Served) -> io::Result<()> {
    stream.write_all(&served.to_bytes()).await?;
    let wish = stream.read_u8().await?;
    let (seed, length) = (stream.read_u64().await?, stream.read_u64().await?);
    match wish {
        wish if wish == Wish::Echo as u8 => {
            echo(&mut stream).await?;
            stream.take().map(drop)
        }
        wish if wish == Wish::Source as u8 => {
            client::send(&mut *stream, seed, length).await?;
            stream.shutdown().await?;
            // Until the client has ended, too: bytes of it that nobody has read would make the close a reset.
            stream.read_to_end(&mut Vec::new()).await?;
            stream.take().map(drop)
        }
        wish if wish == Wish::Sink as u8 => {
            let received = client::receive(&mut *stream).await;
            received.clean()?;
            stream.write_all(received.digest.as_bytes()).await?;
            stream.shutdown().await?;
            stream.take().map(drop)
        }
        wish if wish == Wish::Reset as u8 => {
            stream.write_all(&Pattern::new(seed).take(usize::try_from(length).map_err(io::Error::other)?)).await?;
            stream.read_u8().await?;
            Ok(())
        }
        other => Err(io::Error::new(ErrorKind::InvalidData, format!("found wish {other}, expected 0 to 3"))),
    }
}

async fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

/// A connection that is reset when it is dropped: an endpoint that is restarted must not make a stream look whole.
struct Abrupt(Option<TcpStream>);

impl Abrupt {
    fn take(&mut self) -> io::Result<TcpStream> {
        self.0.take().ok_or_else(|| ErrorKind::NotConnected.into())
    }
}

impl Drop for Abrupt {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            // One that is gone already has nothing left to reset.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Deref for Abrupt {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        self.0.as_ref().unwrap_or_else(|| unreachable!("only the last use takes it"))
    }
}

impl DerefMut for Abrupt {
    fn deref_mut(&mut self) -> &mut TcpStream {
        self.0.as_mut().unwrap_or_else(|| unreachable!("only the last use takes it"))
    }
}
