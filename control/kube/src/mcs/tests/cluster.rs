//! A cluster for tests: its API server as far as plans are concerned, and the clusters that it is linked with.

use super::super::*;
use crate::api::mcs::{ServiceExport, ServiceExportSpec, ServiceExportStatus, ServiceImport, ServiceImportStatus};
use isthmus_control::exchange::summary::{Summaries, Summary};
use k8s_openapi::{
    api::{
        core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig},
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
    jiff::Timestamp,
};
use kube::Resource;
use std::{collections::BTreeMap, sync::Arc};

/// Rounds within which a change must be through.
const ROUNDS: usize = 8;

pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) peers: PeerViews,
    pub(crate) settings: Settings,
    pub(crate) plan: Plan,
    /// Whether it writes, and nobody else.
    pub(crate) leads: bool,
    pub(crate) seconds: i64,
    objects: u32,
}

pub(crate) fn time(seconds: i64) -> Time {
    Time(Timestamp::from_second(seconds).unwrap())
}

pub(crate) fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name)
}

pub(crate) fn meta(text: &str) -> ObjectMeta {
    let ObjectKey { namespace, name } = key(text);
    ObjectMeta { namespace: Some(namespace.to_string()), name: Some(name.to_string()), ..ObjectMeta::default() }
}

/// A Service as a user has it, with ports of these names, numbers and protocols.
pub(crate) fn service(name: &str, ports: &[(&str, i32, &str)]) -> Service {
    let port = |&(name, port, protocol): &(&str, i32, &str)| ServicePort {
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        port,
        protocol: Some(protocol.into()),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        cluster_ip: Some("10.0.0.1".into()),
        ip_families: Some(vec!["IPv4".into()]),
        ports: Some(ports.iter().map(port).collect()),
        ..ServiceSpec::default()
    };
    Service { metadata: meta(name), spec: Some(spec), status: None }
}

/// A slice of a user's Service: endpoints by address and host name, all ports on 1000 and more.
pub(crate) fn slice(of: &Service, endpoints: &[(&str, &str)]) -> EndpointSlice {
    let name = ObjectKey::of(of);
    let endpoint = |&(address, hostname): &(&str, &str)| Endpoint {
        addresses: vec![address.into()],
        hostname: Some(hostname.to_owned()).filter(|name| !name.is_empty()),
        node_name: Some("node-a".into()),
        ..Endpoint::default()
    };
    let port = |port: &ServicePort| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(1000 + port.port),
        protocol: port.protocol.clone(),
        ..EndpointPort::default()
    };
    let mut metadata = meta(&format!("{name}-abcde"));
    metadata.labels = Some([(objects::SLICE_OF.to_owned(), name.name.to_string())].into());
    EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: Some(endpoints.iter().map(endpoint).collect()),
        metadata,
        ports: Some(of.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(port).collect()),
    }
}

/// An export of a given age.
pub(crate) fn export(name: &str, seconds: i64) -> ServiceExport {
    let mut export = ServiceExport::new("", ServiceExportSpec::default());
    export.metadata = ObjectMeta { creation_timestamp: Some(time(seconds)), generation: Some(1), ..meta(name) };
    export
}

/// A client stays with its endpoint for so long.
pub(crate) fn sticky(service: &mut Service, seconds: i32) {
    let spec = service.spec.as_mut().unwrap();
    spec.session_affinity = Some("ClientIP".into());
    let client_ip = Some(ClientIPConfig { timeout_seconds: Some(seconds) });
    spec.session_affinity_config = Some(SessionAffinityConfig { client_ip });
}

/// What a cluster says that exports these.
pub(crate) fn view(services: &[(&str, Summary)]) -> PeerView {
    let services = services.iter().map(|(name, of)| (name.parse().unwrap(), Arc::new(of.clone()))).collect();
    PeerView {
        up: true,
        synced: true,
        exports: Arc::new(Summaries { services, ..Summaries::default() }),
        ..PeerView::default()
    }
}

pub(crate) fn condition<'a>(conditions: &'a [Condition], type_: &str) -> &'a Condition {
    conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap_or_else(|| panic!("no {type_} in {conditions:?}"))
}

