//! ● EndpointSlices: one source cluster and one family of addresses each.

use super::{
    GatewayPod, ObjectKey, Wanted, World,
    derived::given_families,
    here::Here,
    marks::{SLICE_MANAGED_BY, SLICE_MANAGER, owned_by},
    merge::MergedPort,
    names::derived_name,
    objects::{ORIGIN, SLICE_OF},
};
use crate::api::mcs::{SERVICE_NAME, SOURCE_CLUSTER};
use isthmus_control::exchange::summary::{Family, Port};
use isthmus_control_api::ClusterName;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use std::{collections::BTreeMap, net::IpAddr};

/// The most that the API server takes.
pub(super) const MAX_ENDPOINTS: usize = 1000;

/// What a cluster serves of a derived Service.
pub(super) struct Serving<'a> {
    pub(super) cluster: &'a ClusterName,
    /// What the Service is to its import.
    pub(super) role: Role,
    /// The Service's name.
    pub(super) service: &'a ObjectKey,
    /// The Service.
    pub(super) observed: &'a Service,
    /// All that is known of the Service's ports.
    pub(super) named: &'a BTreeMap<Port, MergedPort>,
    /// The gateway's ports for those of the Service's that the cluster serves.
    pub(super) ports: BTreeMap<Port, u16>,
}

/// What a Service that leads to the gateways is to its import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its own derived Service: its slices are the import's.
    Import,
    /// That of one of its endpoints.
    Member,
    /// Its mirror.
    Mirror,
    /// The union of the clusters that have it federated.
    Federated,
    /// The local Service of the same name.
    Global,
    /// That of a Listener.
    Listener,
}

impl Role {
    /// By which label of a slice its service is known. Whoever looks for the endpoints of an import finds those of its derived Service
    /// and no others, by the label of the Multi-Cluster Services API.
    const fn label(self) -> &'static str {
        if matches!(self, Self::Import) { SERVICE_NAME } else { ORIGIN }
    }

    /// The name of a slice. No two are the same: those of mirrors and local Services are not made from their names, which could be
    /// another's and a cluster's together.
    fn name(self, origin: &str, service: &ObjectKey, end: &str) -> String {
        let kind = match self {
            Self::Import | Self::Member => return format!("{}-{end}", service.name),
            Self::Mirror => "mirror",
            Self::Federated => "federated",
            Self::Global => "global",
            Self::Listener => "listener",
        };
        format!("{}-{end}-{kind}", derived_name(&format!("{}/{origin}", service.namespace)))
    }
}

/// What the slices of one service have in common.
pub(super) struct Place<'a> {
    pub(super) world: &'a World,
    /// The name of the service of the clusterset that they belong to.
    pub(super) origin: &'a str,
    /// With what they go.
    pub(super) owner: OwnerReference,
    /// Which endpoints clients are to prefer.
    pub(super) distribution: Option<&'a str>,
}

/// The slices that lead to our gateways, one of each family that the Service has. None where nothing is served, nor until the import is
/// there.
pub(super) fn of_gateways(here: &Here<'_>, serving: &Serving<'_>) -> Vec<Wanted> {
    Place::of(here).map(|place| place.gateways(serving)).unwrap_or_default()
}

/// A slice of a cluster's endpoints; `None` until the import is there.
pub(super) fn slice(
    here: &Here<'_>,
    serving: &Serving<'_>,
    family: Family,
    endpoints: Vec<Endpoint>,
    ports: Vec<EndpointPort>,
) -> Option<Wanted> {
    Place::of(here)?.slice(serving, family, endpoints, ports)
}

impl<'a> Place<'a> {
    /// That of an import; `None` until it is there.
    fn of(here: &'a Here<'_>) -> Option<Self> {
        Some(Self {
            world: here.cx.world,
            origin: &here.key.name,
            owner: owned_by(here.import?)?,
            distribution: here.merged.from.traffic_distribution.as_deref(),
        })
    }

    /// The slices that lead to our gateways, one of each family that the Service has. None where nothing is served.
    pub(super) fn gateways(&self, serving: &Serving<'_>) -> Vec<Wanted> {
        if serving.ports.is_empty() {
            return Vec::new();
        }
        let ports: Vec<_> =
            serving.ports.iter().map(|(port, target)| slice_port(serving.named, *port, *target)).collect();
        let slice = |family| {
            let gateways = self.world.gateways.iter();
            let endpoints = gateways.filter_map(|gateway| self.endpoint(gateway, family)).take(MAX_ENDPOINTS).collect();
            self.slice(serving, family, endpoints, ports.clone())
        };
        given_families(serving.observed).into_iter().filter_map(slice).collect()
    }

    fn slice(
        &self,
        serving: &Serving<'_>,
        family: Family,
        endpoints: Vec<Endpoint>,
        ports: Vec<EndpointPort>,
    ) -> Option<Wanted> {
        let Serving { cluster, service, role, .. } = serving;
        let labels = [
            (SLICE_OF, &*service.name),
            (role.label(), self.origin),
            (SOURCE_CLUSTER, cluster.as_str()),
            (SLICE_MANAGED_BY, SLICE_MANAGER),
        ];
        let metadata = ObjectMeta {
            namespace: Some((*service.namespace).to_owned()),
            name: Some(role.name(self.origin, service, &format!("{cluster}-{}", family.as_str().to_lowercase()))),
            labels: Some(labels.into_iter().map(|(label, value)| (label.to_owned(), value.to_owned())).collect()),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        };
        let address_type = family.as_str().into();
        Wanted::of(&EndpointSlice { address_type, endpoints: Some(endpoints), metadata, ports: Some(ports) })
    }

    fn endpoint(&self, gateway: &GatewayPod, family: Family) -> Option<Endpoint> {
        let address = gateway.addresses.iter().find(|address| is_of(**address, family))?;
        let zone = gateway.node.as_deref().and_then(|node| self.world.zones.get(node)).map(|zone| (**zone).to_owned());
        Some(Endpoint {
            addresses: vec![address.to_string()],
            conditions: is_ready(),
            hints: hints(self.distribution, zone.as_deref(), gateway.node.as_deref()),
            node_name: gateway.node.clone(),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some(gateway.namespace.clone()),
                name: Some(gateway.name.clone()),
                ..ObjectReference::default()
            }),
            zone,
            ..Endpoint::default()
        })
    }
}

/// A port of a slice: what the Service's port is on its endpoints.
pub(super) fn slice_port(named: &BTreeMap<Port, MergedPort>, port: Port, target: u16) -> EndpointPort {
    let of = named.get(&port);
    EndpointPort {
        name: of.map(|of| of.name.as_deref().unwrap_or_default().to_owned()),
        protocol: Some(port.protocol.as_str().into()),
        app_protocol: of.and_then(|of| of.app_protocol.as_deref()).map(str::to_owned),
        port: Some(target.into()),
    }
}

/// What is said of an endpoint that is ready.
pub(super) fn is_ready() -> Option<EndpointConditions> {
    Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) })
}

/// Whether an address is of a family.
pub(super) fn is_of(address: IpAddr, family: Family) -> bool {
    address.is_ipv4() == (family == Family::V4)
}

/// For whom an endpoint is meant, where clients are to prefer what is near. kube-proxy takes hints only if every endpoint has them.
fn hints(distribution: Option<&str>, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let for_node = distribution == Some("PreferSameNode");
    if !for_node && !matches!(distribution, Some("PreferClose" | "PreferSameZone")) {
        return None;
    }
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let for_nodes = node.filter(|_| for_node).map(|node| vec![ForNode { name: node.to_owned() }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}
