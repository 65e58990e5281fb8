//! wrk: runs it and reads what its script prints.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::env::Env;
use crate::error::{Error, Result, write_file};
use crate::process;

/// Printed at the end of a run, with latencies in whole microseconds. Only `done` is defined: the request stays the
/// static one that wrk builds once, so that Lua costs nothing while it is measured.
const SCRIPT: &str = r#"
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '@{"requests":%d,"us":%d,"p50":%d,"p90":%d,"p99":%d,"max":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, e.connect, e.read, e.write, e.status, e.timeout))
end
"#;

/// A load that wrk makes.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections.
    pub connections: u32,
    /// wrk's threads.
    pub threads: u32,
    /// Whether each request has a connection of its own.
    pub close: bool,
    /// For how long: wrk knows whole seconds only.
    pub seconds: u32,
}

/// What wrk saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Answers.
    pub requests: u64,
    /// The time they took together.
    pub seconds: f64,
    /// Median latency in microseconds.
    pub p50: f64,
    /// 90th percentile in microseconds.
    pub p90: f64,
    /// 99th percentile in microseconds.
    pub p99: f64,
    /// The slowest answer in microseconds.
    pub max: f64,
    /// Failed connects, reads, writes, answers other than 2xx and 3xx, timeouts: all of them.
    pub errors: u64,
}

impl Report {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// Writes the script where [`run`] finds it.
pub fn prepare(dir: &Path) -> Result<()> {
    write_file(&dir.join("done.lua"), SCRIPT)
}

/// Runs wrk against `url`.
pub fn run(env: &Env, url: &str, load: Load) -> Result<Report> {
    let mut command = Command::new(&env.tools.wrk);
    command.arg(format!("-d{}s", load.seconds));
    command.arg(format!("-c{}", load.connections)).arg(format!("-t{}", load.threads)).arg("--timeout").arg("5s");
    if load.close {
        command.args(["-H", "Connection: close"]);
    }
    command.arg("-s").arg(env.dir().join("done.lua")).arg(url);
    let limit = Duration::from_secs(u64::from(load.seconds) + 30);
    parse(&process::run("wrk", command, limit, || env.interrupted())?)
}

fn parse(output: &str) -> Result<Report> {
    let malformed = |what: &str| Error::Load(format!("wrk printed {what}:\n{output}"));
    let line = output.lines().find_map(|line| line.strip_prefix('@')).ok_or_else(|| malformed("no summary"))?;
    let value: serde_json::Value = serde_json::from_str(line).map_err(|_| malformed("a summary that is not JSON"))?;
    let field = |name: &str| value[name].as_u64().ok_or_else(|| malformed(&format!("a summary without `{name}`")));
    let mut errors = 0;
    for kind in ["connect", "read", "write", "status", "timeout"] {
        errors += field(kind)?;
    }
    Ok(Report {
        requests: field("requests")?,
        seconds: field("us")?.max(1) as f64 / 1e6,
        p50: field("p50")? as f64,
        p90: field("p90")? as f64,
        p99: field("p99")? as f64,
        max: field("max")? as f64,
        errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 1s test @ http://127.0.0.1:1/\n  2 threads and 4 connections\n\
        @{\"requests\":50,\"us\":2000000,\"p50\":10,\"p90\":20,\"p99\":30,\"max\":99,\
        \"connect\":1,\"read\":2,\"write\":0,\"status\":3,\"timeout\":4}\n";

    #[test]
    fn a_summary_is_read() {
        let report = parse(OUTPUT).unwrap();
        let expected = Report { requests: 50, seconds: 2.0, p50: 10.0, p90: 20.0, p99: 30.0, max: 99.0, errors: 10 };
        assert_eq!(report, expected);
        assert_eq!(report.rate(), 25.0);
    }

    #[test]
    fn nonsense_is_refused_and_quoted() {
        for bad in ["", "unable to connect", "@{", "@{\"requests\":1}"] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }
}
