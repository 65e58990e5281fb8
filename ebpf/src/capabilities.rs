//! What a process must be allowed, in every kernel since 5.8, which has these three.

use rustix::thread::{CapabilitySet, capabilities};

/// Each, and why: programs at all, programs about networks, and reading the two numbers of a socket.
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
];

/// The names of those that this thread lacks. Where that cannot be found out, the kernel will say it.
pub(crate) fn lacking() -> Vec<&'static str> {
    capabilities(None).map_or_else(|_| Vec::new(), |sets| lacking_of(sets.effective))
}

fn lacking_of(has: CapabilitySet) -> Vec<&'static str> {
    let has = |needed: CapabilitySet| {
        // The one that holds for most others.
        has.contains(needed) || needed != CapabilitySet::NET_ADMIN && has.contains(CapabilitySet::SYS_ADMIN)
    };
    NEEDED.iter().filter(|(needed, _)| !has(*needed)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named() {
        assert_eq!(lacking_of(CapabilitySet::empty()), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(lacking_of(CapabilitySet::SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert!(lacking_of(CapabilitySet::all()).is_empty());
    }
}
