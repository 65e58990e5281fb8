//! `isthmus demo` leaves nothing behind: whatever happens to it, and at whatever point.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]
mod run;
mod traces;

use run::{Run, unprivileged};
use rustix::process::Signal;
use serde_json::Value;

/// What the story says at the points at which it is interrupted, from the first step to the last; by what, and what exit code
/// tells of that.
const POINTS: [(&str, Signal, i32); 7] = [
    ("asked for", Signal::INT, 130),
    ("east", Signal::TERM, 143),
    ("trust", Signal::HUP, 129),
    ("gateways", Signal::INT, 130),
    ("wrk through the gateways", Signal::TERM, 143),
    ("killed nginx", Signal::INT, 130),
    ("cut for", Signal::INT, 130),
];

#[test]
fn interrupted_anywhere_it_leaves_nothing() {
    for (point, signal, code) in POINTS {
        let mut run = Run::start(&["--seconds", "3"]);
        let traces = run.reach(point);
        run.signal(signal);
        let ended = run.wait();
        assert_eq!(ended.code, Some(code), "{signal:?} at {point:?}: {}", ended.stderr);
        traces.assert_none(&format!("{signal:?} at {point:?}"));
        run.assert_no_files(&format!("{signal:?} at {point:?}"));
    }
}

#[test]
fn loopback_needs_no_root_and_leaves_nothing_when_interrupted() {
    for point in ["east", "gateways", "wrk through the gateways", "cut for"] {
        let mut run = unprivileged(&["--loopback", "--seconds", "3"]);
        let traces = run.reach(point);
        run.signal(Signal::INT);
        let ended = run.wait();
        assert_eq!(ended.code, Some(130), "at {point:?}: {}", ended.stderr);
        traces.assert_none(&format!("at {point:?}"));
        run.assert_no_files(&format!("at {point:?}"));
    }
}

#[test]
fn killed_it_leaves_files_alone_and_the_next_run_removes_them() {
    let mut run = Run::start(&["--seconds", "3"]);
    let traces = run.reach("wrk through the gateways");
    run.signal(Signal::KILL);
    run.wait();
    traces.assert_none("SIGKILL");
    assert_eq!(run.files().len(), 1);

    let mut next = run.again(&["--seconds", "3"]);
    next.reach("removed the files of 1 killed run");
    next.signal(Signal::INT);
    next.wait();
    next.assert_no_files("after the next run");
}

#[test]
fn it_fails_when_a_gateway_dies_and_leaves_nothing() {
    let mut run = Run::start(&["--seconds", "3"]);
    let traces = run.reach("wrk direct");
    traces.kill("run --config");
    let ended = run.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("ended by itself"), "{}", ended.stderr);
    traces.assert_none("a dead gateway");
    run.assert_no_files("a dead gateway");
}

#[test]
fn without_root_it_says_what_to_do() {
    let mut run = unprivileged(&[]);
    let ended = run.wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("sudo isthmus demo") && ended.stderr.contains("--loopback"), "{}", ended.stderr);
}

#[test]
fn a_whole_run_over_an_emulated_wan_is_no_faster_than_light() {
    let mut run = Run::start(&["--wan", "20ms,0.5%", "--seconds", "1", "--output", "json"]);
    let traces = run.reach("gateways");
    let report = assert_whole(&mut run, "namespaces");
    traces.assert_none("a whole run over an emulated WAN");
    run.assert_no_files("a whole run over an emulated WAN");
    assert_eq!(report["wan"], "20ms,0.5%");
    for measurement in report["throughput"].as_array().into_iter().flatten() {
        assert!(measurement["p50_us"].as_u64() >= Some(20_000), "{measurement}");
    }
}

#[test]
fn interrupted_over_an_emulated_wan_it_leaves_nothing() {
    for point in ["emulated", "gateways", "cut for"] {
        let mut run = Run::start(&["--wan", "20ms", "--seconds", "1"]);
        let traces = run.reach(point);
        run.signal(Signal::INT);
        let ended = run.wait();
        assert_eq!(ended.code, Some(130), "at {point:?}: {}", ended.stderr);
        traces.assert_none(&format!("at {point:?}"));
        run.assert_no_files(&format!("at {point:?}"));
    }
}

#[test]
fn an_emulated_wan_needs_namespaces_and_words_that_it_knows() {
    let mut run = Run::start(&["--wan", "50ms", "--loopback"]);
    let ended = run.wait();
    assert!(ended.code == Some(2) && ended.stderr.contains("cannot be used with '--loopback'"), "{}", ended.stderr);
    let mut run = Run::start(&["--wan", "50"]);
    let ended = run.wait();
    assert!(ended.code == Some(2) && ended.stderr.contains("found \"50\", expected 50ms"), "{}", ended.stderr);
}

#[test]
fn a_whole_run_in_namespaces_is_one_json_object() {
    let mut run = Run::start(&["--seconds", "1", "--output", "json"]);
    let traces = run.reach("gateways");
    assert_whole(&mut run, "namespaces");
    traces.assert_none("a whole run");
    run.assert_no_files("a whole run");
}

#[test]
fn a_whole_run_on_loopback_is_one_json_object() {
    let mut run = unprivileged(&["--loopback", "--seconds", "1", "--output", "json"]);
    let traces = run.reach("gateways");
    assert_whole(&mut run, "loopback");
    traces.assert_none("a whole run");
    run.assert_no_files("a whole run");
}

fn assert_whole(run: &mut Run, mode: &str) -> Value {
    let ended = run.wait();
    let report: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {:?}\n{}", ended.stdout, ended.stderr));
    assert_eq!((&report["ok"], ended.code), (&Value::Bool(true), Some(0)), "{report:#}\n{}", ended.stderr);
    assert_eq!((&report["mode"], &report["unexpected"]), (&Value::from(mode), &Value::from(0)));
    assert_eq!(report["throughput"].as_array().map(Vec::len), Some(4));
    for measurement in report["throughput"].as_array().into_iter().flatten() {
        assert!(measurement["requests"].as_u64() > Some(0), "{measurement}");
    }
    assert_eq!(report["endpoint_killed"]["answered"].as_object().map(serde_json::Map::len), Some(2), "{report:#}");
    assert!(report["link_cut"]["recovery_ms"].as_f64() > Some(0.0), "{report:#}");
    assert!(report["link_cut"]["failed"].as_u64() > Some(0), "a cut that nobody notices is none: {report:#}");
    report
}
