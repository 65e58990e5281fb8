//! A GET over HTTP/1.1.

use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use std::ops::RangeInclusive;
use tokio::net::TcpStream;

/// Whether it is answered with a status of `expect`. The answer's body is not read.
///
/// # Errors
/// No, or not in HTTP.
pub(super) async fn ask(stream: TcpStream, path: &str, host: &str, expect: &RangeInclusive<u16>) -> Result<(), String> {
    let request = Request::get(path).header(HOST, host).header("user-agent", "isthmus").header("connection", "close");
    let request = request.body(String::new()).map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let answering = async {
        let answer = sender.send_request(request).await.map_err(|error| format!("no HTTP: {error}"))?;
        let status = answer.status().as_u16();
        if expect.contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
    };
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        biased;
        answer = &mut answering => answer,
        // It is over when the answer is there, which the other branch knows.
        _ = connection => answering.await,
    }
}
