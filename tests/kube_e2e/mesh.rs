//! Two clusters of Kubernetes, each with a gateway and control in one process, as the service account that we ship may run it.
//!
//! ```text
//!  west-pods 10.0.0.2.. ── west-edge 10.0.0.1: API server, isthmus run ── wan ── east-edge … east-pods
//! ```

use ::kube::{Api, Resource, ResourceExt as _, core::NamespaceResourceScope, runtime::watcher::Config};
use isthmus_control_kube::api::mcs::{DERIVED_SERVICE, SERVICE_NAME, SOURCE_CLUSTER, ServiceExport, ServiceImport};
use isthmus_tests::{
    Endpoint, Gateway, KubeCluster, Topology, client, config, endpoint, eventually,
    kube::{self, Options},
    topology::{self, gateway, pod},
};
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::{apis::meta::v1::Condition, util::intstr::IntOrString},
};
use std::collections::BTreeSet;

/// What a cluster needs before control runs.
pub(crate) const RBAC: &str = include_str!("../../deploy/rbac.yaml");
/// Stands for the gateway's pod, at the address that the gateway has.
pub(crate) const GATEWAY: &str = include_str!("manifests/gateway.yaml");
/// A Service on port 80 with one pod at 10.0.0.3:8080.
pub(crate) const API: &str = include_str!("manifests/api.yaml");
/// Its export.
pub(crate) const EXPORT: &str = include_str!("manifests/export.yaml");

/// The namespaces of every cluster.
pub(crate) const SYSTEM: &str = "isthmus-system";
pub(crate) const SHOP: &str = "shop";
pub(crate) const ACCOUNT: &str = "isthmus";

/// Both clusters. The names are those of the topology.
pub(crate) struct Mesh {
    pub(crate) west: KubeCluster,
    pub(crate) east: KubeCluster,
}

impl Mesh {
    /// The API servers, with what we ship and the links; nothing of ours runs yet.
    pub(crate) fn start(topology: &Topology) -> Self {
        let options = ["west", "east"].map(|name| {
            let cluster = topology.cluster(name);
            Options::new(name).inside(cluster.edge(), topology::GATEWAY)
        });
        let [west, east] = KubeCluster::start_all(&options);
        for cluster in [&west, &east] {
            cluster.make_namespace(SYSTEM);
            cluster.make_namespace(SHOP);
            cluster.apply(RBAC);
            cluster.apply(GATEWAY);
        }
        west.apply(&link("east", &[topology.cluster("east").tunnel_address().to_string()]));
        east.apply(&link("west", &[]));
        Self { west, east }
    }

    /// The configuration of a cluster's gateway: it has the registry, and nothing else.
    pub(crate) fn config(&self, topology: &Topology, name: &str) -> config::Config {
        let kubeconfig = self.cluster(name).kubeconfig_of(SYSTEM, ACCOUNT);
        let mut config = config::Config::new(topology.cluster(name));
        config.more = format!("registry: {{kubernetes: {{kubeconfig: \"{}\"}}}}\n", kubeconfig.display());
        config
    }

    /// Starts a cluster's gateway.
    pub(crate) fn gateway<'a>(&self, topology: &'a Topology, name: &str) -> Gateway<'a> {
        Gateway::start(topology.cluster(name), &self.config(topology, name))
    }

    /// A cluster by name.
    pub(crate) fn cluster(&self, name: &str) -> &KubeCluster {
        if name == "west" { &self.west } else { &self.east }
    }
}

/// Echoes at the address of a cluster's pod.
pub(crate) fn echo(topology: &Topology, name: &str) -> Endpoint {
    let cluster = topology.cluster(name);
    Endpoint::serve(cluster.pods(), cluster.tasks(), pod(3, 8080), endpoint::echo)
}

/// A ClusterLink.
pub(crate) fn link(peer: &str, endpoints: &[String]) -> String {
    format!(
        "apiVersion: isthmus.io/v1alpha1\nkind: ClusterLink\nmetadata: {{name: {peer}}}\nspec: {{endpoints: {endpoints:?}}}\n"
    )
}

/// What stands for a service in a cluster: import, derived Service, slices.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Imported {
    pub(crate) import: ServiceImport,
    pub(crate) service: Service,
    pub(crate) slices: Vec<EndpointSlice>,
}

