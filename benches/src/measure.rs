//! Runs one case on one pair.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::bulk::{self, Direction};
use crate::case::{Case, Scale};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::samples::Outcome;
use crate::setup::{Pair, Setup, Site};
use crate::{first, http, procfs, wrk};

const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;
/// Beside the busy ones of [`Case::Stalled`].
const STALLED: usize = 40;
/// Busy connections of [`Case::Stalled`].
const BUSY: u32 = 32;
/// How long answers may take that come within milliseconds if they come.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a stalled reader takes before it stops.
const TASTE: usize = 64 * 1024;
/// How long proxies have to come to rest before a block, and while their buffers fill behind stalled readers.
const REST: Duration = Duration::from_secs(3);

/// Runs `case` on `pair`.
pub fn run(case: Case, scale: Scale, pair: &Pair, site: &Site<'_>) -> Result<Outcome> {
    let block = Block { scale, pair, env: site.env, site };
    procfs::wait_idle(&pair.pids(), REST);
    site.ground.clients().within(|| {
        if pair.setup.learns(case) {
            block.run(case)?;
        }
        block.run(case)
    })
}

/// A short load on a pair that has just been started, so that no first block pays for first uses.
pub fn warm_up(pair: &Pair, site: &Site<'_>) -> Result<()> {
    let load = wrk::Load { connections: 64, threads: 2, close: false, seconds: 1 };
    site.ground.clients().within(|| wrk::run(site.env, &pair.url, load).map(drop))
}

struct Block<'a> {
    scale: Scale,
    pair: &'a Pair,
    env: &'a Env,
    site: &'a Site<'a>,
}

