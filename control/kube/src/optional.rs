//! ● Kinds that an API server need not have: those of other systems, watched only if their system is asked for, and our policies.

use crate::compat::Systems;
use isthmus_control::System;
use kube::{api::ApiResource, core::GroupVersionKind};
use std::fmt;

/// A kind without which everything works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OptionalKind {
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
    /// Our ServicePolicy.
    ServicePolicy,
    /// Our AccessPolicy.
    AccessPolicy,
}

impl OptionalKind {
    /// Those that are watched: ours, those for `systems`, and ExternalDNS' where it is used.
    pub fn of(systems: &Systems, external_dns: bool) -> Vec<Self> {
        let of = |system: &System| -> &'static [Self] {
            match system {
                System::Gke => &[Self::GkeExport],
                System::Istio => &[Self::DestinationRule],
                System::Skupper => &[Self::Listener, Self::Connector],
                System::Cilium | System::Linkerd | System::Submariner => &[],
            }
        };
        let mut kinds = vec![Self::ServicePolicy, Self::AccessPolicy];
        kinds.extend(systems.iter().flat_map(of).copied());
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
            Self::ServicePolicy => ("isthmus.io", "v1alpha1", "ServicePolicy"),
            Self::AccessPolicy => ("isthmus.io", "v1alpha1", "AccessPolicy"),
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
            Self::ServicePolicy => "servicepolicies.isthmus.io",
            Self::AccessPolicy => "accesspolicies.isthmus.io",
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
            Self::ServicePolicy => "ServicePolicy",
            Self::AccessPolicy => "AccessPolicy",
        }
    }
}

impl fmt::Display for OptionalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}
