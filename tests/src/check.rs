//! `isthmus check`, as an operator of a gateway runs it.

use crate::{Gateway, wait::eventually};
use serde_json::Value;

/// What it says of a gateway, as JSON.
///
/// # Panics
/// If it says nothing, or its exit code is another than its lines ask for.
pub fn check(gateway: &Gateway<'_>, args: &[&str]) -> Value {
    let admin = gateway.admin().to_string();
    let all = [&["check", "--admin", &admin, "--output", "json"], args].concat();
    let output = gateway.command(&all);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{all:?}: {e}: {stdout}{stderr}"));
    let expected = if report["ok"] == true { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(expected), "{report}{stderr}");
    report
}

/// Waits until it names what is wrong: a × about `about`, with all of `words` in what was found. The line.
///
/// # Panics
/// If it does not, or has no fix.
pub fn wait_named(gateway: &Gateway<'_>, about: &str, words: &[&str]) -> Value {
    let line = wait_line(gateway, about, Some("failed"), words);
    assert!(line["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{line}");
    line
}

/// Waits until it has such a line, with that mark if one is given.
///
/// # Panics
/// If it has not.
pub fn wait_line(gateway: &Gateway<'_>, about: &str, mark: Option<&str>, words: &[&str]) -> Value {
    let name = gateway.cluster().name();
    eventually(&format!("{name}'s check has a line ({mark:?}) about {about} with {words:?}"), || {
        let report = check(gateway, &[]);
        let lines = report["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
        let fits = |line: &&Value| {
            let found = line["found"].as_str().unwrap_or_default();
            let is_about = line["about"].as_str().is_some_and(|of| of.starts_with(about));
            is_about && mark.is_none_or(|mark| line["mark"] == mark) && words.iter().all(|word| found.contains(word))
        };
        lines.iter().find(fits).cloned().ok_or_else(|| report.to_string())
    })
}

/// Waits until nothing fails, and something was found to be well by opening streams.
///
/// # Panics
/// If something does.
pub fn wait_well(gateway: &Gateway<'_>) -> Value {
    let name = gateway.cluster().name();
    eventually(&format!("{name}'s check has no ×"), || {
        let report = check(gateway, &[]);
        if report["ok"] == true { Ok(report) } else { Err(report.to_string()) }
    })
}

/// The marks of the lines with this check.
pub fn marks(report: &Value, check: &str) -> Vec<String> {
    let lines = report["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = lines.iter().filter(|line| line["check"] == check);
    of.filter_map(|line| line["mark"].as_str().map(str::to_owned)).collect()
}
