//! Access policies: who may use which services. What they mean is in docs/policy.md; the gateway decides by them.

use crate::{Cidr, ClusterName, InvalidName, Protocol, ServiceAccount, ServiceName, ServicePort, names};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

/// Policies that a table has at most.
pub const MOST_POLICIES: usize = 1_000;
/// Rules of all of them together.
pub const MOST_RULES: usize = 10_000;
/// The name of what decides where a policy selects a service and no rule is for the source.
pub const DEFAULT_RULE: &str = "default";

/// Who may use the services that it selects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessPolicy {
    /// What it is for; nothing if there is none.
    pub services: BTreeSet<Services>,
    /// On which ports of these; none: on all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ports: BTreeSet<PortMatch>,
    /// Whether it only says what it would do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// In the order in which they are written, which names the one that counts where several say the same.
    pub rules: Vec<Rule>,
}

/// What becomes of streams from certain sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique in its policy.
    pub name: RuleName,
    /// What.
    pub action: Action,
    /// Whose: those that any of these is for. None: everybody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<SourceMatch>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The stream may be opened, unless another rule denies it.
    #[default]
    Allow,
    /// It may not.
    Deny,
}

/// A choice of sources: those that all of what is stated fits. What is empty is not stated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SourceMatch {
    /// They come from one of these.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub clusters: BTreeSet<ClusterName>,
    /// They are in one of these namespaces.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub namespaces: BTreeSet<Arc<str>>,
    /// They act as one of these.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub service_accounts: BTreeSet<ServiceAccount>,
    /// Their address, as their own gateway saw it, is in one of these.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub cidrs: BTreeSet<Cidr>,
}

/// A choice of services: `*`, `namespace/*` or `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Services {
    /// All.
    All,
    /// Those of a namespace.
    Namespace(Arc<str>),
    /// One.
    One(ServiceName),
}

/// A choice of ports: `80` for both protocols, `80/tcp` or `80/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortMatch {
    /// The service's port, 1 to 65535.
    pub port: u16,
    /// Of which protocol; `None`: of both.
    pub protocol: Option<Protocol>,
}

/// A policy's name: a DNS subdomain, or `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyName(Arc<str>);

/// A rule's name: a DNS label other than [`DEFAULT_RULE`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleName(Arc<str>);

impl AccessPolicy {
    /// Whether it has something to say of streams to `service`.
    pub fn selects(&self, service: &ServicePort) -> bool {
        let of_port = self.ports.is_empty() || self.ports.iter().any(|port| port.contains(service));
        of_port && self.services.iter().any(|services| services.contains(&service.service))
    }
}

impl SourceMatch {
    /// Whether nothing is stated.
    pub fn is_empty(&self) -> bool {
        let Self { clusters, namespaces, service_accounts, cidrs } = self;
        clusters.is_empty() && namespaces.is_empty() && service_accounts.is_empty() && cidrs.is_empty()
    }
}

impl Services {
    /// Whether `service` is one of them.
    pub fn contains(&self, service: &ServiceName) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => **namespace == *service.namespace(),
            Self::One(one) => one == service,
        }
    }
}

impl PortMatch {
    /// Whether the service's port is meant.
    pub fn contains(&self, service: &ServicePort) -> bool {
        self.port == service.port && self.protocol.is_none_or(|protocol| protocol == service.protocol)
    }
}

impl PolicyName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RuleName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Services {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let expected = "a choice of services: *, namespace/* or namespace/name";
        match s.strip_suffix("/*") {
            _ if s == "*" => Ok(Self::All),
            Some(namespace) if names::is_label(namespace) => Ok(Self::Namespace(namespace.into())),
            Some(_) => Err(names::invalid(s, expected)),
            None => s.parse().map(Self::One).map_err(|_| names::invalid(s, expected)),
        }
    }
}

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Namespace(namespace) => write!(f, "{namespace}/*"),
            Self::One(service) => service.fmt(f),
        }
    }
}

impl FromStr for PortMatch {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let (number, protocol) = match s.split_once('/') {
            None => (s, None),
            Some((number, "tcp")) => (number, Some(Protocol::Tcp)),
            Some((number, "udp")) => (number, Some(Protocol::Udp)),
            Some(_) => ("", None),
        };
        let port = number.parse().ok().filter(|&port| port != 0);
        let port = port.ok_or_else(|| names::invalid(s, "a port, 1 to 65535, alone or with /tcp or /udp behind it"))?;
        Ok(Self { port, protocol })
    }
}

impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            None => write!(f, "{}", self.port),
            Some(Protocol::Tcp) => write!(f, "{}/tcp", self.port),
            Some(Protocol::Udp) => write!(f, "{}/udp", self.port),
        }
    }
}

impl FromStr for PolicyName {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let (namespace, name) = s.split_once('/').map_or((None, s), |(namespace, name)| (Some(namespace), name));
        let fits = namespace.is_none_or(names::is_label) && names::is_subdomain(name);
        names::check(s, fits, "a policy's name: a DNS subdomain, alone or behind a namespace")?;
        Ok(Self(s.into()))
    }
}

impl FromStr for RuleName {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        names::check(s, names::is_label(s) && s != DEFAULT_RULE, "a rule's name: a DNS label other than default")?;
        Ok(Self(s.into()))
    }
}

impl FromStr for Action {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        match s {
            "allow" => Ok(Self::Allow),
            "deny" => Ok(Self::Deny),
            _ => Err(names::invalid(s, "allow or deny")),
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! text_form {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(s: String) -> Result<Self, InvalidName> {
                s.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}
text_form!(Services, PortMatch, PolicyName, RuleName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn choices_of_services() {
        let api: ServiceName = "shop/api".parse().unwrap();
        for (text, contains) in [
            ("*", true),
            ("shop/*", true),
            ("shop/api", true),
            ("shop/db", false),
            ("bank/*", false),
            ("shopping/*", false),
        ] {
            let services: Services = text.parse().unwrap();
            assert_eq!((services.contains(&api), services.to_string()), (contains, text.to_owned()));
        }
        for bad in ["", "shop", "*/api", "*/*", "shop/a*", "/*", "Shop/*"] {
            assert!(bad.parse::<Services>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_port_without_a_protocol_is_of_both() {
        let tcp = ServicePort::tcp("shop/dns".parse().unwrap(), 53);
        let udp = ServicePort { protocol: Protocol::Udp, ..tcp.clone() };
        for (text, of_tcp, of_udp) in
            [("53", true, true), ("53/tcp", true, false), ("53/udp", false, true), ("54", false, false)]
        {
            let port: PortMatch = text.parse().unwrap();
            assert_eq!((port.contains(&tcp), port.contains(&udp), port.to_string()), (of_tcp, of_udp, text.to_owned()));
        }
        for bad in ["", "0", "65536", "53/sctp", "53/", "/udp", "http"] {
            assert!(bad.parse::<PortMatch>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_of_policies_and_rules() {
        assert!("shop/callers".parse::<PolicyName>().is_ok() && "callers.v1".parse::<PolicyName>().is_ok());
        for bad in ["", "a/b/c", "a:b", "A"] {
            assert!(bad.parse::<PolicyName>().is_err(), "{bad:?}");
        }
        assert!("web".parse::<RuleName>().is_ok() && DEFAULT_RULE.parse::<RuleName>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}|[a-z0-9*/]{0,20}") {
            let _ = (text.parse::<Services>(), text.parse::<PortMatch>(), text.parse::<PolicyName>());
        }
    }
}
