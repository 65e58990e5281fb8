//! What holds of any plan.

use super::*;
use crate::api::mcs::SOURCE_CLUSTER;
use isthmus_control::exchange::summary::Member;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::{collection, prelude::*};
use std::collections::BTreeMap;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A cluster's exports become these.
    Peer(u8, Vec<(u8, Summary)>),
    Up(u8, bool),
    /// A link is removed.
    Unlink(u8),
    Export(u8, i64),
    Unexport(u8),
    Namespace(bool),
    /// Control starts again.
    Restart,
    Gateways(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let member = (0..3u8).prop_map(|n| Member { key: format!("m-{n}").into(), is_hostname: n > 0 });
    let of = (0..4u64, 80..83u16, 0..3u32, any::<bool>(), collection::btree_set(member, 0..3));
    let summary = of.prop_map(|(since, number, ready, headless, members)| Summary {
        headless,
        members: if headless { members } else { Default::default() },
        ..summary(since, "http", number, ready)
    });
    prop_oneof![
        4 => (0..3u8, collection::vec((0..4u8, summary), 0..4)).prop_map(|(peer, said)| Step::Peer(peer, said)),
        2 => (0..3u8, any::<bool>()).prop_map(|(peer, up)| Step::Up(peer, up)),
        1 => (0..3u8).prop_map(Step::Unlink),
        3 => (0..4u8, 0..4i64).prop_map(|(service, since)| Step::Export(service, since)),
        2 => (0..4u8).prop_map(Step::Unexport),
        1 => any::<bool>().prop_map(Step::Namespace),
        1 => Just(Step::Restart),
        1 => (0..3usize).prop_map(Step::Gateways),
    ]
}

fn any_quota() -> impl Strategy<Value = Quota> {
    (1..9usize, 1..6usize).prop_map(|(ports, addresses)| Quota { ports, addresses })
}

fn name(service: u8) -> String {
    format!("shop/s{service}")
}

fn take(west: &mut Cluster, all: &Cluster, step: Step) {
    match step {
        Step::Peer(peer, said) => {
            let said: BTreeMap<_, _> = said.into_iter().map(|(service, of)| (name(service), of)).collect();
            let said: Vec<_> = said.iter().map(|(name, of)| (&**name, of.clone())).collect();
            west.link(&format!("c{peer}"), view(&said));
        }
        Step::Up(peer, up) => {
            if let Some(view) = west.peers.get_mut(&format!("c{peer}").parse().unwrap()) {
                view.up = up;
            }
        }
        Step::Unlink(peer) => drop(west.peers.remove(&format!("c{peer}").parse().unwrap())),
        Step::Export(of, since) => {
            west.exports(service(&name(of), &[("http", 80, "TCP")]), &[("10.2.0.1", ""), ("10.2.0.2", "")], since);
        }
        Step::Unexport(of) => drop(west.world.exports.remove(&key(&name(of)))),
        Step::Namespace(is) => {
            west.world.namespaces.remove("shop");
            west.world.namespaces.extend(is.then(|| "shop".into()));
        }
        Step::Restart => {
            west.plan = Plan::default();
            west.peers.values_mut().for_each(|view| *view = PeerView::default());
        }
        Step::Gateways(count) => west.world.gateways = all.world.gateways[..count].to_vec(),
    }
}