impl Block<'_> {
    fn run(&self, case: Case) -> Result<Outcome> {
        match case {
            Case::One => self.one(),
            Case::Many => self.many(),
            Case::Medium => self.bodies("16k", Metric::MediumRate, Metric::MediumCpu),
            Case::Larger => self.bodies("64k", Metric::LargerRate, Metric::LargerCpu),
            Case::Large => self.bodies("1m", Metric::LargeRate, Metric::LargeCpu),
            Case::Close => self.close(),
            Case::Bulk => self.bulk(),
            Case::Memory => self.memory(),
            Case::Stalled => self.stalled(),
            Case::First => self.first(),
        }
    }

    fn one(&self) -> Result<Outcome> {
        let report = self.wrk(1, 1, false)?;
        Ok(outcome(&report, vec![(Metric::OneP50, report.p50), (Metric::OneP99, report.p99)]))
    }

    fn many(&self) -> Result<Outcome> {
        let before = self.cpu();
        let report = self.wrk(64, 2, false)?;
        let cpu = self.cpu() - before;
        let mut values = vec![
            (Metric::ManyRate, report.rate()),
            (Metric::ManyP50, report.p50 / 1e3),
            (Metric::ManyP99, report.p99 / 1e3),
        ];
        if self.has_proxies() {
            values.push((Metric::CpuPerRequests, cpu / report.requests as f64 * 1e5));
        }
        Ok(outcome(&report, values))
    }

    /// As [`Self::many`], with larger answers.
    fn bodies(&self, path: &str, rate: Metric, cpu: Metric) -> Result<Outcome> {
        let (before, seconds) = (self.cpu(), self.scale.seconds);
        let load = wrk::Load { connections: 64, threads: 2, close: false, seconds };
        let report = wrk::run(self.env, &format!("{}{path}", self.pair.url), load)?;
        let spent = self.cpu() - before;
        let mut values = vec![(rate, report.rate())];
        if self.has_proxies() {
            values.push((cpu, spent / report.requests as f64 * 1e5));
        }
        Ok(outcome(&report, values))
    }

    fn close(&self) -> Result<Outcome> {
        let report = self.wrk(16, 2, true)?;
        Ok(outcome(
            &report,
            vec![
                (Metric::CloseRate, report.rate()),
                (Metric::CloseP50, report.p50 / 1e3),
                (Metric::CloseP99, report.p99 / 1e3),
            ],
        ))
    }

    fn bulk(&self) -> Result<Outcome> {
        let mut sum = Outcome::default();
        self.transfer(&mut sum, Metric::BulkDown1, Direction::Down, 1)?;
        let cpu_per_gib = self.transfer(&mut sum, Metric::BulkDown8, Direction::Down, 8)?;
        sum.values.extend(cpu_per_gib.filter(|_| self.has_proxies()).map(|cpu| (Metric::CpuPerGib, cpu)));
        if self.scale.bulk_up {
            self.transfer(&mut sum, Metric::BulkUp1, Direction::Up, 1)?;
            self.transfer(&mut sum, Metric::BulkUp8, Direction::Up, 8)?;
        }
        Ok(sum)
    }

    /// Adds the throughput and returns the proxies' CPU seconds for each GiB, if anything arrived.
    fn transfer(&self, sum: &mut Outcome, metric: Metric, direction: Direction, streams: usize) -> Result<Option<f64>> {
        let window = Duration::from_secs(self.scale.seconds.into());
        let warm_up = self.scale.bulk_warm_up;
        let load = bulk::Load { address: self.pair.bulk, direction, streams, warm_up, window };
        let mut cpu = Vec::new();
        let moved = load.run(&self.site.origin.bulk, || self.env.interrupted(), || cpu.push(self.cpu()))?;
        sum.errors += if moved.bytes == 0 { streams as u64 } else { moved.broken };
        sum.values.push((metric, moved.bytes as f64 * 8.0 / moved.seconds / 1e9));
        let spent = cpu.last().copied().unwrap_or(0.0) - cpu.first().copied().unwrap_or(0.0);
        Ok((moved.bytes > 0).then(|| spent / (moved.bytes as f64 / GIB)))
    }

    fn first(&self) -> Result<Outcome> {
        let seconds = Duration::from_secs(self.scale.seconds.into());
        let rtt = first::round_trip(self.site.ground.origin(self.site.origin.web))?;
        let found = first::run(self.pair.web, seconds, &|| self.env.interrupted())?;
        let Some([p50, p99]) = found.percentiles else {
            return Ok(Outcome { values: Vec::new(), errors: found.failed.max(1) });
        };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let values = vec![
            (Metric::RoundTrip, ms(rtt)),
            (Metric::FirstP50, ms(p50)),
            (Metric::FirstP99, ms(p99)),
            (Metric::FirstRoundTrips, p50.as_secs_f64() / rtt.as_secs_f64()),
        ];
        Ok(Outcome { values, errors: found.failed })
    }

    fn memory(&self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        if !self.has_proxies() {
            return Ok(outcome);
        }
        let before = self.memory_bytes();
        let mut connections = Vec::with_capacity(self.scale.idle);
        for _ in 0..self.scale.idle {
            if self.env.interrupted() {
                return Err(Error::Interrupted);
            }
            connections.push(self.open("/")?);
        }
        procfs::wait_idle(&self.pair.pids(), REST);
        let after = self.memory_bytes();
        outcome.values.push((Metric::MemoryIdle, before / MIB));
        outcome.values.push((Metric::MemoryConnection, (after - before) / connections.len() as f64 / 1024.0));
        Ok(outcome)
    }

    fn stalled(&self) -> Result<Outcome> {
        let alone = self.wrk(BUSY, 2, false)?;
        let readers = self.stall()?;
        procfs::wait_idle(&self.pair.pids(), REST);
        let beside = self.wrk(BUSY, 2, false)?;
        let memory = self.memory_bytes();
        let locked_out = self.locked_out()?;
        drop(readers);
        // With no answer at all there is no percentile: the busy ones are locked out.
        let p99 = if beside.requests == 0 { f64::INFINITY } else { beside.p99 };
        let mut values = vec![
            (Metric::BusyP99, alone.p99 / 1e3),
            (Metric::StalledP99, p99 / 1e3),
            (Metric::StalledRatio, p99 / alone.p99),
        ];
        if self.has_proxies() {
            values.push((Metric::StalledMemory, memory / MIB));
        }
        Ok(Outcome { values, errors: alone.errors + beside.errors + locked_out })
    }

    /// Readers that ask for the large body, take a little of it and stop. One that gets nothing, because those before
    /// it fill a window that all share, is kept as well: what that does to others is what is measured.
    fn stall(&self) -> Result<Vec<TcpStream>> {
        let mut readers = self.ask(STALLED, "/large")?;
        let mut taste = vec![0; TASTE];
        answered(&mut readers, |stream| std::io::Read::read_exact(stream, &mut taste));
        Ok(readers)
    }

    /// How many of 32 new connections get no answer. wrk does not count a connection that it waits on to the end.
    fn locked_out(&self) -> Result<u64> {
        let mut streams = self.ask(BUSY as usize, "/")?;
        let all = streams.len();
        Ok((all - answered(&mut streams, |stream| http::answer(stream).map(drop))) as u64)
    }

    /// New connections, with a request for `path` sent on each.
    fn ask(&self, count: usize, path: &str) -> Result<Vec<TcpStream>> {
        let ask = || {
            let mut stream = http::connect(self.pair.web)?;
            http::request(&mut stream, path)?;
            Ok(stream)
        };
        let doing = || format!("{}: connecting beside stalled readers", self.pair.setup.key());
        (0..count).map(|_| ask().map_err(Error::io(doing()))).collect()
    }

    /// An idle connection that has exchanged one request.
    fn open(&self, path: &str) -> Result<TcpStream> {
        let exchange = || {
            let mut stream = http::connect(self.pair.web)?;
            http::exchange(&mut stream, path)?;
            Ok(stream)
        };
        exchange().map_err(Error::io(format!("{}: opening an idle connection", self.pair.setup.key())))
    }

    fn wrk(&self, connections: u32, threads: u32, close: bool) -> Result<wrk::Report> {
        let seconds = self.scale.seconds;
        wrk::run(self.env, &self.pair.url, wrk::Load { connections, threads, close, seconds })
    }

    fn has_proxies(&self) -> bool {
        self.pair.setup != Setup::Direct
    }

    fn cpu(&self) -> f64 {
        procfs::cpu_of(&self.pair.pids())
    }

    fn memory_bytes(&self) -> f64 {
        procfs::memory_of(&self.pair.pids())
    }
}

/// How many of `streams` could be read from, all of them together within [`PATIENCE`].
fn answered(streams: &mut [TcpStream], mut read: impl FnMut(&mut TcpStream) -> std::io::Result<()>) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut answer = |stream: &mut TcpStream| {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        read(stream)
    };
    streams.iter_mut().filter_map(|stream| answer(stream).ok()).count()
}

fn outcome(report: &wrk::Report, values: Vec<(Metric, f64)>) -> Outcome {
    if report.requests == 0 {
        // No latency either. The errors say that it was tried.
        return Outcome { values: Vec::new(), errors: report.errors.max(1) };
    }
    Outcome { values, errors: report.errors }
}
