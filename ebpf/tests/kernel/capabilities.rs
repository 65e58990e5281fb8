//! Which capabilities it takes: all others dropped it loads and works, without any of the three it says so.

use crate::{namespaces::inside, programs, selftest, shared_listener::Shared};
use isthmus_ebpf::{LoadError, Programs, SharedListener, cgroup_root};
use rustix::{
    process::{Resource, Rlimit, setrlimit},
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use std::process::Command;

const NEEDED_TO_SHARE: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN);
const NEEDED: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::PERFMON);

#[test]
fn three_are_enough() {
    in_a_process("three_are_enough", || with(NEEDED, || selftest::passes(&programs()).unwrap()));
}

#[test]
fn cap_bpf_is_needed() {
    in_a_process("cap_bpf_is_needed", || refused_without(CapabilitySet::BPF, "CAP_BPF"));
}

#[test]
fn cap_net_admin_is_needed() {
    in_a_process("cap_net_admin_is_needed", || refused_without(CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"));
}

#[test]
fn cap_perfmon_is_needed() {
    in_a_process("cap_perfmon_is_needed", || refused_without(CapabilitySet::PERFMON, "CAP_PERFMON"));
}

#[test]
fn two_are_enough_for_the_shared_listener() {
    in_a_process("two_are_enough_for_the_shared_listener", || {
        inside(|| with(NEEDED_TO_SHARE, || drop(Shared::start(2))));
    });
}

#[test]
fn the_shared_listener_says_which_it_lacks() {
    in_a_process("the_shared_listener_says_which_it_lacks", || {
        for (missing, name) in [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")] {
            let error = with(NEEDED_TO_SHARE.difference(missing), || SharedListener::load(&[], &[])).unwrap_err();
            assert!(matches!(&error, LoadError::Lacks(lacking) if lacking == &[name]), "{error}");
        }
    });
}

fn refused_without(missing: CapabilitySet, name: &str) {
    let error = with(NEEDED.difference(missing), || Programs::load(&cgroup_root().unwrap())).unwrap_err();
    assert!(matches!(&error, LoadError::Lacks(lacking) if lacking == &[name]), "{error}");
}

/// Runs `job` on a thread that has these capabilities and no others.
fn with<T: Send>(set: CapabilitySet, job: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
            set_capabilities(None, sets).unwrap();
            job()
        });
        thread.join().unwrap()
    })
}

/// Runs `job`, the body of the test `name`, in a process of its own: what the kernel can do is found out once for a process, by whoever
/// asks first, with the capabilities that he has.
fn in_a_process(name: &str, job: impl FnOnce()) {
    const CHILD: &str = "ISTHMUS_TEST_DROPS_CAPABILITIES";
    if std::env::var_os(CHILD).is_some() {
        // Before Linux 5.11 maps are locked memory. Later this changes nothing, and need not be permitted.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        return job();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("capabilities::{name}"), "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
