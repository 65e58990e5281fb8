//! What a process must be allowed, in every kernel since 5.8, which has these three.

use crate::LoadError;
use rustix::thread::{CapabilitySet, capabilities};

/// A capability and its name.
pub(crate) type Needed = (CapabilitySet, &'static str);

/// Programs at all.
const BPF: Needed = (CapabilitySet::BPF, "CAP_BPF");
/// Programs about networks.
const NET_ADMIN: Needed = (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN");
/// Reading the fields of a socket.
const PERFMON: Needed = (CapabilitySet::PERFMON, "CAP_PERFMON");

/// What the local hop needs.
pub(crate) const LOCAL_HOP: [Needed; 3] = [BPF, NET_ADMIN, PERFMON];
/// What the shared listener needs.
pub(crate) const SHARED_LISTENER: [Needed; 2] = [BPF, NET_ADMIN];

/// Whether this thread has all of these. Where that cannot be found out, the kernel will say it.
///
/// # Errors
/// [`LoadError::Lacks`].
pub(crate) fn check(needed: &[Needed]) -> Result<(), LoadError> {
    let lacking = capabilities(None).map_or_else(|_| Vec::new(), |sets| lacking_of(sets.effective, needed));
    if lacking.is_empty() { Ok(()) } else { Err(LoadError::Lacks(lacking)) }
}

fn lacking_of(has: CapabilitySet, needed: &[Needed]) -> Vec<&'static str> {
    let has = |needed: CapabilitySet| {
        // The one that holds for most others.
        has.contains(needed) || needed != CapabilitySet::NET_ADMIN && has.contains(CapabilitySet::SYS_ADMIN)
    };
    needed.iter().filter(|(needed, _)| !has(*needed)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named() {
        assert_eq!(lacking_of(CapabilitySet::empty(), &LOCAL_HOP), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(lacking_of(CapabilitySet::SYS_ADMIN, &LOCAL_HOP), ["CAP_NET_ADMIN"]);
        assert!(lacking_of(CapabilitySet::all(), &LOCAL_HOP).is_empty());
        assert_eq!(lacking_of(CapabilitySet::PERFMON, &SHARED_LISTENER), ["CAP_BPF", "CAP_NET_ADMIN"]);
    }
}
