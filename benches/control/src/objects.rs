//! The objects of west: services with ten endpoints each, their exports, and one change of one of them.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use isthmus_control_kube::api::mcs::ServiceExport;
use isthmus_tests::KubeCluster;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, ops::Range};

/// Where the services are.
pub(crate) const NAMESPACE: &str = "bench";
/// Endpoints of each.
pub(crate) const ENDPOINTS: u32 = 10;
/// Their port.
pub(crate) const PORT: u16 = 8080;
/// Requests at once.
const AT_ONCE: usize = 32;

/// A service's name.
pub(crate) fn name(number: usize) -> String {
    format!("local-{number}")
}

/// Makes the services of these numbers.
///
/// # Panics
/// If the API server refuses.
pub(crate) fn make(cluster: &KubeCluster, numbers: Range<usize>) {
    let client = cluster.client().clone();
    let making = stream::iter(numbers).map(|number| make_one(client.clone(), number)).buffer_unordered(AT_ONCE);
    let made = cluster.block_on(making.try_collect::<Vec<()>>());
    made.unwrap_or_else(|e| panic!("making services: {e}"));
}

async fn make_one(client: Client, number: usize) -> Result<(), kube::Error> {
    let name = name(number);
    let meta = json!({"name": name, "namespace": NAMESPACE});
    let service = json!({
        "metadata": meta,
        "spec": {"ipFamilyPolicy": "SingleStack", "ports": [{"name": "http", "port": 80, "targetPort": PORT}]},
    });
    let slice = json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": endpoints(address(number as u32), true),
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
    });
    let params = PostParams::default();
    create::<Service>(&client, service, &params).await?;
    create::<EndpointSlice>(&client, slice, &params).await?;
    create::<ServiceExport>(&client, json!({"metadata": meta}), &params).await
}

async fn create<K>(client: &Client, object: Value, params: &PostParams) -> Result<(), kube::Error>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    Api::namespaced(client.clone(), NAMESPACE).create(params, &object).await.map(drop)
}

/// The first endpoint's address: a different one for each `mark`, of which there are four million.
pub(crate) fn address(mark: u32) -> Ipv4Addr {
    let [_, high, middle, low] = mark.to_be_bytes();
    Ipv4Addr::new(100, 64 + (high & 63), middle, low)
}

fn endpoints(first: Ipv4Addr, ready: bool) -> Value {
    let others = (1..ENDPOINTS).map(|n| Ipv4Addr::from_bits((10 << 24) + n));
    let endpoint = |address: Ipv4Addr| json!({"addresses": [address], "conditions": {"ready": ready}});
    std::iter::once(first).chain(others).map(endpoint).collect()
}

/// Gives a service another first endpoint, or makes all of its endpoints ready or not.
///
/// # Errors
/// What the API server says.
pub(crate) async fn change(client: Client, number: usize, first: Ipv4Addr, ready: bool) -> Result<(), kube::Error> {
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    let patch = json!({"endpoints": endpoints(first, ready)});
    slices.patch(&name(number), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}
