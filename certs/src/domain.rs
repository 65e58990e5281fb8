//! Trust domains: each cluster is one, named `<cluster>.<clusterset>`.

use crate::SpiffeId;
use isthmus_control_api::{ClusterName, ClustersetName, ServiceAccount};
use std::{fmt, str::FromStr};

/// The path of every gateway's SPIFFE id.
pub const GATEWAY_PATH: &str = "/ns/isthmus-system/sa/gateway";
/// The path of every control's SPIFFE id.
pub const CONTROL_PATH: &str = "/ns/isthmus-system/sa/control";

/// What a process of ours is in its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// It carries streams. Peers know it.
    #[default]
    Gateway,
    /// It tells the cluster's own gateways what to do. Nobody else has to do with it.
    Control,
}

impl Role {
    /// The path of its SPIFFE id.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Gateway => GATEWAY_PATH,
            Self::Control => CONTROL_PATH,
        }
    }

    /// The role, for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Control => "control",
        }
    }
}

/// A cluster's trust domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain {
    /// The cluster, the first label.
    pub cluster: ClusterName,
    /// The clusterset, all other labels.
    pub clusterset: ClustersetName,
}

/// The text names no trust domain of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a cluster's trust domain: it has to be <cluster>.<clusterset>")]
pub struct InvalidTrustDomain {
    /// What was found, cut to 200 characters.
    pub found: String,
}

impl TrustDomain {
    /// The trust domain of `cluster` in `clusterset`.
    pub fn new(cluster: ClusterName, clusterset: ClustersetName) -> Self {
        Self { cluster, clusterset }
    }

    /// The trust domain of a peer in the same clusterset.
    pub fn sibling(&self, cluster: &ClusterName) -> Self {
        Self { cluster: cluster.clone(), clusterset: self.clusterset.clone() }
    }

    /// The id of the trust domain itself: its CA's.
    pub fn id(&self) -> SpiffeId {
        SpiffeId::join(&self.to_string(), "")
    }

    /// The id of the cluster's gateways.
    pub fn gateway(&self) -> SpiffeId {
        self.process(Role::Gateway)
    }

    /// The id of the cluster's processes of that role.
    pub fn process(&self, role: Role) -> SpiffeId {
        SpiffeId::join(&self.to_string(), role.path())
    }

    /// The id of the cluster's workloads that act as `account`.
    pub fn account(&self, account: &ServiceAccount) -> SpiffeId {
        SpiffeId::join(&self.to_string(), &format!("/ns/{}/sa/{}", account.namespace(), account.name()))
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidTrustDomain;

    fn from_str(s: &str) -> Result<Self, InvalidTrustDomain> {
        let parse = || {
            let (cluster, clusterset) = s.split_once('.')?;
            Some(Self { cluster: cluster.parse().ok()?, clusterset: clusterset.parse().ok()? })
        };
        parse().ok_or_else(|| InvalidTrustDomain { found: s.chars().take(200).collect() })
    }
}

impl TryFrom<&SpiffeId> for TrustDomain {
    type Error = InvalidTrustDomain;

    fn try_from(id: &SpiffeId) -> Result<Self, InvalidTrustDomain> {
        id.trust_domain().parse()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.cluster, self.clusterset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_domain_is_its_names(cluster in "[a-z0-9]{1,63}", set in "[a-z0-9]{1,63}(\\.[a-z0-9]{1,60}){0,2}") {
            let domain: TrustDomain = format!("{cluster}.{set}").parse().unwrap();
            prop_assert_eq!(domain.cluster.as_str(), cluster);
            prop_assert_eq!(domain.clusterset.as_str(), set);
            prop_assert_eq!(&TrustDomain::try_from(&domain.gateway()).unwrap(), &domain);
            prop_assert_eq!(&TrustDomain::try_from(&domain.id()).unwrap(), &domain);
        }
    }

    #[test]
    fn one_label_is_no_domain_of_a_cluster() {
        for bad in ["west", "", ".demo", "west.", "we_st.demo"] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_of_a_cluster() {
        let domain: TrustDomain = "west.demo".parse().unwrap();
        assert_eq!(domain.id().as_str(), "spiffe://west.demo");
        assert_eq!(domain.gateway().as_str(), "spiffe://west.demo/ns/isthmus-system/sa/gateway");
        assert_eq!(domain.process(Role::Control).as_str(), "spiffe://west.demo/ns/isthmus-system/sa/control");
        let account = domain.account(&"shop/web.v2".parse().unwrap());
        assert_eq!(account.as_str(), "spiffe://west.demo/ns/shop/sa/web.v2");
    }
}
