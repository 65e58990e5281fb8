//! One probe: asks an endpoint what its check says, within its time.

mod grpc;
mod http;
mod tls;

pub(super) use tls::Tls;

use crate::{proxy_protocol, socket::is_out_of_sockets};
use isthmus_control_api::{HealthCheck, Probe};
use std::net::SocketAddr;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// Asks the endpoint at `address`; `header`: it expects one of the PROXY protocol.
///
/// `None`: there was no socket to ask it.
///
/// # Errors
/// Why it is not well, in a few words.
pub(super) async fn run(
    check: &HealthCheck,
    address: SocketAddr,
    header: bool,
    tls: &Tls,
) -> Option<Result<(), String>> {
    let asking = async {
        match TcpStream::connect(address).await {
            Ok(stream) => Some(ask(&check.probe, stream, address, header, tls).await),
            Err(error) if is_out_of_sockets(&error) => None,
            Err(error) => Some(Err(format!("cannot connect: {}", error.kind()))),
        }
    };
    let in_time = tokio::time::timeout(check.timeout, asking).await;
    in_time.unwrap_or_else(|_| Some(Err(format!("no answer within {} ms", check.timeout.as_millis()))))
}

async fn ask(probe: &Probe, mut stream: TcpStream, address: SocketAddr, header: bool, tls: &Tls) -> Result<(), String> {
    if header {
        let written = stream.write_all(&proxy_protocol::LOCAL).await;
        written.map_err(|error| format!("it closed: {}", error.kind()))?;
    }
    let host = |host: &Option<String>| host.clone().unwrap_or_else(|| address.to_string());
    match probe {
        Probe::Tcp => Ok(()),
        Probe::Tls { host } => tls.shake_hands(stream, address, host.as_deref()).await,
        Probe::Http { path, host: name, expect } => http::ask(stream, path, &host(name), expect).await,
        Probe::Grpc { service, host: name } => grpc::ask(stream, service, &host(name)).await,
    }
}

#[cfg(test)]
mod tests;
