//! One connection to the admin address, and how long it may last.

use super::{LONGEST_HEAD, Limits, MOST_FIELDS};
use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{self, Instant},
};

/// What a request's connection is: an extension of each request.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Whether both its ends are on loopback: nobody from elsewhere has such an address.
    pub(crate) on_loopback: bool,
    patience: Duration,
    /// When it is cut off.
    deadline: Mutex<Instant>,
}

impl Connection {
    fn new(socket: &TcpStream, patience: Duration) -> Self {
        let is_loopback = |end: std::io::Result<SocketAddr>| end.is_ok_and(|end| end.ip().to_canonical().is_loopback());
        let on_loopback = is_loopback(socket.local_addr()) && is_loopback(socket.peer_addr());
        Self { on_loopback, patience, deadline: Mutex::new(Instant::now() + patience) }
    }

    /// A part of an answer that goes on was taken: it has its time anew.
    pub(crate) fn goes_on(&self) {
        // A time is whole in any case.
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + self.patience;
    }

    async fn expired(&self) {
        loop {
            let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
            if deadline <= Instant::now() {
                return;
            }
            time::sleep_until(deadline).await;
        }
    }
}

/// Serves one request.
pub(super) async fn serve(socket: TcpStream, router: Router, limits: Limits) {
    let connection = Arc::new(Connection::new(&socket, limits.connection));
    let (router, of_requests) = (TowerToHyperService::new(router), connection.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(of_requests.clone());
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::debug!(%error, "admin request");
        },
        () = connection.expired() => tracing::debug!("an admin request was not over in time"),
    }
}
