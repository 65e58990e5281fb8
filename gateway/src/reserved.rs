//! ● What gateways ask of each other: services of a reserved namespace, which no cluster can export.

use crate::status::measure::Way;
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
    /// To a peer: a stream of the measurement with this number, of 16 hexadecimal digits. Port 7: the peer sends, port 8: it counts.
    Measure(Way, u64),
}

impl Reserved {
    /// What a request asks for; `None` if nothing that is known here.
    pub(crate) fn parse(asked: &ServicePort) -> Option<Self> {
        if !asked.protocol.is_tcp() {
            return None;
        }
        let cluster = || asked.service.name().parse().ok();
        let number = || u64::from_str_radix(asked.service.name(), 16).ok().filter(|_| asked.service.name().len() == 16);
        match (asked.service.namespace(), asked.service.name(), asked.port) {
            (NAMESPACE, "exchange", 1) => Some(Self::Exchange),
            (NAMESPACE, _, 2) => cluster().map(Self::RelayTo),
            (NAMESPACE, _, 3) => cluster().map(Self::RelayedFrom),
            (NAMESPACE, "address", 4) => Some(Self::Address),
            (NAMESPACE, "punch", 5) => Some(Self::Punch),
            (NAMESPACE, "echo", 6) => Some(Self::Echo),
            (NAMESPACE, _, 7) => number().map(|id| Self::Measure(Way::Down, id)),
            (NAMESPACE, _, 8) => number().map(|id| Self::Measure(Way::Up, id)),
            _ => None,
        }
    }

    /// What to ask for.
    ///
    /// # Panics
    /// Never: a cluster's name and a service's have the same form, which a test shows.
    #[expect(clippy::expect_used, reason = "a test has parsed all of them")]
    pub(crate) fn service(&self) -> ServicePort {
        let number;
        let (name, port) = match self {
            Self::Exchange => ("exchange", 1),
            Self::RelayTo(cluster) => (cluster.as_str(), 2),
            Self::RelayedFrom(cluster) => (cluster.as_str(), 3),
            Self::Address => ("address", 4),
            Self::Punch => ("punch", 5),
            Self::Echo => ("echo", 6),
            Self::Measure(way, id) => {
                number = format!("{id:016x}");
                (&*number, if *way == Way::Down { 7 } else { 8 })
            }
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
        fn what_is_asked_for_is_understood(name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", id: u64) {
            let cluster: ClusterName = name.parse().unwrap();
            let ways = [Reserved::RelayTo(cluster.clone()), Reserved::RelayedFrom(cluster)];
            let measure = [Way::Down, Way::Up].map(|way| Reserved::Measure(way, id));
            let others = [Reserved::Exchange, Reserved::Address, Reserved::Punch, Reserved::Echo];
            for reserved in ways.into_iter().chain(others).chain(measure) {
                prop_assert_eq!(Reserved::parse(&reserved.service()), Some(reserved));
            }
        }
    }

    #[test]
    fn other_names_are_nothing() {
        for (service, port) in [
            ("isthmus-system/exchange", 9),
            ("isthmus-system/east", 1),
            ("shop/exchange", 1),
            ("isthmus-system/east", 7),
            ("isthmus-system/123", 8),
            ("isthmus-system/00000000000000001", 8),
        ] {
            assert_eq!(Reserved::parse(&ServicePort::tcp(service.parse().unwrap(), port)), None);
        }
    }
}
