//! A gateway's admin address: `--admin`, and one request there, within bounds of size and time.

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// For the whole exchange. The gateway itself waits up to a second for its cores.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where the gateway opens streams to see whether they get through.
const PROBING: Duration = Duration::from_secs(30);
/// The longest answer: thousands of services.
const LONGEST: usize = 64 * 1024 * 1024;

/// `--admin`: flatten it into a subcommand's arguments.
#[derive(Debug, clap::Args)]
pub(in crate::cmd) struct Admin {
    /// The gateway's admin address, as `admin:` of its configuration has it
    #[arg(long = "admin", value_name = "HOST:PORT", default_value = "127.0.0.1:15020")]
    pub(in crate::cmd) address: String,
}

impl Admin {
    /// What `path` says now.
    pub(in crate::cmd) async fn get(&self, path: &str) -> Result<Bytes, FetchError> {
        get(&self.address, path).await
    }
}

/// Why there is no answer, and what to do.
#[derive(Debug, thiserror::Error)]
pub(in crate::cmd) enum FetchError {
    #[error(
        "nothing listens on {0}: start the gateway (isthmus run --config FILE), or name its address as `admin:` of its \
         configuration has it (--admin HOST:PORT)"
    )]
    NobodyThere(String),
    #[error("cannot connect to {0}: {1} (found {0} by --admin, expected HOST:PORT of a gateway's admin address)")]
    Connect(String, io::Error),
    #[error("{0} did not answer within {1} s: its process may be stuck; see {0}/livez")]
    Timeout(String, u64),
    #[error("{0} does not speak HTTP: {1} (is it the gateway's admin address?)")]
    Protocol(String, hyper::Error),
    #[error("{0} answered {1}: {2}")]
    Refused(String, StatusCode, String),
    #[error("the answer of {0} is cut off: {1}")]
    Body(String, Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer of {0} is longer than {limit} MiB (is it the gateway's admin address?)", limit = LONGEST >> 20)]
    TooLong(String),
}

/// The body of `http://admin/path`.
pub(in crate::cmd) async fn get(admin: &str, path: &str) -> Result<Bytes, FetchError> {
    within(PATIENCE, admin, request(Method::GET, admin, path)?).await
}

/// What a probe finds.
pub(in crate::cmd) async fn probe(admin: &str, path: &str) -> Result<Bytes, FetchError> {
    within(PROBING, admin, request(Method::POST, admin, path)?).await
}

async fn within(patience: Duration, admin: &str, request: Request<Empty<Bytes>>) -> Result<Bytes, FetchError> {
    let timed_out = |_| Err(FetchError::Timeout(admin.to_owned(), patience.as_secs()));
    timeout(patience, exchange(admin, request)).await.unwrap_or_else(timed_out)
}

async fn exchange(admin: &str, request: Request<Empty<Bytes>>) -> Result<Bytes, FetchError> {
    let socket = TcpStream::connect(admin).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => FetchError::NobodyThere(admin.to_owned()),
        _ => FetchError::Connect(admin.to_owned(), error),
    })?;
    let broken = |error| FetchError::Protocol(admin.to_owned(), error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(broken)?;
    let answer = async move {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| cut_off(admin, error))?;
        Ok((status, body.to_bytes()))
    };
    // What goes wrong with the connection, the answer says.
    let (answer, _) = tokio::join!(answer, connection);
    let (status, body) = answer?;
    if status == StatusCode::OK { Ok(body) } else { Err(refused(admin, status, &body)) }
}

fn request(method: Method, admin: &str, path: &str) -> Result<Request<Empty<Bytes>>, FetchError> {
    let built = Request::builder().method(method).uri(path).header(HOST, admin).body(Empty::new());
    // A name with a character that no header takes was resolved: it cannot be.
    built.map_err(|error| FetchError::Connect(admin.to_owned(), io::Error::other(error)))
}

fn cut_off(admin: &str, error: Box<dyn std::error::Error + Send + Sync>) -> FetchError {
    if error.is::<LengthLimitError>() {
        FetchError::TooLong(admin.to_owned())
    } else {
        FetchError::Body(admin.to_owned(), error)
    }
}

/// The first line of the answer is enough for people.
fn refused(admin: &str, status: StatusCode, body: &[u8]) -> FetchError {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    FetchError::Refused(admin.to_owned(), status, line)
}

/// Where something is reached from this machine that listens there.
pub(in crate::cmd) fn here(listen: SocketAddr) -> SocketAddr {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_over_loopback() {
        for (listen, at) in [("0.0.0.0:15020", "127.0.0.1:15020"), ("[::]:1", "[::1]:1"), ("10.0.0.7:1", "10.0.0.7:1")]
        {
            assert_eq!(here(listen.parse().unwrap()), at.parse().unwrap());
        }
    }
}
