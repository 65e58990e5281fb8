//! `isthmus invite`, `join` and `unlink`, as an operator runs them where the gateway is.

use crate::{
    Cluster,
    gateway::config_path,
    identity::{isthmus, text},
};
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// `isthmus invite` in `cluster`, which succeeds: the token.
///
/// # Panics
/// If it does not.
pub fn invite(cluster: &Cluster) -> String {
    let said = run(cluster, &["invite"], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out.trim().to_owned()
}

/// `isthmus join -` in `cluster`, with the token on standard input.
pub fn join(cluster: &Cluster, token: &str) -> Said {
    run(cluster, &["join", "-"], token)
}

/// `isthmus unlink` in `cluster`.
pub fn unlink(cluster: &Cluster, peer: &str) -> Said {
    run(cluster, &["unlink", peer], "")
}

/// `isthmus <args> --config …` beside a cluster's gateway.
///
/// # Panics
/// If it cannot be started.
pub fn run(cluster: &Cluster, args: &[&str], input: &str) -> Said {
    run_with(cluster, args, input, &config_path(cluster))
}

/// The same with another configuration.
///
/// # Panics
/// If it cannot be started.
pub fn run_with(cluster: &Cluster, args: &[&str], input: &str, config: &Path) -> Said {
    run_bare(cluster, &[args, &["--config", text(config)]].concat(), input)
}

/// `isthmus <args>`, and nothing else, beside a cluster's gateway.
///
/// # Panics
/// If it cannot be started.
pub fn run_bare(cluster: &Cluster, args: &[&str], input: &str) -> Said {
    let mut command = Command::new(isthmus());
    command.args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let line = format!("isthmus {}", args.join(" "));
    let mut child = cluster.edge().run(move || command.spawn()).unwrap_or_else(|e| panic!("`{line}`: {e}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads nothing may have ended already.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().unwrap_or_else(|e| panic!("`{line}`: {e}"));
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: words(&output.stdout), err: words(&output.stderr) }
}
