//! ● What gateways ask of each other: services of a reserved namespace, which no cluster can export.

use isthmus_control_api::{ClusterName, ServiceName, ServicePort};

/// The namespace. Control refuses to export from it.
pub const NAMESPACE: &str = "isthmus-system";

/// A service that gateways have for each other (docs/wire.md, "Reserved services").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// Control's exchange: `exchange`, port 1.
    Exchange,
    /// To a relay: a way to this cluster. The cluster's name, port 2.
    RelayTo(ClusterName),
    /// From a relay: a way from this cluster. The cluster's name, port 3.
    RelayedFrom(ClusterName),
    /// To whoever is dialled over QUIC: where the datagrams come from. `address`, port 4.
    Address,
    /// Inside a relayed tunnel: shall we try a direct path? `punch`, port 5.
    Punch,
    /// To a peer: what is sent is to come back. `echo`, port 6.
    Echo,
}

impl Reserved {
    /// What a request asks for; `None` if nothing that is known here.
    pub(crate) fn parse(asked: &ServicePort) -> Option<Self> {
        if !asked.protocol.is_tcp() {
            return None;
        }
        let cluster = || asked.service.name().parse().ok();
        match (asked.service.namespace(), asked.service.name(), asked.port) {
            (NAMESPACE, "exchange", 1) => Some(Self::Exchange),
            (NAMESPACE, _, 2) => cluster().map(Self::RelayTo),
            (NAMESPACE, _, 3) => cluster().map(Self::RelayedFrom),
            (NAMESPACE, "address", 4) => Some(Self::Address),
            (NAMESPACE, "punch", 5) => Some(Self::Punch),
            (NAMESPACE, "echo", 6) => Some(Self::Echo),
            _ => None,
        }
    }

    /// What to ask for.
    ///
    /// # Panics
    /// Never: a cluster's name and a service's have the same form, which a test shows.
    #[expect(clippy::expect_used, reason = "a test has parsed all of them")]
    pub(crate) fn service(&self) -> ServicePort {
        let (name, port) = match self {
            Self::Exchange => ("exchange", 1),
            Self::RelayTo(cluster) => (cluster.as_str(), 2),
            Self::RelayedFrom(cluster) => (cluster.as_str(), 3),
            Self::Address => ("address", 4),
            Self::Punch => ("punch", 5),
            Self::Echo => ("echo", 6),
        };
        let service: ServiceName = format!("{NAMESPACE}/{name}").parse().expect("a valid name");
        ServicePort::tcp(service, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_asked_for_is_understood(name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            let cluster: ClusterName = name.parse().unwrap();
            let ways = [Reserved::RelayTo(cluster.clone()), Reserved::RelayedFrom(cluster)];
            for reserved in ways.into_iter().chain([Reserved::Exchange, Reserved::Address, Reserved::Punch, Reserved::Echo]) {
                prop_assert_eq!(Reserved::parse(&reserved.service()), Some(reserved));
            }
        }
    }

    #[test]
    fn other_names_are_nothing() {
        for (service, port) in [("isthmus-system/exchange", 9), ("isthmus-system/east", 1), ("shop/exchange", 1)] {
            assert_eq!(Reserved::parse(&ServicePort::tcp(service.parse().unwrap(), port)), None);
        }
    }
}