impl Cluster {
    /// With a namespace, two nodes and a gateway pod on each.
    pub(crate) fn new(id: &str) -> Self {
        let gateway = |name: &str, node: &str, address: &str| GatewayPod {
            name: name.into(),
            namespace: "isthmus-system".into(),
            addresses: vec![address.parse().unwrap(), format!("fd00::{}", &address[7..]).parse().unwrap()],
            node: Some(node.into()),
        };
        let world = World {
            namespaces: ["shop".into(), "ops".into()].into(),
            zones: [("node-a".into(), "zone-a".into()), ("node-b".into(), "zone-b".into())].into(),
            gateways: vec![gateway("gw-1", "node-a", "10.9.0.1"), gateway("gw-2", "node-b", "10.9.0.2")],
            ..World::default()
        };
        let settings = Settings {
            cluster: id.parse().unwrap(),
            clusterset: "demo".parse().unwrap(),
            ports: 20000..=20009,
            quota: Quota { ports: 1000, addresses: 1000 },
            mirrored: Default::default(),
            compat: Default::default(),
            external_dns: None,
        };
        let (peers, plan) = (PeerViews::new(), Plan::default());
        Self { world, peers, settings, plan, leads: true, seconds: 1000, objects: 0 }
    }

    pub(crate) fn link(&mut self, cluster: &str, view: PeerView) {
        self.peers.insert(cluster.parse().unwrap(), view);
    }

    pub(crate) fn peer(&mut self, cluster: &str) -> &mut PeerView {
        self.peers.get_mut(&cluster.parse().unwrap()).unwrap()
    }

    /// A user's Service with these endpoints, and its export.
    pub(crate) fn exports(&mut self, service: Service, endpoints: &[(&str, &str)], since: i64) {
        let name = ObjectKey::of(&service).to_string();
        self.world.slices.insert(Arc::new(slice(&service, endpoints)));
        self.world.services.insert(Arc::new(service));
        self.world.exports.insert(Arc::new(export(&name, since)));
    }

    pub(crate) fn service_plan(&self, name: &str) -> &ServicePlan {
        &self.plan.services[&key(name)]
    }

    /// The derived Service of a service, as the API server has it.
    pub(crate) fn derived(&self, name: &str) -> Option<Arc<Service>> {
        let namespace = key(name).namespace;
        self.world.services.get(&ObjectKey::new(&namespace, &derived_name(name))).cloned()
    }

    pub(crate) fn import(&self, name: &str) -> Option<&ServiceImport> {
        self.world.imports.get(&key(name)).map(|import| &**import)
    }

    /// The gateway slices of a service, by source cluster and family: ports and addresses.
    pub(crate) fn slices(&self, name: &str) -> BTreeMap<String, (Vec<i32>, Vec<String>)> {
        let slices = self.world.slices.iter().filter(|(_, slice)| slice.origin() == Some(key(name)));
        let said = slices.map(|(_, slice)| {
            let source = &slice.metadata.labels.as_ref().unwrap()[crate::api::mcs::SOURCE_CLUSTER];
            let ports = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
            let addresses = slice.endpoints.iter().flatten().flat_map(|of| of.addresses.clone()).collect();
            (format!("{source} {}", slice.address_type), (ports, addresses))
        });
        said.collect()
    }

    /// Plans once.
    pub(crate) fn replan(&mut self) -> Plan {
        self.seconds += 1;
        let before = Before { plan: &self.plan, is_ours: self.leads };
        plan(&self.world, &self.peers, &self.settings, before, &time(self.seconds))
    }

