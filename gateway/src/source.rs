//! ● Whose the addresses of local clients are, as the table says.

use isthmus_certs::{SpiffeId, TrustDomain};
use isthmus_control_api::{Cidr, PodName, Prefixes, ServiceAccount, Workload};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// Workloads by their addresses.
#[derive(Debug, Default)]
pub(crate) struct KnownSources {
    /// What it was made of.
    source: BTreeMap<Cidr, Arc<Workload>>,
    by_address: Prefixes<Option<KnownSource>>,
}

/// A workload, as peers are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownSource {
    /// Its service account.
    pub(crate) id: SpiffeId,
    /// Which pod it is, if that is known.
    pub(crate) pod: Option<PodName>,
}

impl KnownSources {
    /// Makes it quick to ask. The ids are of this cluster's own `domain`.
    pub(crate) fn new(domain: &TrustDomain, source: &BTreeMap<Cidr, Arc<Workload>>) -> Self {
        let mut ids = HashMap::<&ServiceAccount, SpiffeId>::new();
        let by_address = source.iter().map(|(&cidr, workload)| {
            let Workload { account, pod } = &**workload;
            let id = ids.entry(account).or_insert_with(|| domain.account(account)).clone();
            (cidr, Some(KnownSource { id, pod: pod.clone() }))
        });
        Self { by_address: by_address.collect(), source: source.clone() }
    }

    /// What it was made of.
    pub(crate) fn source(&self) -> &BTreeMap<Cidr, Arc<Workload>> {
        &self.source
    }

    /// Whose an address is: by the smallest network that it is in.
    pub(crate) fn of(&self, address: IpAddr) -> Option<&KnownSource> {
        self.by_address.of(address).flatten().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_network_says_whose_an_address_is() {
        let workload = |account: &str, pod: Option<&str>| {
            Arc::new(Workload { account: account.parse().unwrap(), pod: pod.map(|pod| pod.parse().unwrap()) })
        };
        let source = [
            ("10.0.0.0/8".parse().unwrap(), workload("shop/web", None)),
            ("10.0.1.9/32".parse().unwrap(), workload("bank/job", Some("job-0"))),
        ];
        let known = KnownSources::new(&"west.demo".parse().unwrap(), &source.into());
        let of = |address: &str| known.of(address.parse().unwrap()).map(|of| (of.id.to_string(), of.pod.clone()));
        assert_eq!(of("10.0.1.8"), Some(("spiffe://west.demo/ns/shop/sa/web".into(), None)));
        let job = Some(("spiffe://west.demo/ns/bank/sa/job".into(), Some("job-0".parse().unwrap())));
        assert_eq!(of("::ffff:10.0.1.9"), job);
        assert_eq!(of("192.0.2.1"), None);
    }
}
