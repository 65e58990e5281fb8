//! One gateway with ten thousand service ports: a listener on each core for each of them, against one that takes them all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use crate::env::Env;
use crate::error::{Error, Result, write_file};
use crate::netns::Netns;
use crate::process::{self, Process};
use crate::stats::Spread;
use crate::storm::endpoints::Well;
use crate::{bulk, http, procfs};

/// The first port; below the range that the kernel takes for outgoing connections.
const FIRST: u16 = 20_000;
/// How many.
const PORTS: u16 = 10_000;
/// Clients at once, each with a connection for each request.
const CLIENTS: usize = 16;
/// Endpoints, so that one is not what is measured.
const ENDPOINTS: usize = 4;
/// How long a gateway has to become ready.
const READY: Duration = Duration::from_secs(20);
/// How long it may take until it rests.
const REST: Duration = Duration::from_secs(10);
/// Descriptors that a process has in most shells, unless it asks for more.
const FEW_FILES: u32 = 1024;

/// What is compared.
struct Way {
    name: &'static str,
    ports: u16,
    /// Instead of as many as all share.
    cores: Option<usize>,
    shared: &'static str,
    few_files: bool,
}

const WAYS: [Way; 7] = [
    Way { name: "off, one port", ports: 1, cores: None, shared: "off", few_files: false },
    Way { name: "off", ports: PORTS, cores: None, shared: "off", few_files: false },
    Way { name: "on", ports: PORTS, cores: None, shared: "on", few_files: false },
    Way { name: "off, one core", ports: PORTS, cores: Some(1), shared: "off", few_files: false },
    Way { name: "on, one core", ports: PORTS, cores: Some(1), shared: "on", few_files: false },
    Way { name: "off, 1,024 files", ports: PORTS, cores: None, shared: "off", few_files: true },
    Way { name: "on, 1,024 files", ports: PORTS, cores: None, shared: "on", few_files: true },
];

/// What came of one gateway.
struct Outcome {
    way: usize,
    /// Seconds until it said that it is ready; none if it never did.
    ready: Option<f64>,
    /// Ports that take connections.
    serving: usize,
    resident: f64,
    /// What the kernel's slabs have more than before it was started.
    slab: f64,
    descriptors: usize,
    /// Requests that were answered, a second.
    rate: f64,
    failed: Failed,
}

/// Requests that failed, by why.
type Failed = BTreeMap<String, u64>;

/// Runs every way `rounds` times, under load for `seconds`; the table.
pub fn run(env: &Env, rounds: u32, seconds: u32) -> Result<String> {
    let netns = Netns::new()?;
    netns.exec("ip", "link set lo up")?;
    netns.within(|| {
        let endpoints = (0..ENDPOINTS).map(|_| Well::start()).collect::<Result<Vec<_>>>()?;
        let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{}\"", endpoint.address())).collect();
        let mut outcomes = Vec::new();
        for round in 0..rounds as usize {
            for n in 0..WAYS.len() {
                outcomes.push(measure(env, &endpoints.join(", "), (n + round) % WAYS.len(), seconds)?);
            }
        }
        Ok(table(&outcomes))
    })
}

fn measure(env: &Env, endpoints: &str, way: usize, seconds: u32) -> Result<Outcome> {
    let Way { ports, few_files, .. } = WAYS[way];
    let (before, admin) = (slab()?, local(FIRST - 1));
    let (mut gateway, started) = start(env, endpoints, &WAYS[way], admin)?;
    let mut ready = None;
    // What has not become ready by then with few files never does: it tries every second.
    let limit = if few_files { READY / 4 } else { READY };
    while ready.is_none() && started.elapsed() < limit {
        gateway.check()?;
        if http::get(admin, "/readyz").is_ok() {
            ready = Some(started.elapsed().as_secs_f64());
        }
        bulk::sleep(Duration::from_millis(5), &|| env.interrupted())?;
    }
    let (resident, slab) = (procfs::resident_bytes(gateway.pid()), slab()? - before);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", gateway.pid())).map_err(Error::io("counting descriptors"))?;
    let descriptors = descriptors.count();
    let serving = (0..ports).filter(|n| http::connect(local(FIRST + n)).is_ok()).count();
    // The streams of those connections are to be over before others are measured.
    procfs::wait_idle(&[gateway.pid()], REST);
    let (rate, failed) = if ready.is_some() { load(env, ports, seconds) } else { (0.0, Failed::new()) };
    if env.interrupted() {
        return Err(Error::Interrupted);
    }
    Ok(Outcome { way, ready, serving, resident, slab, descriptors, rate, failed })
}

