//! ● What there is to answer about.

use hickory_proto::rr::Name;
use isthmus_control_api::{ClusterName, Protocol, ServiceName};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// How long an answer may be kept, in seconds, where nothing else is said.
const TTL: u32 = 5;

/// All names of a clusterset's domain, at one moment.
#[derive(Debug, Clone)]
pub struct Zone {
    pub(crate) domain: Name,
    /// Seconds.
    pub(crate) ttl: u32,
    /// `None`: nobody has said yet what there is.
    pub(crate) services: Option<Arc<BTreeMap<ServiceName, Service>>>,
    pub(crate) namespaces: BTreeSet<Box<str>>,
}

/// A service that is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its ports. One without a name has no `SRV` record of its own.
    pub ports: Vec<Port>,
    /// Where it is.
    pub addresses: Addresses,
}

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// Behind addresses of its own, one for each IP family; none while none is assigned yet.
    ClusterSetIp(Vec<IpAddr>),
    /// At its ready endpoints.
    Headless(Vec<Endpoint>),
}

/// A ready endpoint of a headless service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name among those of its cluster: a DNS label.
    pub hostname: String,
    /// Which cluster it is in.
    pub cluster: ClusterName,
    /// Where clients of this cluster reach it.
    pub addresses: Vec<IpAddr>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// A DNS label, if it has a name.
    pub name: Option<String>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub number: u16,
}

/// A domain that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{found:?} is not a DNS domain, as \"clusterset.local\" is")]
pub struct InvalidDomain {
    found: String,
}

impl Zone {
    /// The zone of `domain` (`clusterset.local`) before anything is known of it: every query is answered with SERVFAIL, for to say
    /// that a name does not exist would be kept by whoever asks.
    ///
    /// # Errors
    /// The domain is none.
    pub fn unknown(domain: &str) -> Result<Self, InvalidDomain> {
        let invalid = || InvalidDomain { found: domain.to_owned() };
        let mut name = Name::from_ascii(domain).map_err(|_| invalid())?.to_lowercase();
        name.set_fqdn(true);
        // What is put in front of it: a port, a protocol or a host and its cluster, a service, its namespace, `svc`.
        if name.is_root() || name.len() > 63 {
            return Err(invalid());
        }
        Ok(Self { domain: name, ttl: TTL, services: None, namespaces: BTreeSet::new() })
    }

    /// The same domain with exactly these services.
    #[must_use]
    pub fn with(&self, services: Arc<BTreeMap<ServiceName, Service>>) -> Self {
        let mut namespaces: BTreeSet<Box<str>> = BTreeSet::new();
        for name in services.keys() {
            if !namespaces.contains(name.namespace()) {
                namespaces.insert(name.namespace().into());
            }
        }
        Self { services: Some(services), namespaces, ..self.clone() }
    }

    /// With one service changed, or gone. It has to be known what there is.
    #[must_use]
    pub fn with_one(&self, name: ServiceName, service: Option<Service>) -> Self {
        let mut services = self.services.as_deref().cloned().unwrap_or_default();
        match service {
            Some(service) => drop(services.insert(name, service)),
            None => drop(services.remove(&name)),
        }
        self.with(Arc::new(services))
    }

    /// What it has of a service.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.as_ref()?.get(name)
    }

    /// Whether it has exactly these services.
    pub fn has(&self, services: &BTreeMap<ServiceName, Service>) -> bool {
        self.services.as_deref() == Some(services)
    }

    /// Another time that answers may be kept for, in seconds.
    #[must_use]
    pub fn with_ttl(self, ttl: u32) -> Self {
        Self { ttl, ..self }
    }

    /// Whether it is known what there is.
    pub fn is_known(&self) -> bool {
        self.services.is_some()
    }
}
