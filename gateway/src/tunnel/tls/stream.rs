//! The record layer as a byte stream, for transports that want one (HTTP/2).

use super::{
    Handshaken, Opened, RecordBuffer, TrafficKeys,
    record::{ContentType, MAX_PAYLOAD, whole_record},
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Bytes gathered before they are sealed and sent.
const GATHER: usize = 64 * 1024;
/// Bytes read at once.
const READ: usize = 64 * 1024;

/// A TLS connection as a byte stream.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    keys: TrafficKeys,
    incoming: Vec<u8>,
    /// Where in `incoming` unopened records begin and received bytes end.
    records: (usize, usize),
    /// Where in `incoming` opened bytes lie that nobody has read yet.
    plain: (usize, usize),
    ended: bool,
    outgoing: RecordBuffer,
    sealed: usize,
    sent: usize,
    said_close: bool,
}

impl TlsStream {
    /// Goes on where the handshake ended.
    pub fn new(handshaken: Handshaken) -> Self {
        let Handshaken { socket, keys, received: incoming, .. } = handshaken;
        let records = (0, incoming.len());
        let outgoing = RecordBuffer::default();
        Self {
            socket,
            keys,
            incoming,
            records,
            plain: (0, 0),
            ended: false,
            outgoing,
            sealed: 0,
            sent: 0,
            said_close: false,
        }
    }

    /// Opens the next record that is whole; false if there is none.
    fn open_next(&mut self) -> io::Result<bool> {
        let (start, end) = self.records;
        let invalid = |e: &dyn std::error::Error| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
        let Some(length) = whole_record(&self.incoming[start..end]).map_err(|e| invalid(&e))? else { return Ok(false) };
        self.records.0 += length;
        match self.keys.open(&mut self.incoming[start..start + length]).map_err(|e| invalid(&e))? {
            Opened::Data(payload) => {
                self.plain = (start + super::record::HEADER, start + super::record::HEADER + payload.len());
            }
            Opened::Handled => {}
            Opened::Closed => self.ended = true,
        }
        Ok(true)
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (start, end) = self.records;
        self.incoming.copy_within(start..end, 0);
        self.records = (0, end - start);
        self.plain = (0, 0);
        if self.incoming.len() < READ {
            self.incoming.resize(READ, 0);
        }
        let mut buf = ReadBuf::new(&mut self.incoming[end - start..]);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
        match buf.filled().len() {
            // An end without close_notify may be an attacker's: HTTP/2 streams that had not ended are told apart by END_STREAM.
            0 => self.ended = true,
            n => self.records.1 += n,
        }
        Poll::Ready(Ok(()))
    }

    /// Seals and sends what was gathered.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.keys.queue_update(&mut self.outgoing);
        self.outgoing.close();
        while self.sent < self.outgoing.len() {
            if self.sent == self.sealed {
                let sealed = self.keys.seal(&mut self.outgoing, self.sealed, GATHER);
                self.sealed = sealed.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            }
            let bytes = self.outgoing.slice(self.sent, self.sealed);
            self.sent += ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        }
        self.outgoing.clear();
        (self.sealed, self.sent) = (0, 0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let (start, end) = this.plain;
            if start < end {
                let n = buf.remaining().min(end - start);
                buf.put_slice(&this.incoming[start..start + n]);
                this.plain.0 += n;
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            if !this.open_next()? {
                ready!(this.poll_more(cx))?;
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sealed > 0 || this.outgoing.len() >= GATHER {
            ready!(this.poll_drain(cx))?;
        }
        let n = bytes.len().min(MAX_PAYLOAD);
        this.outgoing.gather(&[&bytes[..n]]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sealed > 0 || this.outgoing.len() >= GATHER {
            ready!(this.poll_drain(cx))?;
        }
        let mut total = 0;
        for slice in slices {
            for part in slice.chunks(MAX_PAYLOAD) {
                if total >= GATHER {
                    return Poll::Ready(Ok(total));
                }
                this.outgoing.append_split(part);
                total += part.len();
            }
        }
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.said_close, true) {
            // close_notify, warning.
            this.outgoing.push(ContentType::Alert, &[1, 0]);
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}
