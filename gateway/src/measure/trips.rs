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

/// Round trips as they come back, and what is known of those that do not.
#[derive(Debug, Default)]
pub(super) struct Trips {
    found: Vec<Duration>,
    /// When the one that is under way began.
    under_way: Option<Instant>,
    /// How long one takes as far as is known while none is back: as long as it took to open the stream.
    usual: Duration,
}

impl Trips {
    fn begin(&mut self, now: Instant) {
        self.under_way = Some(now);
    }

    fn is_back(&mut self, now: Instant) {
        if let Some(began) = self.under_way.take() {
            self.note(now.saturating_duration_since(began));
        }
    }

    /// Nobody waits any more for what is under way. It takes longer than it has waited, and counts with that: without it, the slowest
    /// would be missing. If that is not even what half of the others take, it says nothing.
    fn give_up(&mut self, now: Instant) {
        let Some(began) = self.under_way.take() else { return };
        let waited = now.saturating_duration_since(began);
        if waited > median(&self.found).unwrap_or(self.usual) {
            self.note(waited);
        }
    }

    fn note(&mut self, took: Duration) {
        if self.found.len() < MOST {
            self.found.push(took);
        }
    }

    /// All of them, with what is under way now.
    pub(super) fn end(mut self, now: Instant) -> Vec<Duration> {
        self.give_up(now);
        self.found
    }
}

/// `None` of nothing.
fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// Round trips until then.
pub(super) async fn until(core: &Core, tunnel: &dyn Tunnel, ends: Instant) -> Vec<Duration> {
    let mut trips = Trips::default();
    let _ = timeout_at(ends.into(), go_on(core, tunnel, &mut trips)).await;
    trips.end(Instant::now())
}

/// Adds round trips for as long as it is let.
pub(super) async fn go_on(core: &Core, tunnel: &dyn Tunnel, trips: &mut Trips) {
    loop {
        let ended = timeout(ECHO, echo(core, tunnel, trips)).await.is_ok();
        trips.give_up(Instant::now());
        if ended {
            sleep(AGAIN).await;
        }
    }
}

/// Round trips until the peer does not give back what it was sent.
async fn echo(core: &Core, tunnel: &dyn Tunnel, trips: &mut Trips) {
    let asked = Instant::now();
    let Ok(mut stream) = tunnel.open(&relay::request(core, &Reserved::Echo)) else { return };
    if poll_fn(|cx| stream.poll_opened(cx)).await.is_err() {
        return;
    }
    trips.usual = asked.elapsed();
    for number in 0.. {
        trips.begin(Instant::now());
        if !trip(&mut *stream, number).await {
            return;
        }
        trips.is_back(Instant::now());
        sleep(PAUSE).await;
    }
}

/// Whether what was sent has come back.
async fn trip(stream: &mut dyn TunnelStream, number: u64) -> bool {
    let (asked, mut answer) = (number.to_be_bytes(), [0; 8]);
    let (mut sent, mut back) = (0, 0);
    poll_fn(|cx| {
        while sent < asked.len() {
            match stream.poll_write(cx, &asked[sent..]) {
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        while back < answer.len() {
            match stream.poll_read(cx, &mut answer[back..]) {
                Poll::Ready(Ok(n)) if n > 0 => back += n,
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(answer == asked)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_come_back_counts_with_what_it_has_waited() {
        let (mut trips, now, ms) = (Trips::default(), Instant::now(), Duration::from_millis);
        trips.usual = ms(30);
        trips.begin(now);
        trips.give_up(now + ms(29));
        assert!(trips.found.is_empty(), "less than the opening took says nothing");
        trips.begin(now);
        trips.give_up(now + ms(31));
        for took in [20, 40, 50] {
            trips.begin(now);
            trips.is_back(now + ms(took));
        }
        trips.begin(now);
        trips.give_up(now + ms(39));
        assert_eq!(trips.found, [31, 20, 40, 50].map(ms), "nor does less than half of them took");
        trips.begin(now);
        trips.give_up(now + ECHO);
        trips.give_up(now + ECHO * 2);
        assert_eq!(trips.found[4..], [ECHO], "it counts once");
        trips.begin(now);
        assert_eq!(trips.end(now + ms(900))[5..], [ms(900)]);
    }
}
