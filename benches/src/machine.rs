//! Where and with what a run was made.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::env::{Env, workspace};
use crate::error::{Error, Result};
use crate::process;

/// The machine and the versions of everything that ran.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The CPU's model.
    pub cpu: String,
    /// How many CPUs everything shared.
    pub cpus: usize,
    /// The kernel's release.
    pub kernel: String,
    /// TCP congestion control by default.
    pub congestion: String,
    /// Day of the run, UTC.
    pub date: String,
    /// The commit, with a mark if the tree had changes.
    pub commit: String,
    /// First lines of what the programs say of themselves.
    pub versions: Vec<(&'static str, String)>,
}

impl Machine {
    /// Looks around.
    pub fn describe(env: &Env) -> Self {
        Self {
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cpus: env.cpus,
            kernel: first_line("/proc/sys/kernel/osrelease"),
            congestion: first_line("/proc/sys/net/ipv4/tcp_congestion_control"),
            date: time::OffsetDateTime::now_utc().date().to_string(),
            commit: commit(),
            versions: versions(env),
        }
    }
}

/// As many open files as the system allows: the idle connections of one case alone are thousands, and proxies take
/// over what the harness has.
pub fn raise_file_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|errno| Error::io("raising the limit of open files")(errno.into()))
}

/// An error unless we are root, which network namespaces need.
pub fn may_make_networks() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let advice = "network namespaces need root: run it by sudo, or only what does not need them, with `loopback`";
    Err(Error::Load(advice.into()))
}

/// Keeps this process and all its children on the first `count` CPUs that it may use; returns how many those are.
/// So every proxy finds the same number of them, on any machine.
pub fn pin(count: usize) -> Result<usize> {
    let allowed = sched_getaffinity(None).map_err(|errno| Error::io("reading the CPU affinity")(errno.into()))?;
    let mut set = CpuSet::new();
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).take(count.max(1)) {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|errno| Error::io("setting the CPU affinity")(errno.into()))?;
    Ok(set.count() as usize)
}

fn cpu_model(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    model.map_or("unknown", |(_, name)| name.trim()).to_owned()
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(workspace()).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    match git(&["status", "--porcelain", "--untracked-files=no"]).as_deref() {
        Some("") => head,
        _ => format!("{head} with changes"),
    }
}

fn versions(env: &Env) -> Vec<(&'static str, String)> {
    let tools = &env.tools;
    let asked: [(&'static str, &Path, &str); 5] = [
        ("isthmus", &tools.isthmus, "--version"),
        ("Envoy", &tools.envoy, "--version"),
        ("HAProxy", &tools.haproxy, "-v"),
        ("nginx", &tools.nginx, "-v"),
        ("wrk", &tools.wrk, "-v"),
    ];
    asked.iter().filter_map(|&(name, path, flag)| Some((name, version(path, flag)?))).collect()
}

/// The first word of what the program prints that starts like a version. nginx and wrk print theirs to standard error,
/// and wrk thinks that to be asked for it is a failure.
fn version(program: &Path, flag: &str) -> Option<String> {
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\" \"$1\" 2>&1 || true"]).arg(program).arg(flag);
    let output = process::run("version", command, Duration::from_secs(10), || false).ok()?;
    version_in(output.lines().find(|line| !line.trim().is_empty())?)
}

fn version_in(line: &str) -> Option<String> {
    let words = line.split(|at: char| at.is_whitespace() || at == '/');
    let starts = |word: &&str| word.starts_with(|at: char| at.is_ascii_digit()) && word.contains('.');
    words.filter(starts).map(|word| word.trim_end_matches(',').to_owned()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (line, expected) in [
            ("/x/envoy  version: 9e5580/1.40.0/Clean/RELEASE/BoringSSL", "1.40.0"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12-1+deb12u4"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer", "4.1.0-3+b2"),
            ("isthmus 0.1.0", "0.1.0"),
        ] {
            assert_eq!(version_in(line).as_deref(), Some(expected));
        }
        assert_eq!(version_in("no such thing"), None);
    }

    #[test]
    fn the_model_is_found() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Some CPU 9\n"), "Some CPU 9");
        assert_eq!(cpu_model(""), "unknown");
    }
}
