//! gRPC's health checking protocol: `grpc.health.v1.Health/Check`, over HTTP/2 in the clear.

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

/// Bytes of an answer; a right one has seven.
const LONGEST: usize = 1024;
/// In front of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// `ServingStatus`.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Whether `service` is serving.
///
/// # Errors
/// No, or it is no gRPC server that can tell.
pub(super) async fn ask(stream: TcpStream, service: &str, authority: &str) -> Result<(), String> {
    let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| no_http2(&error))?;
    let mut asking = std::pin::pin!(exchange(sender, service, authority));
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        ended = connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(no_http2(&error)),
        },
    }
}

async fn exchange(sender: h2::client::SendRequest<Bytes>, service: &str, authority: &str) -> Result<(), String> {
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| error.to_string())?;
    let mut sender = sender.ready().await.map_err(|error| no_http2(&error))?;
    let (answer, mut body) = sender.send_request(request, false).map_err(|error| no_http2(&error))?;
    body.send_data(framed(&Question { service: service.to_owned() }), true).map_err(|error| no_http2(&error))?;
    let (head, mut body) = answer.await.map_err(|error| no_http2(&error))?.into_parts();
    if !head.status.is_success() {
        return Err(format!("HTTP status {}", head.status.as_u16()));
    }
    // A refusal may come without a body.
    grpc_status(&head.headers)?;
    let message = read(&mut body).await?;
    let trailers = body.trailers().await.map_err(|error| no_http2(&error))?;
    grpc_status(&trailers.unwrap_or_default())?;
    let message = message.get(PREFIX..).ok_or("an answer without a message")?;
    match Answer::decode(message).map_err(|_| "an answer that is no HealthCheckResponse")?.status {
        SERVING => Ok(()),
        status => Err(format!("serving status {status}")),
    }
}

fn framed(message: &Question) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, String> {
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| no_http2(&error))?;
        if message.len() + data.len() > LONGEST {
            return Err("an answer that is too long".into());
        }
        message.extend_from_slice(&data);
        let _ = body.flow_control().release_capacity(data.len());
    }
    Ok(message)
}

/// What `grpc-status` says, where it is there.
fn grpc_status(headers: &HeaderMap) -> Result<(), String> {
    match headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(()),
        Some(status) => Err(format!("gRPC status {}", String::from_utf8_lossy(&status[..status.len().min(20)]))),
    }
}

fn no_http2(error: &h2::Error) -> String {
    format!("no HTTP/2: {error}")
}
