//! Where clients connect.

use super::Hop;
use isthmus_control_api::Listen;
use std::time::{Duration, Instant};
use tokio::{net::TcpStream, time::timeout};

/// For a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connects there, and goes.
pub(super) async fn hop(listen: &str) -> Hop {
    let Some(Listen { address, .. }) = listen.parse().ok().filter(|listen: &Listen| listen.protocol.is_tcp()) else {
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
