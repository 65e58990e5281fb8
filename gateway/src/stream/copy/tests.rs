//! Local sockets that fail while nobody reads them. What a reader sees is tested end to end.

use super::*;
use crate::{
    core::tests::{fill, give_up_soon, local, reset},
    tunnel::driver::tests::pair::{Stream, on_a_core, pair, spawn, stream, until},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle};

/// A stream that is copied at one end.
struct Copied {
    /// The far end of the local socket: a client, or an endpoint.
    local: TcpStream,
    /// The other end of the stream.
    theirs: Stream,
    end: JoinHandle<Closed>,
}

async fn copied(prepare: impl FnOnce(&Socket)) -> Copied {
    let (west, mut east) = pair().await;
    let (mut ours, theirs) = stream(&west, &mut east).await;
    let (socket, local) = local().await;
    prepare(&socket);
    let end = spawn(async move {
        let closed = copy(&mut *ours, &socket, None, &mut ()).await;
        drop((west, east));
        closed
    });
    Copied { local, theirs, end }
}

/// Waits until the other end is told of a reset.
async fn is_reset(theirs: &mut Stream, socket: &Rc<Socket>) {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    until(|| matches!(theirs.poll_receive(&mut cx, socket), Poll::Ready(Err(StreamError::Reset)))).await;
}

#[test]
fn a_reset_behind_a_half_close_resets_the_stream() {
    on_a_core(async {
        let Copied { local: mut socket, mut theirs, end } = copied(|_| ()).await;
        let (sink, _reads_nothing) = local().await;
        socket.shutdown().await.unwrap();
        assert_eq!(poll_fn(|cx| theirs.poll_receive(cx, &sink)).await.unwrap(), 0);
        reset(socket);
        assert_eq!(end.await.unwrap(), Closed::ResetLocal);
        is_reset(&mut theirs, &sink).await;
    });
}

#[test]
fn a_reset_while_there_is_no_credit_resets_the_stream() {
    on_a_core(async {
        let Copied { local: socket, mut theirs, end } = copied(|_| ()).await;
        fill(&socket).await;
        reset(socket);
        assert_eq!(end.await.unwrap(), Closed::ResetLocal);
        let (sink, _reads_nothing) = local().await;
        is_reset(&mut theirs, &sink).await;
    });
}

/// The kernel tells a failure to whoever asks first: that may be the tunnel, which goes on with other streams.
#[test]
fn why_a_socket_failed_is_known_whoever_met_it() {
    on_a_core(async {
        let (socket, _reads_nothing) = local().await;
        give_up_soon(&socket);
        while socket.try_send(&[7; 64 * 1024]) > 0 {}
        socket.failed().await;
        assert_eq!(socket.try_send(b"?"), 0);
        let kind = |result: std::io::Result<usize>| result.map_err(|error| error.kind());
        let late = Err(std::io::ErrorKind::TimedOut);
        assert_eq!(kind(poll_fn(|cx| socket.poll_send(cx, b"?")).await), late);
        assert_eq!(kind(poll_fn(|cx| socket.poll_recv(cx, &mut [0])).await), late, "no end in order");
        assert_eq!(kind(Err(socket.take_error())), late);
    });
}

#[test]
fn a_socket_that_does_not_answer_any_more_is_a_timeout() {
    on_a_core(async {
        let Copied { local: _reads_nothing, mut theirs, end } = copied(give_up_soon).await;
        let sent = poll_fn(|cx| {
            while std::task::ready!(theirs.poll_write(cx, &[7; 16 * 1024])).is_ok() {}
            Poll::Ready(())
        });
        sent.await;
        assert_eq!(end.await.unwrap(), Closed::Timeout);
    });
}
