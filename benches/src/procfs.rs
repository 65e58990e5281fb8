//! CPU time and resident memory of processes, from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

/// Clock ticks a second in `/proc/PID/stat`: fixed at 100 by the kernel's user interface on all of Linux's platforms
/// that we run on, whatever the kernel's own HZ.
const TICKS: f64 = 100.0;

/// CPU seconds (user and system, all threads) of `pid`, zero once it is gone.
pub fn cpu_seconds(pid: u32) -> f64 {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| parse_cpu(&stat)).unwrap_or(0.0)
}

/// Resident memory of `pid` in bytes, zero once it is gone.
pub fn resident_bytes(pid: u32) -> f64 {
    fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|status| parse_resident(&status)).unwrap_or(0.0)
}

/// `pid` and all that descend from it: nginx has its workers as children.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    found
}

/// CPU seconds of all `roots` and their descendants.
pub fn cpu_of(roots: &[u32]) -> f64 {
    roots.iter().flat_map(|&root| tree(root)).map(cpu_seconds).sum()
}

/// Resident bytes of all `roots` and their descendants. Pages that processes share are counted in each.
pub fn memory_of(roots: &[u32]) -> f64 {
    roots.iter().flat_map(|&root| tree(root)).map(resident_bytes).sum()
}

/// CPU seconds that the whole machine has spent on anything, and all that it had.
pub fn machine_seconds() -> (f64, f64) {
    fs::read_to_string("/proc/stat").ok().and_then(|stat| parse_machine(&stat)).unwrap_or((0.0, 0.0))
}

/// Waits until `roots` have used no more than a tick of CPU for 200 ms, or `limit` has passed. Returns whether they
/// came to rest.
pub fn wait_idle(roots: &[u32], limit: Duration) -> bool {
    let started = Instant::now();
    let mut before = cpu_of(roots);
    while started.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(200));
        let now = cpu_of(roots);
        if now - before <= 1.5 / TICKS {
            return true;
        }
        before = now;
    }
    roots.is_empty()
}

/// Fields 14 and 15, counted after the command's name, which may hold spaces and parentheses.
fn parse_cpu(stat: &str) -> Option<f64> {
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

/// The first line: user, nice, system, idle, waiting for disks, interrupts, soft ones, taken by the hypervisor.
fn parse_machine(stat: &str) -> Option<(f64, f64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<f64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
    let (all, idle) = (ticks.iter().sum::<f64>(), ticks.get(3)? + ticks.get(4)?);
    Some(((all - idle) / TICKS, all / TICKS))
}

fn parse_resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_found_behind_an_odd_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 500 0 3 0 150 50 7 8 20 0 3 0 900 1 2";
        assert_eq!(parse_cpu(stat), Some(2.0));
        assert_eq!(parse_cpu("42 (short) S 1"), None);
        assert_eq!(parse_cpu("nonsense"), None);
    }

    #[test]
    fn the_machine_is_busy_where_it_is_not_idle() {
        let stat = "cpu  100 0 50 700 100 10 20 20 0 0\ncpu0 1 2 3\n";
        assert_eq!(parse_machine(stat), Some((2.0, 10.0)));
        assert_eq!(parse_machine("intr 1 2 3"), None);
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2_097_152.0));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_is_its_own_tree() {
        let me = std::process::id();
        assert!(resident_bytes(me) > 0.0);
        assert_eq!(tree(me).first(), Some(&me));
    }
}
