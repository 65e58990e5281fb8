//! Loads the local hop when the table first asks for it, tests it, and watches what the kernel counts.

use super::{LocalHop, State, is_wanted};
use crate::{core::Core, memory};
use isthmus_ebpf::{LoadError, Programs, cgroup_root, selftest};
use std::{rc::Rc, time::Duration};
use tokio::time::MissedTickBehavior;

/// How often the counters are looked at.
const BEAT: Duration = Duration::from_secs(1);

/// Runs on core 0 until the gateway drains.
pub(crate) async fn run(core: Rc<Core>) {
    let hop = core.common.local_hop.clone();
    let draining = core.common.draining.clone();
    loop {
        let changed = core.changed.notified();
        if is_wanted(&core.table.borrow()) {
            break;
        }
        tokio::select! {
            () = changed => {}
            () = draining.cancelled() => return,
        }
    }
    hop.state.send_replace(State::Starting);
    tokio::select! {
        started = start_patiently() => match started {
            Ok(programs) => turn_on(&hop, programs),
            Err(reason) => turn_off(&hop, &reason),
        },
        () = draining.cancelled() => return,
    }
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while hop.on().is_some() {
        let changed = core.changed.notified();
        tokio::select! {
            _ = beat.tick() => {
                look(&hop);
                hop.decide();
            }
            // Perhaps the table, and a service asks that did not before.
            () = changed => {}
            () = draining.cancelled() => return,
        }
        let table = core.table.borrow().clone();
        hop.rest(&table);
    }
}

/// How long to wait before another test, after one that took too long: a node that has just started is busy.
const PAUSES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(30)];

/// Why it did not start.
struct NotStarted {
    reason: String,
    /// Whether a test took too long, and nothing else was wrong.
    slow: bool,
}

impl From<LoadError> for NotStarted {
    fn from(error: LoadError) -> Self {
        Self { reason: error.to_string(), slow: false }
    }
}

impl From<selftest::Fault> for NotStarted {
    fn from(fault: selftest::Fault) -> Self {
        Self { reason: fault.to_string(), slow: fault.is_slowness() }
    }
}

/// Starts it, again where the test took too long.
async fn start_patiently() -> Result<Programs, String> {
    let mut pauses = PAUSES.iter();
    loop {
        // The test takes about a second, most of which it waits.
        match tokio::task::spawn_blocking(start).await {
            Ok(Ok(programs)) => return Ok(programs),
            Ok(Err(NotStarted { reason, slow })) => {
                let Some(pause) = pauses.next().filter(|_| slow) else { return Err(reason) };
                tracing::info!(
                    reason,
                    seconds = pause.as_secs(),
                    "the local hop's self-test took too long; trying again"
                );
                tokio::time::sleep(*pause).await;
            }
            Err(_) => return Err("the self-test panicked".into()),
        }
    }
}

fn start() -> Result<Programs, NotStarted> {
    let cgroup = cgroup_root().ok_or(LoadError::NoCgroup)?;
    let programs = Programs::load(&cgroup)?;
    selftest::run(&programs)?;
    // The kernel's types are several times what an idle gateway is.
    memory::trim();
    Ok(programs)
}

fn turn_on(hop: &LocalHop, programs: Programs) {
    // There was none: this runs once.
    let _ = hop.programs.set(programs);
    hop.on.store(true, std::sync::atomic::Ordering::Relaxed);
    hop.state.send_replace(State::On);
    tracing::info!("the local hop is on: this kernel has passed the self-test");
}

fn turn_off(hop: &LocalHop, reason: &str) {
    tracing::warn!(reason, "the local hop is off: streams go by TCP");
    hop.state.send_replace(State::Off(reason.into()));
}

/// A full map is a sign that ends are left behind, or of more load than this is made for.
fn look(hop: &LocalHop) {
    match hop.on().map(Programs::counts) {
        Some(Ok(counts)) if counts.full > 0 => hop.distrust("a map of the kernel's is full"),
        Some(Err(error)) => hop.distrust(&format!("the kernel's counters cannot be read: {error}")),
        _ => {}
    }
}