    /// Plans and applies until nothing changes any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let next = self.replan();
            self.apply(&next);
            if next == self.plan {
                return;
            }
            self.plan = next;
        }
        panic!("it does not settle: {:?} {:?}", self.replan(), self.plan);
    }

    /// What the API server makes of a plan.
    pub(crate) fn apply(&mut self, plan: &Plan) {
        for (key, of) in &plan.services {
            if let Some(mut import) = of.import.clone() {
                let known = self.world.imports.get(key).cloned();
                self.identify(&mut import, known.as_deref());
                import.status = known.and_then(|known| known.status.clone());
                self.world.imports.insert(Arc::new(import));
            }
            for service in &of.services {
                let known = self.world.services.get(&ObjectKey::of(service)).cloned();
                let mut service = service.clone();
                self.identify(&mut service, known.as_deref());
                self.give_addresses(&mut service, known.as_deref());
                self.world.services.insert(Arc::new(service));
            }
            for slice in &of.slices {
                let known = self.world.slices.get(slice.key()).cloned();
                let mut slice: EndpointSlice = slice.object();
                self.identify(&mut slice, known.as_deref());
                self.world.slices.insert(Arc::new(slice));
            }
            for Unwanted { kind, key, uid } in &of.unwanted {
                let gone = match kind {
                    Kind::Import => self.world.imports.remove(key).map(|of| of.metadata.uid.clone()),
                    Kind::Service => self.world.services.remove(key).map(|of| of.metadata.uid.clone()),
                    Kind::Slice => self.world.slices.remove(key).map(|of| of.metadata.uid.clone()),
                    Kind::Record => unreachable!("no test here has any"),
                };
                assert_eq!(gone.as_ref(), Some(uid), "{kind:?} {key}");
            }
            self.statuses(key, of.export_status.as_ref(), of.import_status.as_ref());
        }
    }

    fn statuses(
        &mut self,
        key: &ObjectKey,
        export: Option<&ServiceExportStatus>,
        import: Option<&ServiceImportStatus>,
    ) {
        if let (Some(status), Some(object)) = (export, self.world.exports.get(key)) {
            self.world.exports.insert(Arc::new(ServiceExport { status: Some(status.clone()), ..(**object).clone() }));
        }
        if let (Some(status), Some(object)) = (import, self.world.imports.get(key)) {
            self.world.imports.insert(Arc::new(ServiceImport { status: Some(status.clone()), ..(**object).clone() }));
        }
    }

    fn identify<K: Resource>(&mut self, object: &mut K, known: Option<&K>) {
        self.objects += 1;
        let new = || Some(format!("uid-{}", self.objects));
        let uid = known.map_or_else(new, |known| known.meta().uid.clone());
        let created = known.and_then(|known| known.meta().creation_timestamp.clone());
        object.meta_mut().uid = uid;
        object.meta_mut().creation_timestamp = Some(created.unwrap_or_else(|| time(self.seconds)));
        object.meta_mut().generation = Some(1);
    }

    /// Addresses for a new Service: of both families, unless it wants one. Those of an old one stay, whatever is applied.
    fn give_addresses(&mut self, service: &mut Service, known: Option<&Service>) {
        let spec = service.spec.as_mut().unwrap();
        if let Some(known) = known.and_then(|known| known.spec.as_ref()) {
            assert_eq!(
                spec.cluster_ips.as_ref().unwrap_or(known.cluster_ips.as_ref().unwrap()),
                known.cluster_ips.as_ref().unwrap()
            );
            (spec.cluster_ip, spec.cluster_ips) = (known.cluster_ip.clone(), known.cluster_ips.clone());
            spec.ip_families = known.ip_families.clone();
            return;
        }
        let families = spec.ip_families.get_or_insert_with(|| vec!["IPv4".into(), "IPv6".into()]);
        let address = |family: &String| {
            if family == "IPv4" { format!("10.1.0.{}", self.objects) } else { format!("fd01::{}", self.objects) }
        };
        let given: Vec<_> = families.iter().map(address).collect();
        let ips = spec.cluster_ips.get_or_insert(given).clone();
        spec.cluster_ip = ips.first().cloned();
    }
}

/// The import of a service, as the API server has it.
pub(crate) fn import(name: &str) -> ServiceImport {
    let mut import = ServiceImport::new("", Default::default());
    import.metadata = ObjectMeta { uid: Some(format!("uid of {name}")), ..meta(name) };
    import.metadata.labels = Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into());
    import
}

/// The Service derived from it, whose port 80 leads to a port of the gateway.
pub(crate) fn derived(of: &str, target: i32) -> Service {
    let service_key = key(of);
    let mut service = service(&format!("{}/{}", service_key.namespace, derived_name(of)), &[("", 80, "TCP")]);
    let labels = [(MANAGED_BY, MANAGER), (crate::api::mcs::SERVICE_NAME, &service_key.name)];
    service.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    service.metadata.owner_references = marks::owned_by(&import(of)).map(|owner| vec![owner]);
    service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].target_port =
        Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(target));
    service
}

/// What the gateway listens for it.
pub(crate) fn listen(name: &str) -> Arc<isthmus_control::registry::DesiredImport> {
    let service = isthmus_control_api::ServicePort {
        service: name.parse().unwrap(),
        port: 80,
        protocol: isthmus_control_api::Protocol::Tcp,
    };
    Arc::new(isthmus_control::registry::DesiredImport {
        service,
        affinity: Default::default(),
        weights: None,
        sticky: false,
        policy: Default::default(),
        member: None,
    })
}
