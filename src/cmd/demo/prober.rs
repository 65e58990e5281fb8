//! A client that sends requests at a fixed rate, whether they are answered or not, and keeps a record of each.
//!
//! Half of them have a connection each, the other half share a few that are kept. Every one ends in time, so that never more are
//! under way than the rate times that.

mod http;
mod request;

use super::{error::Error, place::Place, samples::Sample};
use request::Target;
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

/// A request without a whole answer after this has failed, on a WAN without distance.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// Requests a second with a connection each.
pub(super) const SINGLE_RATE: u32 = 200;
/// Connections that are kept.
pub(super) const KEPT: u32 = 8;
/// Requests a second on each of those.
pub(super) const KEPT_RATE: u32 = 25;
/// More than can be under way at once; when it is reached after all, the next request waits.
const UNDER_WAY: usize = 512;

/// What has been answered so far.
#[derive(Debug, Default)]
struct Successes {
    /// When the last answer came.
    last: Option<Instant>,
    /// How many have come from each endpoint.
    by_endpoint: Vec<u64>,
}

/// A running prober; dropping it ends it at once.
#[derive(Debug)]
pub(super) struct Prober {
    begun: Instant,
    enough: CancellationToken,
    abandon: CancellationToken,
    successes: watch::Receiver<Successes>,
    thread: Option<JoinHandle<io::Result<Vec<Sample>>>>,
}

impl Prober {
    /// Starts one at `place`, on a thread of its own, with `timeout` for each request.
    pub(super) fn start(
        place: &Place,
        address: SocketAddr,
        endpoints: &[String],
        timeout: Duration,
    ) -> io::Result<Self> {
        let (enough, abandon) = (CancellationToken::new(), CancellationToken::new());
        let by_endpoint = vec![0; endpoints.len()];
        let (success, successes) = watch::channel(Successes { last: None, by_endpoint });
        let target = Target { address, endpoints: Arc::from(endpoints), timeout };
        let sending = Sending { target, enough: enough.clone(), success };
        let abandoned = abandon.clone();
        let thread = place.thread("prober", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(abandoned.run_until_cancelled(sending.run())).unwrap_or_default())
        })?;
        Ok(Self { begun: Instant::now(), enough, abandon, successes, thread: Some(thread) })
    }

    /// When it began.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Which endpoint has answered the most.
    pub(super) fn busiest(&self) -> usize {
        let successes = self.successes.borrow();
        let counts = successes.by_endpoint.iter().enumerate();
        counts.max_by_key(|(_, count)| **count).map_or(0, |(endpoint, _)| endpoint)
    }

    /// Waits for an answer that comes after `moment`, and returns when it came; nothing within `limit` is `None`.
    pub(super) async fn success_after(&self, moment: Instant, limit: Duration) -> Option<Instant> {
        let mut successes = self.successes.clone();
        let answered = successes.wait_for(|successes| successes.last.is_some_and(|last| last > moment));
        timeout(limit, answered).await.ok()?.ok().and_then(|successes| successes.last)
    }

    /// Sends no more, waits for what is under way, and returns everything.
    pub(super) async fn finish(mut self) -> Result<Vec<Sample>, Error> {
        self.enough.cancel();
        // The channel closes when the thread is through: within the time that a request has.
        while self.successes.changed().await.is_ok() {}
        let thread = self.thread.take().ok_or(Error::Thread("prober"))?;
        let samples = thread.join().map_err(|_| Error::Thread("prober"))?;
        samples.map_err(|source| Error::Io { doing: "send requests".into(), source })
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.abandon.cancel();
        if let Some(thread) = self.thread.take() {
            // It was abandoned, with whatever it has found.
            let _ = thread.join();
        }
    }
}

/// What the thread does.
struct Sending {
    target: Target,
    enough: CancellationToken,
    success: watch::Sender<Successes>,
}

impl Sending {
    async fn run(self) -> Vec<Sample> {
        let mut kept: JoinSet<Vec<Sample>> = JoinSet::new();
        let this = Arc::new(self);
        for n in 0..KEPT {
            kept.spawn(Arc::clone(&this).keep_asking(n));
        }
        let mut samples = this.ask_singly().await;
        while let Some(Ok(more)) = kept.join_next().await {
            samples.extend(more);
        }
        samples
    }

    /// A connection for each request.
    async fn ask_singly(self: &Arc<Self>) -> Vec<Sample> {
        let (mut samples, mut under_way) = (Vec::new(), JoinSet::new());
        let mut ticks = interval(Duration::from_secs(1) / SINGLE_RATE);
        // A request that was held up is sent late; none is left out.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while self.enough.run_until_cancelled(ticks.tick()).await.is_some() {
            if under_way.len() >= UNDER_WAY {
                samples.extend(under_way.join_next().await.and_then(Result::ok));
            }
            let this = Arc::clone(self);
            under_way.spawn(async move { this.tell(this.target.ask(&mut None, false).await) });
            while let Some(Ok(sample)) = under_way.try_join_next() {
                samples.push(sample);
            }
        }
        while let Some(Ok(sample)) = under_way.join_next().await {
            samples.push(sample);
        }
        samples
    }

    /// The `n`th of the connections that are kept, which take turns.
    async fn keep_asking(self: Arc<Self>, n: u32) -> Vec<Sample> {
        let period = Duration::from_secs(1) / KEPT_RATE;
        let mut ticks = interval_at(tokio::time::Instant::now() + period * n / KEPT, period);
        // A connection that waits for an answer can send nothing.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut samples, mut kept) = (Vec::new(), None);
        while self.enough.run_until_cancelled(ticks.tick()).await.is_some() {
            samples.push(self.tell(self.target.ask(&mut kept, true).await));
        }
        samples
    }

    fn tell(&self, sample: Sample) -> Sample {
        if let Ok(endpoint) = sample.outcome {
            self.success.send_modify(|successes| {
                successes.last = Some(sample.ended);
                if let Some(count) = successes.by_endpoint.get_mut(endpoint) {
                    *count += 1;
                }
            });
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::demo::samples::Fault;
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn answers_are_told_apart_by_endpoint() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let prober =
            Prober::start(&Place::here(), listener.local_addr().unwrap(), &["a".into(), "b".into()], TIMEOUT).unwrap();
        let server = std::thread::spawn(move || {
            for body in ["b 1", "nobody", "a 2", "b 3"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 512]).unwrap();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        server.join().unwrap();
        let all = |successes: &Successes| successes.by_endpoint == [1, 2];
        block_on(async {
            timeout(TIMEOUT, prober.successes.clone().wait_for(all)).await.unwrap().unwrap();
        });
        assert_eq!(prober.busiest(), 1);
        let samples = block_on(prober.finish()).unwrap();
        let count = |outcome| samples.iter().filter(|sample| sample.outcome == outcome).count();
        assert_eq!([count(Ok(0)), count(Ok(1)), count(Err(Fault::Wrong))], [1, 2, 1]);
    }
}
