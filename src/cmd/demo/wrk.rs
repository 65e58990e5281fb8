//! wrk, which measures throughput and latency.

use super::{
    error::{Doing, Error},
    place::Place,
    process::Crew,
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// A request that takes longer counts as a timeout, on a WAN without distance.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Threads, of which each has a target: as many as there are endpoints.
const THREADS: u32 = 2;
/// How long wrk may take beyond the time of the measurement.
const GRACE: Duration = Duration::from_secs(10);
/// Shares the threads out among the targets, and prints exact figures instead of the rounded ones of wrk's own text.
const SCRIPT: &str = r#"
local n = 0
setup = function(thread)
  n = n % #targets + 1
  thread.addr = wrk.lookup(targets[n][1], targets[n][2])[1]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"duration_us":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.status, e.timeout))
end
"#;

/// The program and its script.
#[derive(Debug)]
pub(super) struct Wrk {
    program: PathBuf,
    script: PathBuf,
    timeout: Duration,
}

/// What one run of it found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Figures {
    /// Requests answered.
    pub(super) requests: u64,
    /// How long it really took.
    pub(super) duration_us: u64,
    /// Half of the requests took no longer.
    pub(super) p50_us: u64,
    /// 90% took no longer.
    pub(super) p90_us: u64,
    /// 99% took no longer.
    pub(super) p99_us: u64,
    /// None took longer.
    pub(super) max_us: u64,
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

impl Figures {
    /// Requests that failed, and connections that could not be made.
    pub(super) fn errors(&self) -> u64 {
        self.connect + self.read + self.write + self.status + self.timeout
    }

    /// The same by kind, as wrk has them.
    pub(super) fn faults(&self) -> BTreeMap<&'static str, u64> {
        let kinds = [("connect", self.connect), ("read", self.read), ("write", self.write)];
        let all = kinds.into_iter().chain([("status", self.status), ("timeout", self.timeout)]);
        all.filter(|(_, n)| *n > 0).collect()
    }

    /// Requests a second.
    pub(super) fn rate(&self) -> f64 {
        if self.duration_us == 0 { 0.0 } else { self.requests as f64 * 1e6 / self.duration_us as f64 }
    }
}

impl Wrk {
    /// The program, with its script below `scratch`; requests may take that much longer because of the WAN.
    pub(super) fn new(program: &Path, scratch: &Path, slack: Duration) -> Self {
        Self { program: program.to_owned(), script: scratch.join("wrk.lua"), timeout: TIMEOUT + slack }
    }

    /// Sends requests over keep-alive connections as fast as they are answered: to the first of `targets` from one connection,
    /// and to all of them alike from many.
    pub(super) async fn run(
        &self,
        crew: &mut Crew,
        place: &Place,
        targets: &[SocketAddr],
        connections: u32,
        length: Duration,
    ) -> Result<Figures, Error> {
        let script = format!("local targets = {}{SCRIPT}", lua(targets));
        fs::write(&self.script, script).doing(format!("write {}", self.script.display()))?;
        let mut command = place.command(&self.program);
        let threads = connections.min(THREADS);
        command.arg(format!("-t{threads}")).arg(format!("-c{connections}")).arg(format!("-d{}s", length.as_secs()));
        // The script says whom to ask; the URL has to be one all the same.
        let url = targets.first().map(|target| format!("http://{target}/"));
        let timeout = format!("{}s", self.timeout.as_secs_f64().ceil());
        command.arg("--timeout").arg(timeout).arg("-s").arg(&self.script).args(url);
        parse(&crew.run(command, length + GRACE).await?.ok()?)
    }
}

/// The addresses as a table of Lua.
fn lua(targets: &[SocketAddr]) -> String {
    let entries: Vec<_> =
        targets.iter().map(|target| format!("{{\"{}\", \"{}\"}}", target.ip(), target.port())).collect();
    format!("{{{}}}", entries.join(", "))
}

/// Finds the script's line in what wrk printed.
fn parse(stdout: &str) -> Result<Figures, Error> {
    let line = stdout.lines().find(|line| line.starts_with('{'));
    let figures = line.and_then(|line| serde_json::from_str(line).ok());
    figures.ok_or_else(|| Error::Wrk { found: stdout.chars().take(200).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_script_is_read() {
        let stdout = "Running 1s test @ http://10.0.0.1:80/\n  1 threads and 1 connections\n\
            {\"requests\":2000,\"duration_us\":500000,\"p50_us\":1,\"p90_us\":2,\"p99_us\":3,\"max_us\":4,\
            \"connect\":1,\"read\":2,\"write\":3,\"status\":4,\"timeout\":5}\n";
        let figures = parse(stdout).unwrap();
        assert_eq!((figures.errors(), figures.max_us), (15, 4));
        assert!((figures.rate() - 4000.0).abs() < 1e-9);
    }

    #[test]
    fn the_script_knows_the_targets() {
        let targets = ["10.0.0.2:8080", "10.0.0.3:81"].map(|target| target.parse().unwrap());
        assert_eq!(lua(&targets), r#"{{"10.0.0.2", "8080"}, {"10.0.0.3", "81"}}"#);
    }

    #[test]
    fn anything_else_is_an_error_that_shows_it() {
        for bad in ["", "unable to connect", "{\"requests\":-1}"] {
            assert!(parse(bad).unwrap_err().to_string().contains(&format!("{bad:?}")), "{bad}");
        }
    }
}