/// Every gateway port leads to one service port, and every slice to a port that the gateway listens on for its service.
fn check(west: &Cluster) -> Result<(), TestCaseError> {
    let mut listens = BTreeMap::new();
    for (key, plan) in &west.plan.services {
        for (target, import) in &plan.imports {
            prop_assert!(west.settings.ports.contains(target));
            prop_assert!(listens.insert(*target, (key.clone(), import)).is_none(), "{} is given out twice", target);
        }
        prop_assert!(plan.unwanted.is_empty(), "{:?}", plan.unwanted);
        let exists = plan.import.is_some();
        prop_assert_eq!(exists, west.world.imports.get(key).is_some());
        prop_assert!(exists || plan.services.is_empty() && plan.slices.is_empty() && plan.imports.is_empty());
        let import = west.world.imports.get(key);
        prop_assert!(import.is_none_or(|import| !import.spec.ip_families.is_empty()));
    }
    // Endpoints of a cluster are nobody else's: what they take up is within its quota, whatever comes and goes.
    let labels = west.world.services.iter().filter_map(|(_, service)| service.metadata.labels.as_ref());
    let mut members: BTreeMap<&str, usize> = BTreeMap::new();
    for of in labels.filter(|of| of.contains_key(import::MEMBER)).filter_map(|of| of.get(SOURCE_CLUSTER)) {
        *members.entry(of).or_default() += 1;
    }
    prop_assert!(members.values().all(|count| *count <= west.settings.quota.addresses), "{:?}", members);
    let gateways: Vec<_> = west.world.gateways.iter().flat_map(|of| &of.addresses).map(ToString::to_string).collect();
    for (_, slice) in west.world.slices.iter().filter(|(_, slice)| slice.origin().is_some()) {
        let addresses: Vec<_> = slice.endpoints.iter().flatten().flat_map(|of| &of.addresses).collect();
        if addresses.iter().any(|address| gateways.contains(address)) {
            for port in slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok()) {
                prop_assert_eq!(listens.get(&port).map(|(key, _)| key.clone()), slice.origin());
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `settle` itself panics if a plan applied to its own outcome goes on changing something.
    #[test]
    fn whatever_happens_it_settles_and_ports_lead_to_their_services(steps in collection::vec(any_step(), 1..16), quota in any_quota()) {
        let all = Cluster::new("west");
        let mut west = Cluster::new("west");
        west.settings.ports = 20000..=20060;
        west.settings.quota = quota;
        west.settings.mirrored.insert("c1".parse().unwrap());
        for step in steps {
            take(&mut west, &all, step);
            west.settle();
            check(&west)?;
        }
        // A new process that hears the same as before comes to the same.
        let (plan, before) = (west.plan.clone(), west.world.clone());
        west.plan = Plan::default();
        west.settle();
        prop_assert_eq!(&west.plan, &plan);
        prop_assert!(west.world.services.iter().eq(before.services.iter()));
    }

    /// Two clusters that hear of the same exports make the same import of them.
    #[test]
    fn every_cluster_comes_to_the_same(west_since in 0..4i64, east_since in 0..4i64, south in 80..83u16, south_since in 0..4u64) {
        let api = |cluster: &str, since| {
            let mut cluster = Cluster::new(cluster);
            cluster.exports(service("shop/api", &[("http", 80, "TCP")]), &[("10.2.0.1", "")], since);
            cluster.settle();
            cluster
        };
        let (mut west, mut east) = (api("west", west_since), api("east", east_since));
        let said = |of: &Cluster| (*of.service_plan("shop/api").summary.clone().unwrap()).clone();
        let (wests, easts) = (view(&[("shop/api", said(&west))]), view(&[("shop/api", said(&east))]));
        let souths = view(&[("shop/api", summary(south_since, "http", south, 1))]);
        west.link("south", souths.clone());
        west.settle();
        west.link("east", easts);
        east.link("west", wests);
        east.settle();
        east.link("south", souths);
        for cluster in [&mut west, &mut east] {
            cluster.settle();
        }
        let seen = |of: &Cluster| {
            let (import, plan) = (of.import("shop/api").unwrap(), of.service_plan("shop/api"));
            let conflict = condition(&plan.export_status.as_ref().unwrap().conditions, "Conflict").clone();
            let clusters = import.status.as_ref().unwrap().clusters.clone();
            (import.spec.ports.clone(), import.spec.type_, clusters, conflict.reason, conflict.message)
        };
        prop_assert_eq!(seen(&west), seen(&east));
    }

    /// What peers say of how many endpoints are ready, and slices of ours that are gone or otherwise than we wrote them.
    #[test]
    fn services_that_are_heard_of_or_written_alone_are_as_in_the_plan_of_all(
        steps in collection::vec(any_step(), 1..16),
        ready in collection::vec(0..3u32, 12),
        lost in 0..5usize,
    ) {
        let all = Cluster::new("west");
        let mut west = Cluster::new("west");
        west.settings.ports = 20000..=20060;
        west.settings.mirrored.insert("c1".parse().unwrap());
        for step in steps {
            take(&mut west, &all, step);
            west.settle();
        }
        let before = west.peers.clone();
        let mut ready = ready.into_iter().cycle();
        for view in west.peers.values_mut() {
            for summary in Arc::make_mut(&mut view.exports).services.values_mut() {
                let ports = Arc::make_mut(summary).ports.values_mut();
                ports.for_each(|port| port.ready = ready.next().unwrap());
            }
        }
        let mut touched = heard(&before, &west.peers).unwrap();
        let ours: Vec<_> = west.world.slices.iter().filter(|(_, slice)| is_ours(&***slice)).map(|(key, _)| key.clone()).collect();
        if let Some(slice) = ours.get(lost).and_then(|key| west.world.slices.remove(key)) {
            touched.extend(slice.origin());
        }
        if let Some(slice) = ours.first().and_then(|key| west.world.slices.get(key).cloned()) {
            touched.extend(slice.origin());
            west.world.slices.insert(Arc::new(EndpointSlice { endpoints: None, ..(*slice).clone() }));
        }
        let whole = west.replan();
        let mut alone = west.plan.clone();
        for key in &touched {
            let before = &west.plan.services[key];
            let Some(one) = plan_one(&west.world, &west.peers, &west.settings, before, key, &time(west.seconds)) else { return Ok(()) };
            alone.services.insert(key.clone(), one);
        }
        prop_assert_eq!(alone, whole);
    }

    /// Where it says anything at all.
    #[test]
    fn a_service_planned_alone_is_as_in_the_plan_of_all(
        steps in collection::vec(any_step(), 1..16),
        of in 0..4u8,
        endpoints in 0..4u8,
        headless: bool,
    ) {
        let all = Cluster::new("west");
        let mut west = Cluster::new("west");
        west.settings.ports = 20000..=20005;
        west.settings.mirrored.insert("c1".parse().unwrap());
        let name = name(of);
        for step in steps {
            take(&mut west, &all, step);
            west.settle();
        }
        let mut local = service(&name, &[("http", 80, "TCP")]);
        if headless {
            local.spec.as_mut().unwrap().cluster_ip = Some("None".into());
        }
        west.world.services.insert(Arc::new(local.clone()));
        west.settle();
        let endpoints: Vec<_> = (0..endpoints).map(|n| format!("10.2.1.{n}")).collect();
        let endpoints: Vec<_> = endpoints.iter().map(|address| (&**address, "")).collect();
        west.world.slices.insert(Arc::new(slice(&local, &endpoints)));
        let whole = west.replan();
        let others = |plan: &Plan| plan.services.iter().filter(|(other, _)| **other != key(&name)).map(|(key, of)| (key.clone(), of.clone())).collect::<Vec<_>>();
        let before = west.plan.services.get(&key(&name));
        let alone = before.and_then(|before| plan_one(&west.world, &west.peers, &west.settings, before, &key(&name), &time(west.seconds)));
        if let Some(alone) = alone {
            prop_assert_eq!(Some(&alone), whole.services.get(&key(&name)));
            prop_assert_eq!(others(&whole), others(&west.plan));
        }
    }
}
