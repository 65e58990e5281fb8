//! ● The names of the clusterset's domain, from what is imported.

use crate::{
    api::mcs::{DERIVED_SERVICE, ImportPort, ImportType, SOURCE_CLUSTER, ServiceImport},
    mcs::{ObjectKey, Objects},
};
use isthmus_control_api::{Protocol, ServiceName};
use isthmus_control_dns::{Addresses, Endpoint, Port, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use std::{collections::BTreeMap, net::IpAddr};

/// On an EndpointSlice: the Service that it is of.
const SLICE_OF: &str = "kubernetes.io/service-name";

/// Every import, with the addresses that clients of this cluster use for it: those of the import itself, or, of a headless one, those
/// in the EndpointSlices of the Service that is derived from it. Those of the Services that stand for its endpoints lead to gateways.
pub fn services(imports: &Objects<ServiceImport>, slices: &Objects<EndpointSlice>) -> BTreeMap<ServiceName, Service> {
    imports.iter().filter_map(|(key, import)| Some((key.service()?, service(key, import, slices)))).collect()
}

/// The same of one import.
pub fn service(key: &ObjectKey, import: &ServiceImport, slices: &Objects<EndpointSlice>) -> Service {
    let addresses = match import.spec.type_ {
        ImportType::ClusterSetIP => {
            Addresses::ClusterSetIp(import.spec.ips.iter().filter_map(|ip| ip.parse().ok()).collect())
        }
        ImportType::Headless => {
            let derived = import.annotations().get(DERIVED_SERVICE);
            let derived = derived.map(|name| ObjectKey::new(&key.namespace, name));
            Addresses::Headless(derived.map(|derived| endpoints(&derived, slices)).unwrap_or_default())
        }
    };
    Service { ports: import.spec.ports.iter().filter_map(port).collect(), addresses }
}

/// The ready endpoints of a derived Service. One that is in slices of both families is one endpoint.
fn endpoints(derived: &ObjectKey, slices: &Objects<EndpointSlice>) -> Vec<Endpoint> {
    let mut all: BTreeMap<(String, String), Vec<IpAddr>> = BTreeMap::new();
    for (_, slice) in slices.of_service(derived) {
        let label = |name| slice.labels().get(name);
        let is_of = label(SLICE_OF).is_some_and(|name| **name == *derived.name);
        let Some(cluster) = label(SOURCE_CLUSTER).filter(|_| is_of) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let is_ready = endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false));
            let Some(first) = endpoint.addresses.first().filter(|_| is_ready) else { continue };
            // As Kubernetes' own DNS does it: one without a name is called by its address.
            let hostname = endpoint.hostname.clone().unwrap_or_else(|| first.replace(['.', ':'], "-"));
            let addresses = endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
            all.entry((cluster.clone(), hostname)).or_default().extend(addresses);
        }
    }
    let endpoint = |((cluster, hostname), addresses): ((String, String), Vec<IpAddr>)| {
        Some(Endpoint { hostname, cluster: cluster.parse().ok()?, addresses })
    };
    all.into_iter().filter_map(endpoint).collect()
}

/// A port, unless of a protocol that is not carried.
fn port(port: &ImportPort) -> Option<Port> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some(_) => return None,
    };
    let name = port.name.clone().filter(|name| !name.is_empty());
    Some(Port { name, protocol, number: u16::try_from(port.port).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::mcs::SERVICE_NAME;
    use serde_json::{Value, json};

    fn imports(of: Value) -> Objects<ServiceImport> {
        serde_json::from_value::<Vec<ServiceImport>>(of).unwrap().into_iter().collect()
    }

    fn slices(of: Value) -> Objects<EndpointSlice> {
        serde_json::from_value::<Vec<EndpointSlice>>(of).unwrap().into_iter().collect()
    }

    fn import(name: &str, spec: &Value) -> Value {
        let annotations = json!({DERIVED_SERVICE: format!("derived-{name}")});
        json!({"metadata": {"namespace": "shop", "name": name, "annotations": annotations}, "spec": spec})
    }

    fn slice(name: &str, of: &str, cluster: &str, endpoints: &Value) -> Value {
        let labels = json!({SERVICE_NAME: "db", SOURCE_CLUSTER: cluster, SLICE_OF: of});
        json!({
            "metadata": {"namespace": "shop", "name": name, "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints,
        })
    }

    #[test]
    fn an_import_has_its_addresses_and_ports() {
        let ports = json!([
            {"name": "http", "protocol": "TCP", "port": 80},
            {"protocol": "UDP", "port": 53},
            {"name": "sctp", "protocol": "SCTP", "port": 9},
        ]);
        let spec = json!({"type": "ClusterSetIP", "ips": ["10.0.0.1", "fd00::1"], "ports": ports});
        let found = services(&imports(json!([import("api", &spec)])), &Objects::default());
        let port = |name: Option<&str>, protocol, number| Port { name: name.map(str::to_owned), protocol, number };
        let expected = Service {
            ports: vec![port(Some("http"), Protocol::Tcp, 80), port(None, Protocol::Udp, 53)],
            addresses: Addresses::ClusterSetIp(vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]),
        };
        assert_eq!(found, [("shop/api".parse().unwrap(), expected)].into());
    }

    #[test]
    fn a_headless_import_has_the_ready_endpoints_of_its_slices() {
        let spec = json!({"type": "Headless", "ports": []});
        let ready = |address: &str, hostname: Value| json!({"addresses": [address], "hostname": hostname});
        let not = json!({"addresses": ["10.0.0.9"], "hostname": "db-9", "conditions": {"ready": false}});
        let slices = slices(json!([
            slice(
                "db-east",
                "derived-db",
                "east",
                &json!([ready("10.0.0.1", json!("db-0")), ready("10.0.0.2", Value::Null), not])
            ),
            slice("db-east-6", "derived-db", "east", &json!([ready("fd00::1", json!("db-0"))])),
            slice("db-west", "derived-db", "west", &json!([ready("10.0.0.3", json!("db-0"))])),
            slice("of-one", "derived-db-0", "west", &json!([ready("10.0.0.4", json!("db-0"))])),
        ]));
        let found = services(&imports(json!([import("db", &spec)])), &slices);
        let Addresses::Headless(endpoints) = &found[&"shop/db".parse().unwrap()].addresses else { panic!("{found:?}") };
        let told = |endpoint: &Endpoint| format!("{}.{} {:?}", endpoint.hostname, endpoint.cluster, endpoint.addresses);
        let told: Vec<_> = endpoints.iter().map(told).collect();
        assert_eq!(told, ["10-0-0-2.east [10.0.0.2]", "db-0.east [10.0.0.1, fd00::1]", "db-0.west [10.0.0.3]"]);
    }

    #[test]
    fn a_headless_import_without_endpoints_has_none() {
        let found = services(&imports(json!([import("db", &json!({"type": "Headless"}))])), &Objects::default());
        assert_eq!(found[&"shop/db".parse().unwrap()].addresses, Addresses::Headless(Vec::new()));
    }
}
