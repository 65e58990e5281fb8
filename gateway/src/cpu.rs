//! Which CPU a core's thread runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Binds the calling thread, core `core` of `cores`, to a CPU of its own, if there is one for every core: its sockets' work in the
/// kernel stays where its own is then, and waking it does not wake an idle CPU. With fewer cores than CPUs the scheduler knows better.
pub(crate) fn pin(core: usize, cores: usize) {
    // Where the system does not let us, everything works as well, only slower.
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    if allowed.count() as usize != cores {
        return;
    }
    if let Some(cpu) = cpus.nth(core) {
        let mut own = CpuSet::new();
        own.set(cpu);
        let _ = sched_setaffinity(None, &own);
    }
}
