//! Endpoints inside the test's own process, with exact behaviours.

use crate::{
    client::{Received, receive},
    netns::Netns,
    pattern::Pattern,
};
use socket2::SockRef;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// A listening endpoint; dropping it closes the listener and all its connections.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Endpoint {
    /// Serves every connection with `behaviour`.
    ///
    /// # Panics
    /// If the address cannot be had.
    pub fn serve<F, S>(netns: &Netns, tasks: &Handle, address: SocketAddr, behaviour: F) -> Self
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = netns.listen(address);
        let registered = {
            let _inside = tasks.enter();
            listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener))
        };
        let listener = registered.unwrap_or_else(|e| panic!("endpoint {address}: {e}"));
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let task = tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                connections.spawn(behaviour(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepted, task: task.abort_handle() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends everything back, and ends when the client has.
///
/// # Errors
/// As the socket has them.
pub async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

/// Reads to the client's end and only then answers: the digest of what came, and `tail` bytes of pattern.
///
/// # Errors
/// As the socket has them, and where the client's end was no FIN.
pub async fn answer_after_end(mut stream: TcpStream, seed: u64, tail: usize) -> io::Result<()> {
    let received = receive(&mut stream).await;
    received.clean()?;
    stream.write_all(received.digest.as_bytes()).await?;
    stream.write_all(&Pattern::new(seed).take(tail)).await?;
    stream.shutdown().await
}

/// Sends `head` bytes of pattern and its end at once, then reads to the client's end and tells what came.
///
/// # Errors
/// As the socket has them.
pub async fn end_first(mut stream: TcpStream, seed: u64, head: usize, told: mpsc::Sender<Received>) -> io::Result<()> {
    stream.write_all(&Pattern::new(seed).take(head)).await?;
    stream.shutdown().await?;
    let received = receive(&mut stream).await;
    let _ = told.send(received).await;
    Ok(())
}

/// Reads to the client's end, however that comes, and tells what came.
///
/// # Errors
/// Never.
pub async fn sink(mut stream: TcpStream, told: mpsc::Sender<Received>) -> io::Result<()> {
    let received = receive(&mut stream).await;
    let _ = told.send(received).await;
    Ok(())
}

/// Sends `length` bytes of pattern and ends.
///
/// # Errors
/// As the socket has them.
pub async fn source(mut stream: TcpStream, seed: u64, length: u64) -> io::Result<()> {
    crate::client::send(&mut stream, seed, length).await?;
    stream.shutdown().await
}

/// Sends `length` bytes of pattern, waits for one byte, and resets.
///
/// # Errors
/// As the socket has them.
pub async fn reset_after(mut stream: TcpStream, seed: u64, length: u64) -> io::Result<()> {
    crate::client::send(&mut stream, seed, length).await?;
    stream.read_u8().await?;
    reset(stream);
    Ok(())
}

/// Sends `length` bytes of pattern and resets at once, whatever is still under way.
///
/// # Errors
/// As the socket has them.
pub async fn reset_while_sending(mut stream: TcpStream, seed: u64, length: u64) -> io::Result<()> {
    crate::client::send(&mut stream, seed, length).await?;
    reset(stream);
    Ok(())
}

/// Reads to the client's end and answers it with RST.
///
/// # Errors
/// As the socket has them.
pub async fn reset_after_end(mut stream: TcpStream) -> io::Result<()> {
    receive(&mut stream).await.clean()?;
    reset(stream);
    Ok(())
}

/// Reads nothing until `go`, then to the client's end, and tells what came.
///
/// # Errors
/// Never.
pub async fn sink_after(mut stream: TcpStream, go: CancellationToken, told: mpsc::Sender<Received>) -> io::Result<()> {
    go.cancelled().await;
    let received = receive(&mut stream).await;
    let _ = told.send(received).await;
    Ok(())
}

/// Takes the connection, and never reads, writes or closes.
///
/// # Errors
/// Never.
pub async fn hang(stream: TcpStream) -> io::Result<()> {
    let _open = stream;
    std::future::pending().await
}

/// Closes with RST.
pub fn reset(stream: TcpStream) {
    // A socket that is gone already has nothing left to reset.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}
