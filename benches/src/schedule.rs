//! The order of a run: rounds, in each all cases, in each all setups, starting with another one each time.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::bulk;
use crate::case::{Case, Scale};
use crate::certs::Certs;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::measure;
use crate::origin::Origin;
use crate::procfs;
use crate::samples::{Outcome, Samples};
use crate::setup::{Pair, Setup, Site};

/// What to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Tells its pairs' files from those of another plan.
    pub name: String,
    /// On what.
    pub setups: Vec<Setup>,
    /// Which loads.
    pub cases: Vec<Case>,
    /// How often.
    pub rounds: u32,
    /// How much of each load.
    pub scale: Scale,
    /// Whether a failure is noted and the rest goes on.
    pub keep_going: bool,
}

/// What a run measured, and how fair it was.
#[derive(Debug, Default)]
pub struct Run {
    /// The samples.
    pub samples: Samples,
    /// CPU that all pairs together used while nothing was asked of them, in percent of one core. Pairs stay up for the
    /// whole run; this says what those that are not being measured cost the one that is.
    pub idle_percent: f64,
    /// CPU that everything else on the machine used in that second, in percent of all CPUs: what disturbed the run.
    pub others_percent: f64,
    /// How long the run took.
    pub took: Duration,
}

/// Where a plan runs.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// The run that it is part of.
    pub env: &'a Env,
    /// The peers' identity.
    pub certs: &'a Certs,
    /// Where the two halves of each pair are.
    pub ground: &'a Ground,
}

impl<'a> Stage<'a> {
    /// Starts the origin.
    pub fn origin(&self) -> Result<Origin> {
        Origin::start(self.env, self.ground, self.certs)
    }

    /// What its pairs have in common.
    pub fn site(&self, origin: &'a Origin) -> Site<'a> {
        Site { env: self.env, ground: self.ground, origin, certs: self.certs }
    }
}

/// Runs `plan`; progress goes to `out`, a line a block.
pub fn run(plan: &Plan, stage: &Stage<'_>, out: &mut dyn Write) -> Result<Run> {
    let started = Instant::now();
    let origin = stage.origin()?;
    let bench = Bench { plan, env: stage.env, site: stage.site(&origin) };
    let mut samples = Samples::default();
    let mut pairs = bench.start_all(&mut samples, out)?;
    let (idle_percent, others_percent) = bench.at_rest(&pairs)?;
    say(
        out,
        &format!("at rest: all pairs use {idle_percent:.1}% of a core, others {others_percent:.1}% of the machine"),
    );
    if others_percent > DISTURBED {
        say(out, "the machine is not quiet: absolute figures say little, and ratios need many rounds");
    }
    bench.rounds(&mut pairs, &mut samples, out)?;
    Ok(Run { samples, idle_percent, others_percent, took: started.elapsed() })
}

/// Above this many percent, others disturb the measurement.
const DISTURBED: f64 = 5.0;

struct Bench<'a> {
    plan: &'a Plan,
    env: &'a Env,
    site: Site<'a>,
}