/// A request on a connection of its own, to one port after the other.
fn load(env: &Env, ports: u16, seconds: u32) -> (f64, Failed) {
    let (next, done, failed) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(Failed::new()));
    let (started, length) = (Instant::now(), Duration::from_secs(seconds.into()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut failures = Failed::new();
                while started.elapsed() < length && !env.interrupted() {
                    let n = next.fetch_add(1, Ordering::Relaxed) % usize::from(ports);
                    let port = FIRST + u16::try_from(n).unwrap_or(0);
                    match http::get(local(port), "/") {
                        Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => *failures.entry(error.to_string()).or_default() += 1,
                    }
                }
                add(&mut failed.lock().unwrap_or_else(PoisonError::into_inner), failures);
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    (done.into_inner() as f64 / started.elapsed().as_secs_f64(), failed)
}

fn add(to: &mut Failed, more: Failed) {
    for (why, times) in more {
        *to.entry(why).or_default() += times;
    }
}

/// A gateway that serves its own cluster's clients, and when it was started.
fn start(env: &Env, endpoints: &str, way: &Way, admin: SocketAddr) -> Result<(Process, Instant)> {
    let dir = tempfile::tempdir_in(env.dir()).map_err(Error::io("creating a directory"))?.keep();
    let mut init = Command::new(&env.tools.isthmus);
    init.args(["identity", "init", "--clusterset", "bench", "--cluster", "east", "--out"]).arg(dir.join("identity"));
    process::run("isthmus identity", init, Duration::from_secs(30), || env.interrupted())?;
    let (cores, tunnel, shared) = (way.cores.unwrap_or(env.cpus), local(FIRST - 2), way.shared);
    let mut text = format!(
        "clusterset: bench
cluster: east
identity: identity/
cores: {cores}
sharedListener: {shared}
tunnel: {{listen: \"{tunnel}\"}}
admin: \"{admin}\"
exports:
  - {{service: bench/web, ports: [{{port: 80}}], endpoints: [{endpoints}]}}
imports:
"
    );
    for n in 0..way.ports {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  - {{service: bench/web, port: 80, listen: \"{}\"}}", local(FIRST + n));
    }
    let config = dir.join("east.yaml");
    write_file(&config, &text)?;
    let mut command = Command::new(if way.few_files { "prlimit".as_ref() } else { env.tools.isthmus.as_os_str() });
    if way.few_files {
        command.arg(format!("--nofile={FEW_FILES}:{FEW_FILES}")).arg(&env.tools.isthmus);
    }
    command.arg("run").arg("--config").arg(config);
    let started = Instant::now();
    Ok((Process::start("many-ports", command, env.dir())?, started))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Bytes that the kernel has in slabs, of this and everything else on the machine.
fn slab() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo").map_err(Error::io("reading /proc/meminfo"))?;
    let kib = text.lines().find_map(|line| line.strip_prefix("Slab:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map(|kib: f64| kib * 1024.0).ok_or_else(|| Error::Load("/proc/meminfo says nothing of slabs".into()))
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{PORTS} service ports of one gateway; at most {} files, where nothing else is said; medians; {CLIENTS} clients, a connection \
         for each request, one port after the other\n\n\
         | sharedListener | ready after s | ports that serve | descriptors | resident MiB | kernel's slabs MiB | requests/s | failed |\n\
         |---|---|---|---|---|---|---|---|\n",
        getrlimit(Resource::Nofile).current.map_or_else(|| "any number of".into(), |files| files.to_string()),
    );
    let middle = |values: &[f64]| Spread::of(values).map_or(0.0, |spread| spread.median);
    for (n, Way { name, ports, .. }) in WAYS.iter().enumerate() {
        let of_way = || outcomes.iter().filter(move |outcome| outcome.way == n);
        let median = |of: fn(&Outcome) -> f64| middle(&of_way().map(of).collect::<Vec<_>>());
        let ready: Vec<_> = of_way().filter_map(|outcome| outcome.ready).collect();
        let ready = if ready.is_empty() { "never".into() } else { format!("{:.2}", middle(&ready)) };
        let serving = of_way().map(|outcome| outcome.serving).min().unwrap_or(0);
        let mut failed = Failed::new();
        of_way().for_each(|outcome| add(&mut failed, outcome.failed.clone()));
        let failed: Vec<_> = failed.iter().map(|(why, times)| format!("{times} ({why})")).collect();
        let failed = if failed.is_empty() { "0".to_owned() } else { failed.join(", ") };
        const MIB: f64 = (1 << 20) as f64;
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {ready} | {serving} of {ports} | {:.0} | {:.1} | {:.1} | {:.0} | {failed} |",
            median(|outcome| outcome.descriptors as f64),
            median(|outcome| outcome.resident) / MIB,
            median(|outcome| outcome.slab) / MIB,
            median(|outcome| outcome.rate),
        );
    }
    text
}
