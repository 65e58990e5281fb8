//! Retry storms: what the budget of retries makes of them, against none and against one without bound. In one, half of a service's
//! endpoints swallow connections; in the other all of them take fewer than they are asked for ([`overload`]).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::env::Env;
use crate::error::{Error, Result, write_file};
use crate::netns::Netns;
use crate::process::{self, Process};
use crate::storm::endpoints::{Deaf, Well};
use crate::{bulk, http, wrk};

pub(crate) mod endpoints;
mod envoy;
mod overload;

/// Endpoints of each kind.
const HALF: usize = 4;
/// Clients, each with a connection for each request.
const CLIENTS: u32 = 64;
/// How long an endpoint may take to accept a connection.
const CONNECT: &str = "500ms";
/// How long a gateway has to pass a request, from its start.
const READY: Duration = Duration::from_secs(20);

/// The budgets that are compared, by name and as a policy says them.
const BUDGETS: [(&str, &str); 3] = [
    ("no retries", "{budget: 0%, perSecond: 0}"),
    ("default", "{}"),
    ("no bound", "{budget: 100%, perSecond: 1000000}"),
];

/// What came of one budget.
struct Outcome {
    name: &'static str,
    report: wrk::Report,
    /// Streams, attempts beyond their first, and attempts that the budget refused.
    streams: f64,
    retries: f64,
    refused: f64,
}

/// Runs both storms, every budget `rounds` times for `seconds`; the tables. In a network namespace: the second one's is the kernel's work.
pub fn run(env: &Env, rounds: u32, seconds: u32) -> Result<String> {
    let place = Netns::new()?;
    place.exec("ip", "link set lo up")?;
    let half = place.within(|| half_dead(env, rounds, seconds))?;
    let overload = place.within(|| overload::run(env, rounds, seconds))?;
    Ok(format!("{half}\n{overload}"))
}

fn half_dead(env: &Env, rounds: u32, seconds: u32) -> Result<String> {
    let well = (0..HALF).map(|_| Well::start()).collect::<Result<Vec<_>>>()?;
    let deaf = (0..HALF).map(|_| Deaf::start()).collect::<Result<Vec<_>>>()?;
    let endpoints: Vec<_> = well.iter().map(Well::address).chain(deaf.iter().map(Deaf::address)).collect();
    let mut outcomes = Vec::new();
    for round in 0..rounds {
        for n in 0..BUDGETS.len() {
            let (name, retries) = BUDGETS[(n + round as usize) % BUDGETS.len()];
            outcomes.push(measure(env, &endpoints, name, retries, seconds)?);
        }
    }
    Ok(table(&outcomes))
}

fn measure(env: &Env, endpoints: &[SocketAddr], name: &'static str, retries: &str, seconds: u32) -> Result<Outcome> {
    let (listen, admin) = (local(env)?, local(env)?);
    let _gateway = gateway(env, endpoints, retries, "", (listen, admin))?;
    let load = wrk::Load { connections: CLIENTS, threads: 2, close: true, seconds };
    let report = wrk::run(env, &format!("http://{listen}/"), load)?;
    let metrics = http::get(admin, "/metrics").map_err(Error::io("asking for metrics"))?;
    Ok(Outcome {
        name,
        report,
        streams: sum(&metrics, "isthmus_streams_opened_total{"),
        retries: sum(&metrics, "isthmus_stream_retries_total{"),
        refused: sum(&metrics, REFUSED),
    })
}

/// Retries that the budget has refused.
const REFUSED: &str = "isthmus_refusals_total{bound=\"retry_budget\"}";

/// The sum of the samples that begin so.
fn sum(metrics: &str, wanted: &str) -> f64 {
    let values = metrics.lines().filter(|line| line.starts_with(wanted)).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}

/// A gateway that serves its own cluster's clients with `endpoints`. `more`: further keys of the export's policy, each behind a comma.
fn gateway(
    env: &Env,
    endpoints: &[SocketAddr],
    retries: &str,
    more: &str,
    (listen, admin): (SocketAddr, SocketAddr),
) -> Result<Process> {
    let dir = tempfile::tempdir_in(env.dir()).map_err(Error::io("creating a directory"))?.keep();
    let mut init = Command::new(&env.tools.isthmus);
    init.args(["identity", "init", "--clusterset", "bench", "--cluster", "east", "--out"]).arg(dir.join("identity"));
    process::run("isthmus identity", init, Duration::from_secs(30), || env.interrupted())?;
    let quoted: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let (cores, tunnel) = (env.cpus, local(env)?);
    let text = format!(
        "clusterset: bench
cluster: east
identity: identity/
cores: {cores}
tunnel: {{listen: \"{tunnel}\"}}
admin: \"{admin}\"
exports:
  - service: bench/web
    ports: [{{port: 80}}]
    endpoints: [{}]
    policy: {{timeouts: {{connect: {CONNECT}}}, retries: {retries}{more}}}
imports:
  - {{service: bench/web, port: 80, listen: \"{listen}\", policy: {{retries: {retries}}}}}
",
        quoted.join(", ")
    );
    let config = dir.join("east.yaml");
    write_file(&config, &text)?;
    let mut command = Command::new(&env.tools.isthmus);
    command.arg("run").arg("--config").arg(config);
    let mut gateway = Process::start("storm", command, env.dir())?;
    let deadline = Instant::now() + READY;
    while http::get(admin, "/readyz").is_err() {
        gateway.check()?;
        if Instant::now() > deadline {
            return Err(gateway.failure("it did not become ready"));
        }
        bulk::sleep(Duration::from_millis(50), &|| env.interrupted())?;
    }
    Ok(gateway)
}

fn local(env: &Env) -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, env.ports.take()?).into())
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{HALF} endpoints are well and {HALF} swallow connections, which are given up after {CONNECT}; {CLIENTS} clients, a connection \
         for each request\n\n| budget | requests/s | p99 ms | failed | streams | attempts a stream | not tried again |\n|---|---|---|---|---|---|---|\n"
    );
    for (name, _) in BUDGETS {
        for Outcome { report, streams, retries, refused, .. } in outcomes.iter().filter(|outcome| outcome.name == name)
        {
            let (rate, p99, attempts) = (report.rate(), report.p99 / 1e3, (streams + retries) / streams.max(1.0));
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {rate:.0} | {p99:.1} | {} | {streams} | {attempts:.4} | {refused} |",
                report.errors
            );
        }
    }
    text
}
