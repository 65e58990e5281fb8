//! ● The pods of a cluster, by what their addresses say of them.

use isthmus_control_api::{Cidr, Workload};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// Addresses that gateways are told of.
pub(super) const MOST: usize = 50_000;

/// Namespace and name.
type Key = (String, String);

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Nanoseconds since 1970.
    created: i128,
    addresses: Vec<IpAddr>,
    workload: Arc<Workload>,
}

/// All pods with addresses of their own.
#[derive(Debug, Default)]
pub(super) struct PodIndex {
    pods: HashMap<Key, Known>,
    /// While they are listed anew.
    listed: Option<HashMap<Key, Known>>,
    /// Whether they have been listed as a whole.
    is_listed: bool,
}

impl PodIndex {
    /// Takes what the watch says; whether anything is another than before, as it is when the first list is whole.
    pub(super) fn take(&mut self, event: Event<Pod>) -> bool {
        match event {
            Event::Init => {
                self.listed = Some(HashMap::new());
                false
            }
            Event::InitApply(pod) => {
                if let (Some(listed), Some((key, Some(known)))) = (&mut self.listed, read(&pod)) {
                    listed.insert(key, known);
                }
                false
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let changed = listed != self.pods || !self.is_listed;
                (self.pods, self.is_listed) = (listed, true);
                changed
            }
            Event::Apply(pod) => match read(&pod) {
                None => false,
                Some((key, None)) => self.pods.remove(&key).is_some(),
                Some((key, Some(known))) => self.pods.insert(key, known.clone()).as_ref() != Some(&known),
            },
            Event::Delete(pod) => read(&pod).is_some_and(|(key, _)| self.pods.remove(&key).is_some()),
        }
    }

    /// Whose each address is, and how many are left out since there are too many. Of two pods that have the same one, for a moment, the
    /// younger counts: the other has gone without a word yet.
    pub(super) fn sources(&self) -> (BTreeMap<Cidr, Arc<Workload>>, usize) {
        let mut by_address = BTreeMap::<Cidr, (&Key, &Known)>::new();
        for (key, known) in &self.pods {
            for &address in &known.addresses {
                let of = by_address.entry(Cidr::host(address)).or_insert((key, known));
                if (of.1.created, of.0) < (known.created, key) {
                    *of = (key, known);
                }
            }
        }
        let left_out = by_address.len().saturating_sub(MOST);
        let sources = by_address.into_iter().take(MOST).map(|(cidr, (_, known))| (cidr, known.workload.clone()));
        (sources.collect(), left_out)
    }
}

/// What is known of a pod; `None` besides its key where it has no address of its own: it has none yet, or its node's, or is over.
fn read(pod: &Pod) -> Option<(Key, Option<Known>)> {
    let (namespace, name) = (pod.metadata.namespace.clone()?, pod.metadata.name.clone()?);
    let known = || {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
        let is_over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if spec.host_network == Some(true) || is_over {
            return None;
        }
        let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let account = format!("{namespace}/{account}").parse().ok()?;
        let listed = status.pod_ips.iter().flatten().map(|of| of.ip.as_str()).chain(status.pod_ip.as_deref());
        let mut addresses: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |at| at.0.as_nanosecond());
        let workload = Arc::new(Workload { account, pod: name.parse().ok() });
        (!addresses.is_empty()).then_some(Known { created, addresses, workload })
    };
    let known = known();
    Some(((namespace, name), known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, created: &str, spec: &Value, status: &Value) -> Pod {
        let metadata = json!({"namespace": "shop", "name": name, "creationTimestamp": created});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    fn web(name: &str, created: &str, ips: &[&str]) -> Pod {
        let ips: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        let spec = json!({"serviceAccountName": "web", "containers": []});
        pod(name, created, &spec, &json!({"phase": "Running", "podIPs": ips}))
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-02T00:00:00Z";

    fn told(index: &PodIndex) -> Vec<String> {
        let (sources, left_out) = index.sources();
        assert_eq!(left_out, 0);
        let one = |(cidr, of): (&Cidr, &Arc<Workload>)| format!("{cidr} {} {}", of.account, of.pod.as_ref().unwrap());
        sources.iter().map(one).collect()
    }

    #[test]
    fn pods_have_their_addresses_as_long_as_they_run() {
        let mut index = PodIndex::default();
        assert!(index.take(Event::Apply(web("web-0", EARLY, &["10.1.0.1", "2001:db8::1"]))));
        assert!(!index.take(Event::Apply(web("web-0", EARLY, &["2001:db8::1", "10.1.0.1"]))));
        assert_eq!(told(&index), ["10.1.0.1/32 shop/web web-0", "2001:db8::1/128 shop/web web-0"]);
        let over = pod("web-0", EARLY, &json!({"containers": []}), &json!({"phase": "Succeeded", "podIP": "10.1.0.1"}));
        assert!(index.take(Event::Apply(over.clone())) && !index.take(Event::Apply(over)));
        let nodes =
            pod("proxy", EARLY, &json!({"containers": [], "hostNetwork": true}), &json!({"podIP": "192.0.2.1"}));
        assert!(!index.take(Event::Apply(nodes)) && told(&index).is_empty());
        let bare = pod("bare", EARLY, &json!({"containers": []}), &json!({"podIP": "10.1.0.2"}));
        assert!(index.take(Event::Apply(bare.clone())));
        assert_eq!(told(&index), ["10.1.0.2/32 shop/default bare"]);
        assert!(index.take(Event::Delete(bare)) && told(&index).is_empty());
    }

    #[test]
    fn of_two_with_the_same_address_the_younger_counts() {
        let (old, young) = (web("z-old", EARLY, &["10.1.0.1"]), web("a-young", LATE, &["10.1.0.1"]));
        for events in [[old.clone(), young.clone()], [young.clone(), old.clone()]] {
            let mut index = PodIndex::default();
            for pod in events {
                index.take(Event::Apply(pod));
            }
            assert_eq!(told(&index), ["10.1.0.1/32 shop/web a-young"]);
            index.take(Event::Delete(young.clone()));
            assert_eq!(told(&index), ["10.1.0.1/32 shop/web z-old"]);
        }
    }

    #[test]
    fn what_a_new_list_lacks_has_gone() {
        let mut index = PodIndex::default();
        index.take(Event::Apply(web("gone", EARLY, &["10.1.0.1"])));
        index.take(Event::Init);
        index.take(Event::InitApply(web("here", EARLY, &["10.1.0.2"])));
        assert_eq!(told(&index), ["10.1.0.1/32 shop/web gone"], "it is not whole yet");
        assert!(index.take(Event::InitDone));
        assert_eq!(told(&index), ["10.1.0.2/32 shop/web here"]);
        let list = |index: &mut PodIndex| index.take(Event::Init) || index.take(Event::InitDone);
        assert!(list(&mut index) && !list(&mut index), "none, and none again");
        assert!(list(&mut PodIndex::default()), "that there are none is news at first");
    }
}
