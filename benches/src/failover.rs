//! What clients notice when a path dies: the longest gap between answers, at a fixed rate of requests, fault by fault.
//!
//! All setups are asked at the same time, and the same fault hits them all: that is light work, and takes a run of ten
//! faults once rather than once a setup.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use isthmus_wan::{Impairments, UdpBlock, Wan};

use crate::bulk;
use crate::error::{Error, Result};
use crate::ground::{EAST, WEST};
use crate::http;
use crate::leg::Fault;
use crate::metric::Metric;
use crate::prober::{self, Prober};
use crate::schedule::{Plan, Run, Stage};
use crate::setup::{Pair, Site};

/// How long a fault lasts.
const BROKEN: Duration = Duration::from_secs(4);
/// How long both paths are well before the next fault: what was given up has to be found again.
const WELL: Duration = Duration::from_secs(8);
/// How long transport `auto` has to take QUIC again, on every core: one that thought UDP throttled tries it again after 10 s, 20 s
/// and so on.
const RETAKEN: Duration = Duration::from_secs(180);

/// Breaks what `fault` says of a path that is otherwise `well`, once a round of `plan`.
pub fn run(fault: Fault, well: Impairments, plan: &Plan, stage: &Stage<'_>, out: &mut dyn Write) -> Result<Run> {
    let (started, Stage { env, ground, .. }) = (Instant::now(), *stage);
    let origin = stage.origin()?;
    let site = stage.site(&origin);
    let wan = ground.wan().ok_or_else(|| Error::Load("there is no path to break without a WAN".into()))?;
    let pairs = plan.setups.iter().map(|setup| setup.start(&site, &plan.name)).collect::<Result<Vec<_>>>()?;
    let start = |pair: &Pair| ground.west().within(|| Prober::start(pair.web));
    let probers = pairs.iter().map(start).collect::<Result<Vec<_>>>()?;
    let mut run = Run::default();
    let mut worst = vec![Duration::ZERO; pairs.len()];
    for round in 1..=plan.rounds {
        if fault == Fault::Udp {
            wait_for_quic(&site, &pairs)?;
        }
        bulk::sleep(WELL, &|| env.interrupted())?;
        probers.iter().for_each(|prober| drop(prober.take()));
        let begun = Instant::now();
        let path = if fault == Fault::Path { EAST[round as usize % EAST.len()] } else { EAST[0] };
        set(wan, path, broken(fault, well))?;
        bulk::sleep(BROKEN, &|| env.interrupted())?;
        set(wan, path, well)?;
        bulk::sleep(prober::PATIENCE, &|| env.interrupted())?;
        for (n, (pair, prober)) in pairs.iter().zip(&probers).enumerate() {
            let samples = prober.take();
            let gap = prober::longest_gap(&samples, begun, Instant::now());
            worst[n] = worst[n].max(gap);
            let failed = samples.iter().filter(|sample| !sample.is_answered).count();
            let values = [(Metric::Gap, ms(gap)), (Metric::GapFailed, failed as f64)];
            run.samples.record(round, pair.setup, &values);
            let gap = gap.as_millis();
            let line = format!(
                "fault {round} of {}  {:<12} gap {gap} ms, {failed} of {} requests failed",
                plan.rounds,
                pair.setup.key(),
                samples.len()
            );
            // Progress that cannot be shown is no reason to end the measurement.
            let _ = writeln!(out, "{line}");
        }
    }
    for (pair, worst) in pairs.iter().zip(worst) {
        run.samples.record(1, pair.setup, &[(Metric::GapWorst, ms(worst))]);
    }
    run.took = started.elapsed();
    Ok(run)
}

fn broken(fault: Fault, well: Impairments) -> Impairments {
    match fault {
        Fault::Path => Impairments { black_hole: true, ..well },
        Fault::Udp => Impairments { udp: Some(UdpBlock::All), ..well },
    }
}

/// Makes both directions of a path as bad as that.
fn set(wan: &Wan, path: &str, to: Impairments) -> Result<()> {
    let both = wan.set(WEST, path, to).and_then(|()| wan.set(path, WEST, to));
    both.map_err(|error| Error::Load(error.to_string()))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Waits until every isthmus takes QUIC for new streams: otherwise there would be nothing to break.
fn wait_for_quic(site: &Site<'_>, pairs: &[Pair]) -> Result<()> {
    let deadline = Instant::now() + RETAKEN;
    for admin in pairs.iter().filter_map(|pair| pair.admin) {
        while !site.ground.west().within(|| takes_quic(admin))? {
            if Instant::now() > deadline {
                return Err(Error::Load(format!("no QUIC was taken within {RETAKEN:?}")));
            }
            bulk::sleep(Duration::from_millis(250), &|| site.env.interrupted())?;
        }
    }
    Ok(())
}

fn takes_quic(admin: SocketAddr) -> Result<bool> {
    let status = http::get(admin, "/status").map_err(Error::io(format!("asking {admin} for its status")))?;
    let status: serde_json::Value =
        serde_json::from_str(&status).map_err(|error| Error::Load(format!("status of {admin}: {error}")))?;
    Ok(status["links"][0]["chosen"].as_str() == Some("quic"))
}
