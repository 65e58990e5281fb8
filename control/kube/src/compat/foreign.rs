//! ● The kinds of other systems that are watched, each only if its system is asked for.

use super::Systems;
use isthmus_control::System;
use kube::{
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use serde_json::Value;
use std::fmt;

/// A kind that is none of Kubernetes', the MCS API's or ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForeignKind {
    /// GKE's ServiceExport.
    GkeExport,
    /// Istio's DestinationRule.
    DestinationRule,
    /// Skupper's Listener.
    Listener,
    /// Skupper's Connector.
    Connector,
    /// ExternalDNS' DNSEndpoint, which is written.
    DnsEndpoint,
}

impl ForeignKind {
    /// Those that are watched for `systems`, and for ExternalDNS.
    pub fn of(systems: &Systems, external_dns: bool) -> Vec<Self> {
        let of = |system: &System| -> &'static [Self] {
            match system {
                System::Gke => &[Self::GkeExport],
                System::Istio => &[Self::DestinationRule],
                System::Skupper => &[Self::Listener, Self::Connector],
                System::Cilium | System::Linkerd | System::Submariner => &[],
            }
        };
        let mut kinds: Vec<_> = systems.iter().flat_map(of).copied().collect();
        kinds.extend(external_dns.then_some(Self::DnsEndpoint));
        kinds
    }

    /// As the API server has it. Of Istio the version that all its releases serve.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind) = match self {
            Self::GkeExport => ("net.gke.io", "v1", "ServiceExport"),
            Self::DestinationRule => ("networking.istio.io", "v1beta1", "DestinationRule"),
            Self::Listener => ("skupper.io", "v2alpha1", "Listener"),
            Self::Connector => ("skupper.io", "v2alpha1", "Connector"),
            Self::DnsEndpoint => ("externaldns.k8s.io", "v1alpha1", "DNSEndpoint"),
        };
        let plural = self.name().split('.').next().unwrap_or_default();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    /// What people call it: `plural.group`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GkeExport => "serviceexports.net.gke.io",
            Self::DestinationRule => "destinationrules.networking.istio.io",
            Self::Listener => "listeners.skupper.io",
            Self::Connector => "connectors.skupper.io",
            Self::DnsEndpoint => "dnsendpoints.externaldns.k8s.io",
        }
    }

    /// Its kind and group, as messages about an object of it begin.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::GkeExport => "ServiceExport.net.gke.io",
            Self::DestinationRule => "DestinationRule",
            Self::Listener => "Listener",
            Self::Connector => "Connector",
            Self::DnsEndpoint => "DNSEndpoint",
        }
    }
}

impl fmt::Display for ForeignKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// The text at a JSON pointer of an object.
pub(super) fn text<'a>(object: &'a DynamicObject, at: &str) -> Option<&'a str> {
    object.data.pointer(at).and_then(Value::as_str)
}

/// Whether the field at a JSON pointer says yes.
pub(super) fn flag(object: &DynamicObject, at: &str) -> bool {
    object.data.pointer(at).and_then(Value::as_bool).unwrap_or_default()
}

/// The port number at a JSON pointer.
///
/// # Errors
/// There is none.
pub(super) fn port(object: &DynamicObject, at: &str) -> Result<u16, String> {
    let found = object.data.pointer(at);
    let port = found.and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let field = at.trim_start_matches('/').replace('/', ".");
    port.ok_or_else(|| {
        let found = found.map_or_else(|| "nothing".into(), Value::to_string);
        format!("{field}: found {found}, expected a port number, 1 to 65535")
    })
}
