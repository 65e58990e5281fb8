//! Round trips on a tunnel: eight bytes that the peer gives back, again and again.

use crate::{
    core::Core,
    relay,
    reserved::Reserved,
    tunnel::{Tunnel, TunnelStream},
};
use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout, timeout_at};

/// Between an answer and the next one's question.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one echo is used: a peer ends it after ten seconds.
const ECHO: Duration = Duration::from_secs(8);
/// Before another echo is asked for where one was refused or has failed.
const AGAIN: Duration = Duration::from_millis(250);
/// More are not kept.
const MOST: usize = 1000;

/// Round trips until then.
pub(super) async fn until(core: &Core, tunnel: &dyn Tunnel, ends: Instant) -> Vec<Duration> {
    let mut found = Vec::new();
    // What is under way then has taken longer than there was time, and is left out.
    let _ = timeout_at(ends.into(), go_on(core, tunnel, &mut found)).await;
    found
}

/// Adds round trips for as long as it is let.
pub(super) async fn go_on(core: &Core, tunnel: &dyn Tunnel, found: &mut Vec<Duration>) {
    loop {
        if timeout(ECHO, echo(core, tunnel, found)).await.is_ok() {
            sleep(AGAIN).await;
        }
    }
}

/// Round trips until the peer does not give back what it was sent.
async fn echo(core: &Core, tunnel: &dyn Tunnel, found: &mut Vec<Duration>) {
    let Ok(mut stream) = tunnel.open(&relay::request(core, &Reserved::Echo)) else { return };
    if poll_fn(|cx| stream.poll_opened(cx)).await.is_err() {
        return;
    }
    for number in 0.. {
        let Some(took) = trip(&mut *stream, number).await else { return };
        if found.len() < MOST {
            found.push(took);
        }
        sleep(PAUSE).await;
    }
}

async fn trip(stream: &mut dyn TunnelStream, number: u64) -> Option<Duration> {
    let (began, asked, mut answer) = (Instant::now(), number.to_be_bytes(), [0; 8]);
    let (mut sent, mut back) = (0, 0);
    poll_fn(|cx| {
        while sent < asked.len() {
            match stream.poll_write(cx, &asked[sent..]) {
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        while back < answer.len() {
            match stream.poll_read(cx, &mut answer[back..]) {
                Poll::Ready(Ok(n)) if n > 0 => back += n,
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready((answer == asked).then(|| began.elapsed()))
    })
    .await
}
