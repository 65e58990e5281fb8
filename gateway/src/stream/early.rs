//! What a client has said before its stream was accepted.

use super::copy::Tally;
use crate::{
    socket::Socket,
    tunnel::{StreamError, TunnelStream},
};
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

/// See the module.
#[derive(Default)]
pub(crate) struct Early {
    /// Bytes, in order.
    pub(crate) bytes: Vec<u8>,
    /// Whether it has ended.
    pub(crate) ended: bool,
    /// Whether it is held to a rate: then nobody is sent any of it before its stream is taken.
    pub(crate) is_held: bool,
}

/// Sends `bytes`, as long as that takes: whoever waits says how long that may be. What the peer says meanwhile goes to `socket`.
///
/// # Errors
/// The socket has failed.
pub(super) async fn send(
    stream: &mut dyn TunnelStream,
    socket: &Rc<Socket>,
    bytes: Vec<u8>,
    tally: &mut impl Tally,
) -> Result<(), StreamError> {
    let mut unsent = &bytes[..];
    let sending = poll_fn(|cx| poll_send(cx, stream, socket, &mut unsent, tally));
    tokio::select! {
        biased;
        sent = sending => sent,
        // Nobody reads what would tell of the reset.
        () = socket.failed() => Err(StreamError::Socket(socket.take_error())),
    }
}

/// Sends what the peer has given no credit for yet. The endpoint may want to be read before it reads on.
fn poll_send(
    cx: &mut Context<'_>,
    stream: &mut dyn TunnelStream,
    socket: &Rc<Socket>,
    unsent: &mut &[u8],
    tally: &mut impl Tally,
) -> Poll<Result<(), StreamError>> {
    while !unsent.is_empty() {
        match stream.poll_write(cx, unsent) {
            Poll::Ready(Ok(n)) => {
                tally.sent(n as u64);
                *unsent = &unsent[n..];
            }
            // The stream is over, which the copy reports.
            Poll::Ready(Err(_)) => break,
            Poll::Pending => match stream.poll_receive(cx, socket) {
                Poll::Ready(Ok(n)) if n > 0 => tally.received(n as u64),
                Poll::Ready(Err(failed @ StreamError::Socket(_))) => return Poll::Ready(Err(failed)),
                Poll::Ready(Err(_)) => break,
                // An end is still there for the copy, and the client need not wait for that.
                Poll::Ready(Ok(_)) => {
                    socket.finish();
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            },
        }
    }
    Poll::Ready(Ok(()))
}
