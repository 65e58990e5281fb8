//! The processes and network namespaces of one demonstration, and whether any of them is left.

use isthmus_tests::eventually;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What a demonstration had made when it was looked at.
pub(crate) struct Traces {
    marker: Vec<u8>,
    namespaces: BTreeSet<PathBuf>,
}

impl Traces {
    /// Finds the processes by their environment, in which `tmp` is like nobody else's.
    pub(crate) fn of(tmp: &Path) -> Self {
        let marker = format!("TMPDIR={}\0", tmp.display()).into_bytes();
        let processes = processes_of(&marker);
        assert!(!processes.is_empty(), "the demonstration is running");
        let own = fs::read_link("/proc/self/ns/net").expect("our own namespace");
        let mut namespaces: BTreeSet<_> = processes.iter().flat_map(|pid| namespaces_of(*pid)).collect();
        namespaces.remove(&own);
        Self { marker, namespaces }
    }

    /// Asserts that neither a process is left nor a namespace. A killed process is gone soon, not at once.
    pub(crate) fn assert_none(&self, when: &str) {
        eventually(&format!("nothing is left: {when}"), || {
            let processes = processes_of(&self.marker);
            if !processes.is_empty() {
                return Err(format!("processes {processes:?}"));
            }
            let used: Vec<_> =
                all().filter(|pid| namespaces_of(*pid).iter().any(|ns| self.namespaces.contains(ns))).collect();
            if !used.is_empty() {
                return Err(format!("its namespaces have the processes {used:?}"));
            }
            Ok(())
        });
        // A namespace without processes lives on only if it is mounted somewhere, as `ip netns add` does.
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("our own mounts");
        for namespace in &self.namespaces {
            assert!(
                !mounts.contains(&format!(" {} ", namespace.display())),
                "{when}: {} is mounted",
                namespace.display()
            );
        }
    }

    /// SIGKILL for one of the processes: the first with `words` in its command line.
    pub(crate) fn kill(&self, words: &str) {
        let with_words = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
        };
        let pid = processes_of(&self.marker).into_iter().find(with_words).and_then(Pid::from_raw);
        kill_process(pid.unwrap_or_else(|| panic!("no process has {words:?}")), Signal::KILL).expect("it is running");
    }
}

/// All threads' namespaces: a thread can have left its process's.
fn namespaces_of(pid: i32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| fs::read_link(task.path().join("ns/net")).ok()).collect()
}

fn processes_of(marker: &[u8]) -> Vec<i32> {
    let has_marker = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(marker.len()).any(|window| window == marker)
    };
    all().filter(has_marker).collect()
}

fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