impl Bench<'_> {
    fn start_all(&self, samples: &mut Samples, out: &mut dyn Write) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for &setup in &self.plan.setups {
            say(out, &format!("starting {}", setup.title()));
            let started = setup.start(&self.site, &self.plan.name).and_then(|pair| {
                measure::warm_up(&pair, &self.site)?;
                Ok(pair)
            });
            match self.or_note(started, setup.title(), samples, out)? {
                Some(pair) => pairs.push(pair),
                None => continue,
            }
        }
        Ok(pairs)
    }

    /// What the pairs, and what others, use while nothing is asked of them.
    fn at_rest(&self, pairs: &[Pair]) -> Result<(f64, f64)> {
        let pids: Vec<u32> = pairs.iter().flat_map(Pair::pids).collect();
        procfs::wait_idle(&pids, Duration::from_secs(3));
        let (before, started) = (procfs::cpu_of(&pids), Instant::now());
        let (busy, all) = procfs::machine_seconds();
        bulk::sleep(Duration::from_secs(1), &|| self.env.interrupted())?;
        let used = procfs::cpu_of(&pids) - before;
        let (busy, all) = (procfs::machine_seconds().0 - busy, procfs::machine_seconds().1 - all);
        let others = if all > 0.0 { (busy - used).max(0.0) / all } else { 0.0 };
        Ok((used / started.elapsed().as_secs_f64() * 100.0, others * 100.0))
    }

    fn rounds(&self, pairs: &mut [Pair], samples: &mut Samples, out: &mut dyn Write) -> Result<()> {
        let Plan { rounds, ref cases, .. } = *self.plan;
        let blocks = |pair: &Pair| cases.iter().filter(|&&case| pair.setup.runs(case)).count();
        let mut progress = Progress::new(rounds as usize * pairs.iter().map(blocks).sum::<usize>());
        for round in 1..=rounds {
            for (index, &case) in cases.iter().enumerate() {
                for pair in rotated(pairs.len(), round as usize + index) {
                    let pair = &mut pairs[pair];
                    if !pair.setup.runs(case) {
                        continue;
                    }
                    let name = format!("round {round} of {rounds}  {:<7} {:<12}", case.key(), pair.setup.key());
                    let outcome = self.block(case, pair);
                    let outcome = self.or_note(outcome, name.trim(), samples, out)?.unwrap_or_default();
                    samples.add(round, pair.setup, case, &outcome);
                    say(out, &progress.line(&name, &outcome));
                }
            }
        }
        Ok(())
    }

    /// One case on one pair, or on a fresh pair of the same setup.
    fn block(&self, case: Case, pair: &mut Pair) -> Result<Outcome> {
        let scale = self.plan.scale;
        if !case.wants_fresh_pair() {
            let outcome = measure::run(case, scale, pair, &self.site);
            // What ended a proxy says more than what the load saw of it.
            pair.check()?;
            return outcome;
        }
        let mut fresh = pair.setup.start(&self.site, &format!("{}-{}", self.plan.name, case.key()))?;
        let outcome = measure::run(case, scale, &fresh, &self.site);
        fresh.check()?;
        outcome
    }

    /// With `--keep-going` a failure is noted and there is no value; without, and for an interruption, it stays one.
    fn or_note<T>(&self, result: Result<T>, what: &str, to: &mut Samples, out: &mut dyn Write) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.env.interrupted() => Err(Error::Interrupted),
            Err(error) if self.plan.keep_going => {
                say(out, &format!("{what}: FAILED: {error}"));
                to.fail(format!("{what}: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// `0..count`, starting at another place for each `turn`.
fn rotated(count: usize, turn: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |index| (index + turn) % count)
}

/// Counts blocks and estimates what is left.
struct Progress {
    started: Instant,
    done: usize,
    total: usize,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self { started: Instant::now(), done: 0, total }
    }

    fn line(&mut self, name: &str, outcome: &Outcome) -> String {
        self.done += 1;
        let left = self.started.elapsed().as_secs_f64() / self.done as f64 * (self.total - self.done) as f64;
        let values: Vec<String> = outcome
            .values
            .iter()
            .map(|&(metric, value)| format!("{} {}", metric.info().title, metric.show_with_unit(value)))
            .collect();
        let errors = if outcome.errors > 0 { format!(", {} FAILED", outcome.errors) } else { String::new() };
        format!("{:>3}/{} {name} {}{errors}  (left: {})", self.done, self.total, values.join(", "), minutes(left))
    }
}

/// `2m05s`.
pub fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}m{:02}s", seconds / 60, seconds % 60)
}

/// Progress that cannot be shown (a closed pipe) is no reason to end the measurement.
fn say(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setup_has_every_place() {
        let orders: Vec<Vec<usize>> = (0..3).map(|turn| rotated(3, turn).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
        assert_eq!(rotated(0, 5).count(), 0);
    }

    #[test]
    fn time_left() {
        assert_eq!([0.0, 59.6, 125.0].map(minutes), ["0m00s", "1m00s", "2m05s"]);
    }
}
