//! One size of the clusters, and what was measured at it.

use crate::{
    args::Args,
    load::{self, Took},
    world::World,
};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Clock ticks a second in /proc/PID/stat: the same on all of Linux's platforms that we run on.
const TICKS: f64 = 100.0;
/// How long control is watched while nothing changes.
const IDLE: Duration = Duration::from_secs(5);
/// Changes a second of services that come and go in east.
const REMOTE_RATE: u32 = 10;

/// See the module.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    /// Local services, exported, of ten endpoints each.
    pub(crate) services: usize,
    /// Peers.
    pub(crate) peers: usize,
    /// Services that each of them exports: the same ones.
    pub(crate) shared: usize,
    /// Seconds from the first object of this size to the last write of control.
    pub(crate) settled_s: f64,
    /// From the change of an endpoint to the table of a gateway here.
    pub(crate) local: Took,
    /// The same to a plain watch of the API server.
    pub(crate) watch: Took,
    /// From the change of an endpoint to the table of a gateway in east.
    pub(crate) remote: Took,
    /// Changes a second that were reached in the local load.
    pub(crate) rate: f64,
    /// Bytes of push for each of those changes and each gateway.
    pub(crate) bytes: f64,
    /// CPU of control during those changes, in parts of a core.
    pub(crate) control_cpu: f64,
    /// The same of west's gateway.
    pub(crate) gateway_cpu: f64,
    /// CPU of control while nothing changes.
    pub(crate) idle_cpu: f64,
    /// The same of all peers together.
    pub(crate) peers_idle_cpu: f64,
    /// Resident memory of control, in MiB.
    pub(crate) control_mib: f64,
    /// Resident memory of west's gateway, in MiB.
    pub(crate) gateway_mib: f64,
}

impl Point {
    /// Measures at the size that there is.
    pub(crate) fn measure(world: &World, args: &Args) -> Self {
        let idle = Since::now(world);
        std::thread::sleep(IDLE);
        let (idle_cpu, _, peers_idle_cpu) = idle.cores(world);
        let before = Since::now(world);
        let found = load::local(world, args.rate, args.load_seconds());
        let (control_cpu, gateway_cpu, _) = before.cores(world);
        let bytes = world.metrics().sum("isthmus_push_bytes_total", &[]) - before.bytes;
        let remote = load::remote(world, REMOTE_RATE, args.load_seconds());
        // West's gateway and the observer.
        let gateways = 2.0;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Self {
            services: world.services(),
            peers: world.peers(),
            shared: world.shared(),
            settled_s: world.settled_in.as_secs_f64(),
            bytes: bytes / gateways / (found.table.count.max(1) as f64),
            local: found.table,
            watch: found.watch,
            remote,
            rate: found.rate,
            control_cpu,
            gateway_cpu,
            idle_cpu,
            peers_idle_cpu,
            control_mib: mib(world.control.resident()),
            gateway_mib: mib(world.gateway.resident()),
        }
    }
}

/// What processes had used at a moment.
struct Since {
    at: Instant,
    control: f64,
    gateway: f64,
    peers: f64,
    bytes: f64,
}

impl Since {
    fn now(world: &World) -> Self {
        Self {
            at: Instant::now(),
            control: cpu(world.control.pid()),
            gateway: cpu(world.gateway.pid()),
            peers: world.peers_cpu(),
            bytes: world.metrics().sum("isthmus_push_bytes_total", &[]),
        }
    }

    /// CPU since then, in cores: of control, of the gateway, of the peers.
    fn cores(&self, world: &World) -> (f64, f64, f64) {
        let seconds = self.at.elapsed().as_secs_f64();
        let control = (cpu(world.control.pid()) - self.control) / seconds;
        let gateway = (cpu(world.gateway.pid()) - self.gateway) / seconds;
        (control, gateway, (world.peers_cpu() - self.peers) / seconds)
    }
}

/// CPU seconds of a process, user and system.
pub(crate) fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may have spaces; utime and stime are the 12th and 13th after it.
    let after = stat.rsplit_once(") ").map(|(_, after)| after).unwrap_or_default();
    after.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}
