//! The clusters themselves: what the other tests here rely on.

use ::kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::watcher::Config,
};
use isthmus_tests::{
    KubeCluster,
    kube::{self, Options},
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::json;

/// A Service with two pods behind it.
const SHOP: &str = include_str!("manifests/shop.yaml");

/// An account that may read ConfigMaps of its own namespace.
const READER: &str = include_str!("manifests/reader.yaml");

#[test]
fn running_pods_are_in_the_slices_of_their_service() {
    let cluster = KubeCluster::start(&Options::new("west"));
    cluster.make_namespace("shop");
    cluster.apply(SHOP);
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client().clone(), "shop");
    let ready = |slices: &[_], family| -> Vec<String> { ready_addresses(slices, family) };
    // Two families, of which the Service asks for both.
    for (family, prefix) in [("IPv4", "10.244."), ("IPv6", "fd00:244:")] {
        let found = cluster.block_on(kube::watched(slices.clone(), Config::default(), "two are ready", |all| {
            let found = ready(all, family);
            if found.len() == 2 { Ok(found) } else { Err(format!("{found:?}")) }
        }));
        assert!(found.iter().all(|address| address.starts_with(prefix)), "{found:?}");
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), "shop");
    let (pod, zones) = cluster.block_on(async {
        let list = pods.list(&ListParams::default()).await.unwrap();
        let nodes: Vec<_> = list.items.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
        (list.items[0].metadata.name.clone().unwrap(), nodes)
    });
    assert_ne!(zones[0], zones[1], "the pods are spread over the nodes");
    // One says that it is not ready, and is ready again.
    for (ready_now, count) in [("false", 1), ("true", 2)] {
        let patch = json!({"metadata": {"annotations": {"test.isthmus.io/ready": ready_now}}});
        cluster.block_on(pods.patch(&pod, &PatchParams::default(), &Patch::Merge(patch))).unwrap();
        cluster.block_on(kube::watched(slices.clone(), Config::default(), "readiness shows", |all| {
            let found = ready(all, "IPv4");
            if found.len() == count { Ok(()) } else { Err(format!("{found:?}")) }
        }));
    }
}

#[test]
fn a_pod_that_stops_slowly_is_terminating_until_it_has_stopped() {
    let cluster = KubeCluster::start(&Options::new("west"));
    cluster.make_namespace("shop");
    cluster.apply(SHOP);
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client().clone(), "shop");
    let terminating = |count: usize| {
        cluster.block_on(kube::watched(slices.clone(), Config::default(), "a pod is terminating", |all| {
            let endpoints = all.iter().filter(|slice| slice.address_type == "IPv4");
            let conditions = endpoints.flat_map(|slice| slice.endpoints.iter().flatten()).flat_map(|e| &e.conditions);
            let found: Vec<_> = conditions.map(|c| (c.ready, c.serving, c.terminating)).collect();
            let draining = found.iter().filter(|found| **found == (Some(false), Some(true), Some(true))).count();
            let ready = found.iter().filter(|found| found.0 == Some(true)).count();
            if (draining, ready) == (count, 2) { Ok(()) } else { Err(format!("{found:?}")) }
        }));
    };
    terminating(0);
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), "shop");
    let pod = cluster.block_on(pods.list(&ListParams::default())).unwrap().items[0].metadata.name.clone().unwrap();
    for (stop, count) in [(json!("slow"), 1), (json!(null), 0)] {
        let patch = json!({"metadata": {"annotations": {"test.isthmus.io/stop": stop}}});
        cluster.block_on(pods.patch(&pod, &PatchParams::default(), &Patch::Merge(patch))).unwrap();
        if count == 1 {
            cluster.block_on(pods.delete(&pod, &DeleteParams::default())).unwrap();
        }
        terminating(count);
    }
    cluster.block_on(kube::object(pods, &pod, "it is gone", |found| match found {
        None => Ok(()),
        Some(_) => Err("it is there".into()),
    }));
}

#[test]
fn a_deleted_namespace_is_emptied_and_goes() {
    let cluster = KubeCluster::start(&Options::new("west"));
    cluster.make_namespace("shop");
    cluster.apply(SHOP);
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), "shop");
    cluster.block_on(kube::watched(pods.clone(), Config::default(), "two pods run", |all| {
        let running = all.iter().filter(|pod| phase(pod) == "Running").count();
        if running == 2 { Ok(()) } else { Err(format!("{running}")) }
    }));
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client().clone());
    cluster.block_on(namespaces.delete("shop", &DeleteParams::default())).unwrap();
    cluster.block_on(kube::object(namespaces, "shop", "it is gone", |found| match found {
        None => Ok(()),
        Some(namespace) => Err(format!("{:?}", namespace.status)),
    }));
    assert!(cluster.block_on(pods.list(&ListParams::default())).unwrap().items.is_empty());
}

#[test]
fn two_clusters_with_the_same_addresses_know_nothing_of_each_other() {
    let [west, east] = KubeCluster::start_all(&[Options::new("west"), Options::new("east")]);
    west.make_namespace("shop");
    east.make_namespace("shop");
    west.apply(SHOP);
    let services = |cluster: &KubeCluster| Api::<Service>::namespaced(cluster.client().clone(), "shop");
    let in_west = west.block_on(services(&west).get("api")).unwrap();
    let error = east.block_on(services(&east).get("api")).unwrap_err();
    assert!(matches!(&error, ::kube::Error::Api(status) if status.code == 404), "{error}");
    // The same address again: nobody has reserved it for both.
    let ip = in_west.spec.unwrap().cluster_ip.unwrap();
    let fixed = SHOP.replace("ipFamilyPolicy:", &format!("clusterIP: {ip}\n  ipFamilyPolicy:"));
    east.apply(&fixed);
    let in_east = east.block_on(services(&east).get("api")).unwrap();
    assert_eq!(in_east.spec.unwrap().cluster_ip, Some(ip));
}

#[test]
fn an_account_may_do_what_its_role_says_and_no_more() {
    let cluster = KubeCluster::start(&Options::new("west"));
    cluster.make_namespace("shop");
    cluster.apply(READER);
    let client = cluster.client_of("shop", "reader");
    let own: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
    let others: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    cluster.block_on(async {
        own.list(&ListParams::default()).await.unwrap();
        for refused in [
            others.list(&ListParams::default()).await.map(drop),
            own.delete("kube-root-ca.crt", &DeleteParams::default()).await.map(drop),
        ] {
            let error = refused.unwrap_err();
            assert!(matches!(&error, ::kube::Error::Api(status) if status.code == 403), "{error}");
        }
    });
}

#[test]
fn an_api_server_that_was_killed_comes_back_with_its_objects() {
    let mut cluster = KubeCluster::start(&Options::new("west"));
    cluster.make_namespace("shop");
    cluster.kill_api_server();
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client().clone());
    assert!(cluster.block_on(namespaces.get("shop")).is_err(), "nothing answers");
    cluster.start_api_server();
    cluster.block_on(namespaces.get("shop")).unwrap();
    // The controllers have found it again, too.
    cluster.make_namespace("later");
}

fn ready_addresses(slices: &[std::sync::Arc<EndpointSlice>], family: &str) -> Vec<String> {
    let endpoints = slices.iter().filter(|slice| slice.address_type == family);
    let endpoints = endpoints.flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(true));
    ready.flat_map(|endpoint| endpoint.addresses.clone()).collect()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("none")
}