impl Imported {
    /// Waits until the service `name` is there whole, with slices of exactly these source clusters.
    pub(crate) fn wait(cluster: &KubeCluster, name: &str, sources: &[&str]) -> Self {
        let (imports, services, slices): (Api<ServiceImport>, Api<Service>, Api<EndpointSlice>) =
            (api(cluster), api(cluster), api(cluster));
        cluster.block_on(async {
            let what = format!("{} imports {name} from {sources:?}", cluster.name());
            let which = Config::default().labels(&format!("{SERVICE_NAME}={name}"));
            let found = kube::watched(slices, which, &what, |all| {
                let mut all: Vec<_> = all.iter().map(|slice| (**slice).clone()).collect();
                all.sort_by_key(|slice| slice.metadata.name.clone());
                let found: BTreeSet<_> =
                    all.iter().filter_map(|slice| slice.labels().get(SOURCE_CLUSTER).cloned()).collect();
                if found.iter().eq(sources) { Ok(all) } else { Err(format!("from {found:?}")) }
            });
            let slices = found.await;
            let import = kube::object(imports, name, &what, |import| {
                let import = import.ok_or("there is no import")?;
                let found = import.status.iter().flat_map(|status| &status.clusters).map(|cluster| &cluster.cluster);
                // The last thing that is written.
                let has_slices =
                    import.status.iter().any(|status| status.endpoint_slice_objects.as_deref() == Some("Present"));
                // The status is of the object as it is.
                let conditions = import.status.iter().flat_map(|status| &status.conditions);
                let is_of_it = conditions.clone().count() > 0
                    && conditions.clone().all(|condition| condition.observed_generation == import.metadata.generation);
                if found.clone().eq(sources) && !import.spec.ips.is_empty() && has_slices && is_of_it {
                    Ok(import.clone())
                } else {
                    Err(format!("{import:?}"))
                }
            });
            let import = import.await;
            let derived = &import.annotations()[DERIVED_SERVICE];
            let service = services.get(derived).await.unwrap();
            Self { import, service, slices }
        })
    }

    /// Waits until there is nothing left of the service `name`.
    pub(crate) fn wait_gone(cluster: &KubeCluster, name: &str) {
        let what = format!("{} has nothing of {name} any more", cluster.name());
        let which = Config::default().labels(&format!("{SERVICE_NAME}={name}"));
        let none = |count| if count == 0 { Ok(()) } else { Err(format!("{count} objects")) };
        cluster.block_on(async {
            kube::watched(api::<EndpointSlice>(cluster), which.clone(), &what, |all| none(all.len())).await;
            kube::watched(api::<Service>(cluster), which, &what, |all| none(all.len())).await;
            kube::object(api::<ServiceImport>(cluster), name, &what, |found| none(found.iter().count())).await;
        });
    }

    /// The same, as it is now.
    pub(crate) fn again(&self, cluster: &KubeCluster) -> Self {
        cluster.block_on(async {
            let import = api::<ServiceImport>(cluster).get(&self.import.name_any()).await.unwrap();
            let service = api::<Service>(cluster).get(&self.service.name_any()).await.unwrap();
            let mut slices = Vec::new();
            for slice in &self.slices {
                slices.push(api::<EndpointSlice>(cluster).get(&slice.name_any()).await.unwrap());
            }
            Self { import, service, slices }
        })
    }

    /// The gateway's port for the service's only one.
    pub(crate) fn port(&self) -> u16 {
        let ports = self.service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        let [ServicePort { target_port: Some(IntOrString::Int(port)), .. }] = ports else {
            panic!("{:?}", self.service)
        };
        u16::try_from(*port).unwrap()
    }
}

/// The objects of a kind in the namespace of the shop.
pub(crate) fn api<K>(cluster: &KubeCluster) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(cluster.client().clone(), SHOP)
}

/// Waits until the export `name` has these conditions, each as type, status and a part of reason and message.
pub(crate) fn wait_export(cluster: &KubeCluster, name: &str, wanted: &[(&str, &str, &str)]) {
    let what = format!("{}'s export says {wanted:?}", cluster.name());
    cluster.block_on(kube::object(api::<ServiceExport>(cluster), name, &what, |export| {
        let export = export.ok_or("there is none")?;
        let conditions = || export.status.iter().flat_map(|status| &status.conditions);
        let says = |(type_, status, part): &(&str, &str, &str)| {
            let text = |c: &Condition| format!("{}: {}", c.reason, c.message);
            conditions().any(|c| c.type_ == *type_ && c.status == *status && text(c).contains(part))
        };
        if wanted.iter().all(says) { Ok(()) } else { Err(format!("{:?}", export.status)) }
    }));
}

/// Waits until a client of `name`'s pods gets what it sends back from the service at the gateway's `port`.
pub(crate) fn wait_echo(topology: &Topology, name: &str, port: u16) {
    let cluster = topology.cluster(name);
    eventually(&format!("a client in {name} reaches the service at port {port}"), || {
        let exchange = async {
            let mut stream = client::connect(cluster.pods(), gateway(port)).await?;
            client::exchange(&mut stream, b"are you there?").await
        };
        topology.block_on(exchange).map_err(|error: std::io::Error| error.to_string())
    });
}
