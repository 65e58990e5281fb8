//! The bytes of one stream of the exchange, between a socket and gRPC. Nothing is read that cannot be sent on, on either side.

use crate::wire::Piece;
use bytes::BytesMut;
use futures_util::{Stream, stream};
use std::pin::Pin;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
};
use tonic::Streaming;

/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;
/// Pieces that wait for HTTP/2 to take them.
pub(crate) const PIECES: usize = 4;

/// Copies both ways, until either side ends.
pub(crate) async fn copy<T>(socket: UnixStream, mut from: Streaming<Piece>, to: mpsc::Sender<T>, wrap: fn(Piece) -> T) {
    let (mut read, mut write) = socket.into_split();
    let out = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match read.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let piece = Piece { bytes: buffer.split().freeze(), head: None };
            if to.send(wrap(piece)).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        while let Ok(Some(piece)) = from.message().await {
            if write.write_all(&piece.bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = out => {}
        () = back => {}
    }
}

/// What a channel brings, as a stream.
pub(crate) fn stream<T: Send + 'static>(from: mpsc::Receiver<T>) -> Pin<Box<dyn Stream<Item = T> + Send>> {
    Box::pin(stream::unfold(from, |mut from| async { from.recv().await.map(|item| (item, from)) }))
}
