//! What goes beside the streams: DATAGRAM frames (RFC 9221), each with the id of the stream whose flow it belongs to.
//!
//! ```text
//! DATAGRAM    stream id, as QUIC's varint; payload
//! ```

use super::Shared;
use crate::{flow::queue::Queue, tunnel::DatagramError};
use bytes::Bytes;
use quinn::{Connection, SendDatagramError};
use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

/// Bytes of datagrams that came in and nobody has taken yet, all streams of a tunnel together.
pub(super) const MOST: usize = 4 << 20;

/// Datagrams of one stream that came in and nobody has taken yet.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: RefCell<Queue>,
    waker: RefCell<Option<Waker>>,
}

/// One stream's datagrams, as its task uses them. While it lives, the tunnel keeps what comes for the stream.
pub(super) struct Datagrams {
    shared: Rc<Shared>,
    id: u32,
    inbox: Rc<Inbox>,
    /// One that waits for others to leave.
    waiting: Option<Sending>,
}

/// A datagram's way into the connection.
type Sending = Pin<Box<dyn Future<Output = Result<(), SendDatagramError>>>>;

impl Datagrams {
    pub(super) fn new(shared: &Rc<Shared>, id: u32) -> Self {
        let queue = RefCell::new(Queue::new(&shared.inboxed));
        let inbox = Rc::new(Inbox { queue, waker: RefCell::default() });
        shared.inboxes.borrow_mut().insert(id, inbox.clone());
        Self { shared: shared.clone(), id, inbox, waiting: None }
    }

    /// Sends a datagram. It is to be asked with the same one until it is ready.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<Result<(), DatagramError>> {
        let connection = &self.shared.connection;
        let mut waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None => {
                let Some(most) = connection.max_datagram_size() else {
                    return Poll::Ready(Err(DatagramError::Unsupported));
                };
                let head = head(self.id);
                let head = head.as_slice();
                if head.len() + datagram.len() > most {
                    return Poll::Ready(Err(DatagramError::TooLarge(most.saturating_sub(head.len()))));
                }
                let frame = Bytes::from([head, datagram].concat());
                if connection.datagram_send_buffer_space() >= frame.len() {
                    let sent = connection.send_datagram(frame);
                    return Poll::Ready(self.sent(&sent));
                }
                Box::pin(wait(connection.clone(), frame))
            }
        };
        match waiting.as_mut().poll(cx) {
            Poll::Ready(sent) => Poll::Ready(self.sent(&sent)),
            Poll::Pending => {
                self.waiting = Some(waiting);
                Poll::Pending
            }
        }
    }

    /// The next datagram, and how many were dropped before it.
    pub(super) fn poll_receive(&self, cx: &Context<'_>) -> Poll<(Bytes, u64)> {
        let mut queue = self.inbox.queue.borrow_mut();
        match queue.pop(Instant::now()) {
            Some(datagram) => Poll::Ready((datagram, queue.take_dropped())),
            None => {
                *self.inbox.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn sent(&self, sent: &Result<(), SendDatagramError>) -> Result<(), DatagramError> {
        match sent {
            Ok(()) => {
                self.shared.wrote();
                Ok(())
            }
            // The path has shrunk meanwhile.
            Err(SendDatagramError::TooLarge) => {
                Err(DatagramError::TooLarge(self.shared.connection.max_datagram_size().unwrap_or_default()))
            }
            Err(SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled) => Err(DatagramError::Unsupported),
            Err(SendDatagramError::ConnectionLost(_)) => Err(DatagramError::TunnelLost),
        }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.shared.inboxes.borrow_mut().remove(&self.id);
    }
}

/// Sorts what comes in to the streams that it is for, until the connection ends. What nobody waits for is late: its flow is over.
pub(super) async fn sort(shared: &Shared) {
    while let Ok(mut frame) = shared.connection.read_datagram().await {
        let Some(id) = take_id(&mut frame) else { continue };
        let Some(inbox) = shared.inboxes.borrow().get(&id).cloned() else {
            tracing::trace!(id, "a datagram of a flow that is over");
            continue;
        };
        shared.received.set(true);
        // A copy: a piece would hold the whole buffer that its packet came in.
        inbox.queue.borrow_mut().push(Bytes::copy_from_slice(&frame), Instant::now());
        if let Some(waker) = inbox.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

async fn wait(connection: Connection, frame: Bytes) -> Result<(), SendDatagramError> {
    connection.send_datagram_wait(frame).await
}

/// A stream's id as RFC 9000, section 16, has integers.
#[derive(Debug, Clone, Copy)]
struct Head {
    bytes: [u8; 8],
    length: usize,
}

impl Head {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn head(id: u32) -> Head {
    let mut bytes = [0; 8];
    let length = match id {
        0..0x40 => {
            bytes[..1].copy_from_slice(&(id as u8).to_be_bytes());
            1
        }
        0x40..0x4000 => {
            bytes[..2].copy_from_slice(&(id as u16 | 0x4000).to_be_bytes());
            2
        }
        0x4000..0x4000_0000 => {
            bytes[..4].copy_from_slice(&(id | 0x8000_0000).to_be_bytes());
            4
        }
        _ => {
            bytes.copy_from_slice(&(u64::from(id) | 0xc000_0000_0000_0000).to_be_bytes());
            8
        }
    };
    Head { bytes, length }
}

/// Takes the id off a frame; `None` if there is none, or none that a stream can have.
fn take_id(frame: &mut Bytes) -> Option<u32> {
    let length = 1 << (frame.first()? >> 6);
    if frame.len() < length {
        return None;
    }
    let mut bytes = [0; 8];
    bytes[8 - length..].copy_from_slice(&frame.split_to(length));
    bytes[8 - length] &= 0x3f;
    u32::try_from(u64::from_be_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_read_as_it_was_written(id: u32, payload in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut frame = Bytes::from([head(id).as_slice(), &payload].concat());
            prop_assert_eq!(take_id(&mut frame), Some(id));
            prop_assert_eq!(&frame[..], &payload[..]);
        }

        #[test]
        fn no_frame_panics(frame in prop::collection::vec(any::<u8>(), 0..12)) {
            let _ = take_id(&mut Bytes::from(frame));
        }
    }

    #[test]
    fn ids_are_as_short_as_quic_has_them() {
        let lengths = [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30].map(|id| head(id).as_slice().len());
        assert_eq!(lengths, [1, 1, 2, 2, 4, 4, 8]);
    }
}
