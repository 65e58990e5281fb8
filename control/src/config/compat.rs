//! The systems whose manifests are understood beside our own.

use std::{fmt, str::FromStr};

/// A system whose users' manifests are taken as they are, if it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    /// Cilium: annotations of Services and Namespaces.
    Cilium,
    /// GKE: `net.gke.io` ServiceExports.
    Gke,
    /// Istio: labels of Services, DestinationRules.
    Istio,
    /// Linkerd: labels of Services.
    Linkerd,
    /// Skupper: Listeners and Connectors.
    Skupper,
    /// Submariner: annotations of ServiceExports.
    Submariner,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Cilium, Self::Gke, Self::Istio, Self::Linkerd, Self::Skupper, Self::Submariner];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cilium => "cilium",
            Self::Gke => "gke",
            Self::Istio => "istio",
            Self::Linkerd => "linkerd",
            Self::Skupper => "skupper",
            Self::Submariner => "submariner",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no system's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected {KNOWN}")]
pub struct UnknownSystem {
    /// The name, or its beginning.
    pub found: String,
}

/// The names of all systems, for people.
pub const KNOWN: &str = "cilium, gke, istio, linkerd, skupper or submariner";

impl FromStr for System {
    type Err = UnknownSystem;

    fn from_str(name: &str) -> Result<Self, UnknownSystem> {
        let unknown = || UnknownSystem { found: name.chars().take(80).collect() };
        Self::ALL.into_iter().find(|system| system.as_str() == name).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_and_no_other() {
        for system in System::ALL {
            assert_eq!(system.to_string().parse(), Ok(system));
            assert!(KNOWN.contains(system.as_str()));
        }
        let error = "consul".parse::<System>().unwrap_err().to_string();
        assert_eq!(error, "found \"consul\", expected cilium, gke, istio, linkerd, skupper or submariner");
    }
}
