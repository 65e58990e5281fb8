//! Where clients connect.

use super::Hop;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};

/// For a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connects there, and goes.
pub(super) async fn hop(listen: &str) -> Hop {
    let Ok(address) = listen.parse::<SocketAddr>() else {
        return Hop::skipped("listener", listen, "a listener of UDP does not say whether it is there");
    };
    let began = Instant::now();
    match timeout(PATIENCE, TcpStream::connect(crate::cmd::admin::here(address))).await {
        Ok(Ok(_)) => {
            let took = began.elapsed().as_secs_f64() * 1e3;
            Hop::ok("listener", listen, Some(took), "takes connections")
        }
        Ok(Err(error)) => Hop::failed("listener", listen, error.to_string()),
        Err(_) => Hop::failed("listener", listen, format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
