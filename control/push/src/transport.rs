//! HTTP/2 over mutual TLS, as both sides have it: who is trusted, what is bounded, what ends with a connection.

use crate::{KEEPALIVE, PATIENCE};
use hyper::{body::Incoming, client::conn::http2, rt::Executor};
use hyper_util::rt::{TokioIo, TokioTimer};
use isthmus_certs::{IdentityStore, RefusedHandshake, verify};
use rustls::pki_types::CertificateDer;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Instant, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;

/// What is spoken inside TLS.
pub(crate) const ALPN: &[&[u8]] = &[b"h2"];
/// Bytes of one stream that may be under way.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same of a whole connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of one stream that wait to be written.
const SEND_BUFFER: usize = 256 << 10;
/// Streams at once on one connection: the session, and those of the exchange.
const STREAMS: u32 = 256;

/// The tasks of one connection: they end with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    end: CancellationToken,
}

impl Tasks {
    /// Runs it until it or the connection ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tracker.spawn(async move { end.run_until_cancelled_owned(task).await });
    }

    /// Runs it until it has ended, which the connection's end brings about soon: it has last words to say.
    pub(crate) fn spawn_to_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Ends the others.
    pub(crate) fn end(&self) {
        self.end.cancel();
    }
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.spawn(async move { drop(future.await) });
    }
}

/// Why the other side is trusted, to be asked again when our CA certificates change.
pub(crate) struct Trust {
    identity: IdentityStore,
    changes: watch::Receiver<u64>,
    expected: verify::Expected,
    chain: Vec<CertificateDer<'static>>,
    since: SystemTime,
}

impl Trust {
    pub(crate) fn new(
        identity: &IdentityStore,
        expected: verify::Expected,
        chain: Option<&[CertificateDer<'_>]>,
    ) -> Self {
        let chain = chain.unwrap_or_default().iter().map(|cert| cert.clone().into_owned()).collect();
        // From before the check: what changes meanwhile is looked at.
        let changes = identity.subscribe();
        Self { identity: identity.clone(), changes, expected, chain, since: SystemTime::now() }
    }

    /// Waits until it is not any more: a connection outlives its SVID, but not its trust.
    pub(crate) async fn lost(&mut self) -> RefusedHandshake {
        loop {
            if let Err(refused) = verify::check(&self.identity.current(), &self.expected, &self.chain, self.since) {
                return refused;
            }
            if self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// When a connection brought something last. Pings do, and their answers.
#[derive(Debug, Clone)]
pub(crate) struct LastHeard(Arc<Mutex<Instant>>);

/// A connection of which it is noted when it brings something.
pub(crate) struct Noting<S> {
    stream: S,
    heard: LastHeard,
}

impl LastHeard {
    /// The last moment; that of the beginning if nothing came yet.
    pub(crate) fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what `stream` brings.
    pub(crate) fn of<S>(&self, stream: S) -> Noting<S> {
        Noting { stream, heard: self.clone() }
    }
}

impl Default for LastHeard {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            *self.heard.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve<S>(
    stream: Noting<tokio_rustls::server::TlsStream<TcpStream>>,
    tasks: &Tasks,
    service: S,
) -> hyper::Result<()>
where
    S: hyper::service::Service<
            http::Request<Incoming>,
            Response = http::Response<Body>,
            Error = std::convert::Infallible,
        >,
    S::Future: Send + 'static,
{
    hyper::server::conn::http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(STREAMS)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// Begins HTTP/2 on what was dialled.
pub(crate) async fn begin(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    tasks: &Tasks,
) -> hyper::Result<(Channel, impl Future<Output = hyper::Result<()>> + use<>)> {
    let (sender, connection) = http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .handshake(TokioIo::new(stream))
        .await?;
    Ok((Channel(sender), connection))
}

/// Where requests go, for tonic.
#[derive(Clone)]
pub(crate) struct Channel(http2::SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// `future`, if it is over in time.
pub(crate) async fn in_time<T, E: Into<io::Error>>(
    what: &str,
    future: impl Future<Output = Result<T, E>>,
) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("{what}: not within {} s", PATIENCE.as_secs()));
    match timeout(PATIENCE, future).await {
        Ok(result) => result.map_err(|error| {
            let error: io::Error = error.into();
            io::Error::new(error.kind(), format!("{what}: {error}"))
        }),
        Err(_) => Err(late()),
    }
}
