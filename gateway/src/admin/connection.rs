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
    net::{IpAddr, SocketAddr},
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
    /// Whether it is from this machine itself, by the addresses. Where something in front puts the machine's own address in the
    /// place of the client's (a node's masquerading), a client from elsewhere looks the same.
    pub(crate) is_here: bool,
    patience: Duration,
    /// When it is cut off.
    deadline: Mutex<Instant>,
}

impl Connection {
    fn new(socket: &TcpStream, patience: Duration) -> Self {
        let address = |end: std::io::Result<SocketAddr>| end.ok().map(|end| end.ip().to_canonical());
        Self::between(address(socket.local_addr()), address(socket.peer_addr()), patience)
    }

    fn between(own: Option<IpAddr>, from: Option<IpAddr>, patience: Duration) -> Self {
        let is_loopback = |end: Option<IpAddr>| end.is_some_and(|end| end.is_loopback());
        let on_loopback = is_loopback(own) && is_loopback(from);
        let is_here = on_loopback || from.is_some() && own == from;
        Self { on_loopback, is_here, patience, deadline: Mutex::new(Instant::now() + patience) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_an_address_of_the_machine_is_here() {
        let between = |own: &str, from: &str| {
            let connection = Connection::between(own.parse().ok(), from.parse().ok(), Duration::ZERO);
            (connection.on_loopback, connection.is_here)
        };
        assert_eq!(between("127.0.0.1", "127.0.0.1"), (true, true));
        assert_eq!(between("10.0.0.7", "127.0.0.6"), (false, false), "as a sidecar has it");
        assert_eq!(between("10.0.0.7", "10.0.0.7"), (false, true));
        assert_eq!(between("10.0.0.7", "10.0.0.8"), (false, false));
        assert_eq!(between("", ""), (false, false));
    }
}
