//! Names: clusterset, cluster, service. Each is checked once, where it enters.

use crate::ServerName;
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

/// A name that does not fit the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {expected}")]
pub struct InvalidName {
    /// What was found.
    pub found: String,
    /// What was expected, as a noun phrase.
    pub expected: &'static str,
}

/// A cluster's id within its clusterset: a DNS label (RFC 1123), 1 to 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(Arc<str>);

/// A clusterset's name: one or more DNS labels joined by dots, at most 189 bytes, so that
/// `<cluster>.<clusterset>` stays within a trust domain's 255 (SPIFFE-ID section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClustersetName(Arc<str>);

/// `namespace/name` of a service, each a DNS label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    text: Arc<str>,
    slash: u8,
}

/// A service and one of its ports: what a stream asks for. The same number may be two ports, one of each protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// The service.
    pub service: ServiceName,
    /// The service's port (not the endpoint's), 1 to 65535.
    pub port: u16,
    /// What is spoken on it.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
}

/// What a port carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// Where local clients find a service. TCP and UDP have ports of their own; services that TLS clients ask for by name can share one of
/// TCP. As text `ip:port`, with `/udp` behind it for UDP, or `/tls/<name>` for a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Listen {
    /// The address; its host may be the unspecified one.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// What clients ask for in their TLS; `None`: all of them, or all others.
    pub server_name: Option<ServerName>,
}

impl Protocol {
    /// The name, as configurations have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Whether it is TCP.
    pub const fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp)
    }

    /// What stands behind a port's number, so that TCP's and UDP's are told apart.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Udp => "/udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ServicePort {
    /// A TCP port of a service.
    pub const fn tcp(service: ServiceName, port: u16) -> Self {
        Self { service, port, protocol: Protocol::Tcp }
    }
}

impl Listen {
    /// An address for TCP.
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { address, protocol: Protocol::Tcp, server_name: None }
    }

    /// An address for UDP.
    pub const fn udp(address: SocketAddr) -> Self {
        Self { address, protocol: Protocol::Udp, server_name: None }
    }

    /// An address for those who ask for a name in their TLS.
    pub const fn tls(address: SocketAddr, server_name: ServerName) -> Self {
        Self { address, protocol: Protocol::Tcp, server_name: Some(server_name) }
    }

    /// The same without a name: what a socket is bound to.
    #[must_use]
    pub const fn socket(&self) -> Self {
        Self { address: self.address, protocol: self.protocol, server_name: None }
    }
}

/// What stands between an address and the name that clients ask for there.
const NAME: &str = "/tls/";

impl FromStr for Listen {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let (address, protocol) = match s.strip_suffix(Protocol::Udp.suffix()) {
            Some(address) => (address, Protocol::Udp),
            None => (s, Protocol::Tcp),
        };
        let (address, server_name) = match address.split_once(NAME) {
            Some((address, name)) if protocol.is_tcp() => (address, Some(name.parse()?)),
            _ => (address, None),
        };
        let address = address.parse().map_err(|_| invalid(s, "ip:port, ip:port/udp or ip:port/tls/name"))?;
        Ok(Self { address, protocol, server_name })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, self.protocol.suffix())?;
        self.server_name.as_ref().map_or(Ok(()), |name| write!(f, "{NAME}{name}"))
    }
}

impl TryFrom<String> for Listen {
    type Error = InvalidName;

    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.to_string()
    }
}

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ClustersetName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ServiceName {
    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The namespace's part.
    pub fn namespace(&self) -> &str {
        &self.text[..usize::from(self.slash)]
    }

    /// The service's own part.
    pub fn name(&self) -> &str {
        &self.text[usize::from(self.slash) + 1..]
    }
}

impl FromStr for ClusterName {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        check(
            s,
            is_label(s),
            "a cluster name: 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit",
        )?;
        Ok(Self(s.into()))
    }
}

impl FromStr for ClustersetName {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let fits = s.len() <= 189 && s.split('.').all(is_label);
        check(s, fits, "a clusterset name: DNS labels joined by dots, at most 189 bytes")?;
        Ok(Self(s.into()))
    }
}

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let parts = s.split_once('/').filter(|(namespace, name)| is_label(namespace) && is_label(name));
        check(s, parts.is_some(), "a service: namespace/name, each a DNS label")?;
        let slash = parts.map_or(0, |(namespace, _)| namespace.len());
        // A label has at most 63 bytes.
        Ok(Self { text: s.into(), slash: u8::try_from(slash).unwrap_or(u8::MAX) })
    }
}

macro_rules! text_form {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(s: String) -> Result<Self, InvalidName> {
                s.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().into()
            }
        }
    )*};
}
text_form!(ClusterName, ClustersetName, ServiceName);

/// Which of a cluster's gateways one is: a number that each process draws at its start. Not secret, and proof of nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(pub u64);

impl GatewayId {
    /// One that does not say which it is: HTTP/2 has no place for it, and revision 0 of `isthmus/1` had none.
    pub const UNKNOWN: Self = Self(0);

    /// Whether it says which it is.
    pub fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.service, self.port, self.protocol.suffix())
    }
}

pub(crate) fn check(found: &str, fits: bool, expected: &'static str) -> Result<(), InvalidName> {
    if fits { Ok(()) } else { Err(invalid(found, expected)) }
}

pub(crate) fn invalid(found: &str, expected: &'static str) -> InvalidName {
    InvalidName { found: found.chars().take(80).collect(), expected }
}

/// A DNS label as RFC 1123 section 2.1 allows it, lower case only, as Kubernetes has it.
pub(crate) fn is_label(s: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&s.len()) && s.bytes().all(inner) && !s.starts_with('-') && !s.ends_with('-')
}

/// A DNS subdomain as Kubernetes has it: labels joined by dots, at most 253 bytes.
pub(crate) fn is_subdomain(s: &str) -> bool {
    s.len() <= 253 && s.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_service_name_is_its_two_parts(ns in "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", name in "[a-z0-9]{1,63}") {
            let service: ServiceName = format!("{ns}/{name}").parse().unwrap();
            prop_assert_eq!(service.namespace(), ns);
            prop_assert_eq!(service.name(), name);
        }

        #[test]
        fn no_text_panics(s in ".{0,300}") {
            let _ = s.parse::<ServiceName>();
            let _ = s.parse::<ClusterName>();
            let _ = s.parse::<ClustersetName>();
        }
    }

    #[test]
    fn a_port_says_its_protocol_unless_it_is_tcp() {
        let tcp = ServicePort::tcp("shop/dns".parse().unwrap(), 53);
        let udp = ServicePort { protocol: Protocol::Udp, ..tcp.clone() };
        assert_eq!((tcp.to_string(), udp.to_string()), ("shop/dns:53".into(), "shop/dns:53/udp".into()));
        for text in ["127.0.0.1:53", "[::1]:53/udp", "[::]:443/tls/*.example"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "127.0.0.1",
            "127.0.0.1:53/tcp",
            "127.0.0.1:53/udp/udp",
            "/udp",
            "127.0.0.1:53/tls/",
            "127.0.0.1:53/tls/a/udp",
        ] {
            assert!(bad.parse::<Listen>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bad_names_are_refused_with_what_was_expected() {
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
        }
        let refused = "shop".parse::<ServiceName>().unwrap_err().to_string();
        assert_eq!(refused, "\"shop\" is not a service: namespace/name, each a DNS label");
    }
}
