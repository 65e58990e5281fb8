//! Loads the local hop when the table first asks for it, tests it, and watches what the kernel counts.

use super::{LocalHop, State, is_wanted};
use crate::{core::Core, memory};
use isthmus_ebpf::{LoadError, Programs, cgroup_root, selftest};
use std::{rc::Rc, time::Duration};

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
    // The test takes about a second, most of which it waits.
    let started = tokio::task::spawn_blocking(start);
    tokio::select! {
        started = started => match started {
            Ok(Ok(programs)) => turn_on(&hop, programs),
            Ok(Err(reason)) => turn_off(&hop, &reason),
            Err(_) => turn_off(&hop, "the self-test panicked"),
        },
        () = draining.cancelled() => return,
    }
    while hop.on().is_some() {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {
                look(&hop);
                hop.decide();
            }
            () = draining.cancelled() => return,
        }
    }
}

fn start() -> Result<Programs, String> {
    let cgroup = cgroup_root().ok_or_else(|| LoadError::NoCgroup.to_string())?;
    let programs = Programs::load(&cgroup).map_err(|error| error.to_string())?;
    selftest::run(&programs).map_err(|fault| fault.to_string())?;
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
