//! What is left when the programs go, whether they are unloaded or their process is killed.

use crate::{
    connection::{Ours, Pattern, connect, joined},
    programs,
};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What was queued arrives, and the connection goes on, both ways.
#[test]
fn a_connection_outlives_the_programs() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = connect(&programs, &listener, Ours::Client);
    assert_eq!(joined(&programs, &pair), (true, true));
    let (mut sent, mut received) = (Pattern::new(1), Pattern::new(1));
    sent.write(&pair.0, 400_000, 10_000);
    drop(programs);
    sent.write(&pair.0, 400_000, 10_000);
    received.read(&pair.1, 800_000, 30_000);
    let mut back = Pattern::new(2);
    Pattern::new(2).write(&pair.1, 100_000, 10_000);
    back.read(&pair.0, 100_000, 30_000);
}

/// Nothing is pinned: with the process, the programs are gone.
#[test]
fn a_killed_process_leaves_nothing_behind() {
    const CHILD: &str = "ISTHMUS_TEST_HOLDS_PROGRAMS";
    if std::env::var_os(CHILD).is_some() {
        let _programs = programs();
        println!("loaded");
        loop {
            std::thread::park();
        }
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "unloading::a_killed_process_leaves_nothing_behind", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("loaded")), "the child loads the programs");
    let held = programs_of(child.id());
    assert_eq!(held.len(), 3, "{held:?}");
    assert!(held.is_subset(&all_programs()));
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel takes them away when nobody can be running them any more.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !held.is_disjoint(&all_programs()) {
        assert!(Instant::now() < deadline, "{held:?} are still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn all_programs() -> BTreeSet<u32> {
    aya::programs::loaded_programs().filter_map(|program| Some(program.ok()?.id())).collect()
}

/// The programs that a process has descriptors of.
pub(crate) fn programs_of(process: u32) -> BTreeSet<u32> {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fdinfo")).unwrap();
    let texts = descriptors.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    let ids = texts.filter_map(|text| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()));
    ids.collect()
}
