//! A peer whose every record the test writes and reads itself.

use super::super::*;
use crate::tunnel::{
    mux::frame::{self, Kind},
    tls::{Opened, RecordBuffer, TrafficKeys, record},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One end of a connection behind its handshake.
pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    keys: TrafficKeys,
    received: Vec<u8>,
}

/// A frame as it stands in a record.
pub(crate) fn frame(kind: Kind, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&frame::header(kind, stream, payload.len()), payload].concat()
}

/// HELLO with this credit.
pub(crate) fn hello(window: u32) -> Vec<u8> {
    let mut payload = [0; 12];
    payload[..4].copy_from_slice(&window.to_be_bytes());
    payload[4..8].copy_from_slice(&100u32.to_be_bytes());
    frame(Kind::Hello, 0, &payload)
}

impl Raw {
    pub(crate) fn new(Handshaken { socket, keys, received, .. }: Handshaken) -> Self {
        Self { socket, keys, received }
    }

    /// One record, sealed. They must be sent in this order.
    pub(crate) fn seal(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut buffer = RecordBuffer::default();
        buffer.push(record::ContentType::Data, frames);
        buffer.close();
        let end = self.keys.seal(&mut buffer, 0, usize::MAX / 2).unwrap();
        buffer.slice(0, end).to_vec()
    }

    pub(crate) async fn send(&mut self, frames: &[u8]) {
        let record = self.seal(frames);
        self.socket.write_all(&record).await.unwrap();
    }

    /// The frames of the next record; `None` once the other side has said `close_notify`.
    ///
    /// # Errors
    /// The connection broke, or ended without.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(length) = record::whole_record(&self.received).unwrap() {
                let mut record: Vec<u8> = self.received.drain(..length).collect();
                match self.keys.open(&mut record).unwrap() {
                    Opened::Data(frames) => return Ok(Some(frames.to_vec())),
                    Opened::Closed => return Ok(None),
                    Opened::Handled => continue,
                }
            }
            if self.socket.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads until a frame of this kind comes: its stream. What else is in its record is lost.
    pub(crate) async fn receive_until(&mut self, kind: Kind) -> u32 {
        loop {
            let record = self.receive().await.unwrap().expect("the connection goes on");
            let mut rest = &record[..];
            while let Some(frame) = frame::next(&mut rest).unwrap() {
                if frame.kind == kind {
                    return frame.stream;
                }
            }
        }
    }
}
