//! Overload: every endpoint's host takes so many new connections a second, and drops what is beyond that.
//!
//! None of them is dead, so none is to be left out, and ejection is off (`failures: 1000`). A stream whose connection was dropped finds
//! out by waiting, and each further attempt goes to hosts that have no more room than before. Dropping is the kernel's: nftables count
//! what arrives and drop above the rate.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{BUDGETS, CONNECT, READY, REFUSED, endpoints::Well, envoy, gateway, local, sum};
use crate::env::Env;
use crate::error::{Error, Result, write_file};
use crate::process::{self, Process};
use crate::{bulk, http, wrk};

/// Endpoints, all of them well.
const ENDPOINTS: usize = 8;
/// New connections a second that each takes.
const RATE: u32 = 50;
/// What may come at once after a quiet time.
const BURST: u32 = 5;
/// Clients, each with a connection for each request: they ask for far more than there is.
const CLIENTS: u32 = 256;
/// Failures and lateness leave nobody out.
const NO_EJECTION: &str = ", outliers: {failures: 1000}";

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Contestant {
    /// isthmus, with retries as a policy says them.
    Isthmus { retries: &'static str },
    /// Envoy, which tries so often; `budget`: with a retry budget of 20% for its cluster.
    Envoy { attempts: u32, budget: bool },
}

/// All of them, by name.
fn contestants() -> Vec<(String, Contestant)> {
    let isthmus = BUDGETS.map(|(name, retries)| (format!("isthmus, {name}"), Contestant::Isthmus { retries }));
    let envoy = [("one attempt", 1, false), ("six attempts", 6, false), ("six, retry budget 20%", 6, true)];
    let envoy =
        envoy.map(|(name, attempts, budget)| (format!("Envoy, {name}"), Contestant::Envoy { attempts, budget }));
    isthmus.into_iter().chain(envoy).collect()
}

/// What came of one run.
struct Outcome {
    report: wrk::Report,
    /// Connections that arrived at the endpoints' hosts, and those of them that were dropped.
    asked: u64,
    dropped: u64,
    /// Retries that the budget refused, of those that say so.
    refused: Option<f64>,
}

/// Runs everybody `rounds` times for `seconds`; the table.
pub(super) fn run(env: &Env, rounds: u32, seconds: u32) -> Result<String> {
    let well = (0..ENDPOINTS).map(|_| Well::start()).collect::<Result<Vec<_>>>()?;
    let endpoints: Vec<_> = well.iter().map(Well::address).collect();
    let contestants = contestants();
    let mut outcomes: Vec<Vec<Outcome>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds as usize {
        for n in 0..contestants.len() {
            let n = (n + round) % contestants.len();
            outcomes[n].push(measure(env, &endpoints, contestants[n].1, seconds)?);
        }
    }
    Ok(table(&contestants, &outcomes))
}

fn measure(env: &Env, endpoints: &[SocketAddr], contestant: Contestant, seconds: u32) -> Result<Outcome> {
    let (listen, admin) = (local(env)?, local(env)?);
    let _process = match contestant {
        Contestant::Isthmus { retries } => gateway(env, endpoints, retries, NO_EJECTION, (listen, admin))?,
        Contestant::Envoy { attempts, budget } => {
            ready(env, envoy::start(env, endpoints, (attempts, budget), listen)?, listen)?
        }
    };
    let rules = env.dir().join("storm.nft");
    write_file(&rules, &ruleset(endpoints))?;
    nft(env, &["-f", &rules.display().to_string()])?;
    let load = wrk::Load { connections: CLIENTS, threads: 2, close: true, seconds };
    let report = wrk::run(env, &format!("http://{listen}/"), load);
    let (asked, dropped) = (counter(env, "asked")?, counter(env, "dropped")?);
    nft(env, &["delete table inet storm"])?;
    let refused = match contestant {
        Contestant::Isthmus { .. } => {
            let metrics = http::get(admin, "/metrics").map_err(Error::io("asking for metrics"))?;
            Some(sum(&metrics, REFUSED))
        }
        Contestant::Envoy { .. } => None,
    };
    Ok(Outcome { report: report?, asked, dropped, refused })
}

/// Waits until a request gets through.
fn ready(env: &Env, mut process: Process, listen: SocketAddr) -> Result<Process> {
    let deadline = Instant::now() + READY;
    while http::get(listen, "/").is_err() {
        process.check()?;
        if Instant::now() > deadline {
            return Err(process.failure("no request passed"));
        }
        bulk::sleep(Duration::from_millis(50), &|| env.interrupted())?;
    }
    Ok(process)
}

/// Counts connections to the endpoints, and drops what is beyond each one's rate.
fn ruleset(endpoints: &[SocketAddr]) -> String {
    const BEGIN: &str = "tcp flags & (syn | ack) == syn";
    let ports: Vec<_> = endpoints.iter().map(|endpoint| endpoint.port().to_string()).collect();
    let limits = ports.iter().map(|port| {
        format!(
            "tcp dport {port} {BEGIN} limit rate over {RATE}/second burst {BURST} packets counter name dropped drop\n"
        )
    });
    format!(
        "table inet storm {{\ncounter asked {{}}\ncounter dropped {{}}\nchain input {{\ntype filter hook input priority 0;\n\
         tcp dport {{ {} }} {BEGIN} counter name asked\n{}}}\n}}\n",
        ports.join(", "),
        limits.collect::<String>()
    )
}

fn nft(env: &Env, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("nft");
    command.args(arguments);
    process::run("nft", command, Duration::from_secs(10), || env.interrupted())
}

fn counter(env: &Env, name: &str) -> Result<u64> {
    let text = nft(env, &[&format!("list counter inet storm {name}")])?;
    packets(&text).ok_or_else(|| Error::Load(format!("nft printed no counter:\n{text}")))
}

fn packets(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().skip_while(|word| *word != "packets").nth(1)?.parse().ok()
}

fn table(contestants: &[(String, Contestant)], outcomes: &[Vec<Outcome>]) -> String {
    let mut text = format!(
        "{ENDPOINTS} endpoints are well, and each one's host takes {RATE} new connections a second and drops what is beyond, so {} a second \
         together; {CLIENTS} clients, a connection for each request; connecting is given up after {CONNECT}; nobody is left out for failures\n\n\
         | | answers/s | p99 ms | failed/s | answered | connections at hosts/s | of an answer | dropped | refused by the budget |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        RATE as usize * ENDPOINTS
    );
    for ((name, _), outcomes) in contestants.iter().zip(outcomes) {
        for Outcome { report, asked, dropped, refused } in outcomes {
            let (answers, failed) = (report.requests as f64, report.errors as f64);
            let refused = refused.map_or_else(|| "–".to_owned(), |refused| refused.to_string());
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {:.0} | {:.0} | {:.0} | {:.0}% | {:.0} | {:.2} | {:.0}% | {refused} |",
                report.rate(),
                report.p99 / 1e3,
                failed / report.seconds,
                100.0 * answers / (answers + failed).max(1.0),
                *asked as f64 / report.seconds,
                *asked as f64 / answers.max(1.0),
                100.0 * *dropped as f64 / (*asked as f64).max(1.0),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read() {
        let text = "table inet storm {\n\tcounter asked {\n\t\tpackets 1234 bytes 74040\n\t}\n}\n";
        assert_eq!(packets(text), Some(1234));
        assert_eq!(packets("no counter"), None);
    }

    #[test]
    fn every_endpoint_has_a_limit_of_its_own() {
        let endpoints = [1001, 1002].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let rules = ruleset(&endpoints);
        assert!(
            rules.contains("tcp dport { 1001, 1002 } ") && rules.matches("limit rate over 50/second").count() == 2,
            "{rules}"
        );
    }
}
