use super::*;
use isthmus_control_api::{Retries, ServiceLimits};

fn api() -> ServicePort {
    ServicePort::tcp("shop/api".parse().unwrap(), 80)
}

fn policy(limits: ServiceLimits) -> Arc<ServicePolicy> {
    Arc::new(ServicePolicy { limits, ..ServicePolicy::default() })
}

fn streams(most: u32) -> Limits {
    Limits { streams: Some(most), ..Limits::default() }
}

struct Door {
    gates: Gates,
    gate: Arc<Gate>,
    policy: Arc<ServicePolicy>,
}

impl Door {
    fn new(policy: Arc<ServicePolicy>) -> Self {
        let gates = Gates::default();
        Self { gate: gates.get(&api(), Side::Ingress), gates, policy }
    }

    fn enter(&self, peer: &str, source: u8) -> Result<Admission, Bound> {
        self.enter_over(Limits::default(), peer, source)
    }

    fn enter_over(&self, link: Limits, peer: &str, source: u8) -> Result<Admission, Bound> {
        let peer: ClusterName = peer.parse().unwrap();
        let usage = self.gates.link(&peer);
        let comer = Comer { peer: Some(&peer), source: Some([10, 0, 0, source].into()), link: Some((&usage, &link)) };
        self.gates.enter(&self.gate, &self.policy, comer)
    }
}

#[test]
fn each_bound_is_of_its_own_kind_and_given_back() {
    let limits = ServiceLimits { all: streams(4), per_peer: streams(3), per_source: streams(2) };
    let door = Door::new(policy(limits));
    let mut inside = vec![door.enter("west", 1).unwrap(), door.enter("west", 1).unwrap()];
    assert_eq!(door.enter("west", 1).unwrap_err(), Bound::SourceStreams);
    inside.push(door.enter("west", 2).unwrap());
    assert_eq!(door.enter("west", 2).unwrap_err(), Bound::PeerStreams);
    inside.push(door.enter("north", 2).unwrap());
    assert_eq!(door.enter("north", 3).unwrap_err(), Bound::ServiceStreams);
    drop(inside);
    // Whoever was refused by a wider bound has left nothing at a narrower one.
    assert_eq!(door.gate.all.streams(), 0);
    let again: Vec<_> = [("west", 1), ("west", 1), ("west", 3), ("north", 3)].map(|(p, s)| door.enter(p, s)).into();
    assert!(again.iter().all(Result::is_ok), "{again:?}");
}

/// Whatever their service: and what the peer is refused takes nothing of the service's.
#[test]
fn a_link_bounds_all_services_of_its_peer() {
    let mut api = Door::new(policy(ServiceLimits { all: streams(4), ..ServiceLimits::default() }));
    let first = api.enter_over(streams(3), "west", 1).unwrap();
    let db = ServicePort::tcp("shop/db".parse().unwrap(), 5432);
    let web = std::mem::replace(&mut api.gate, api.gates.get(&db, Side::Ingress));
    let _others: Vec<_> = (0..2).map(|n| api.enter_over(streams(3), "west", n).unwrap()).collect();
    for gate in [api.gate.clone(), web] {
        api.gate = gate;
        assert_eq!(api.enter_over(streams(3), "west", 9).unwrap_err(), Bound::LinkStreams);
    }
    assert_eq!(api.gate.all.streams(), 1);
    assert!(api.enter_over(streams(3), "north", 1).is_ok(), "another peer has its own");
    drop(first);
    assert!(api.enter_over(streams(3), "west", 9).is_ok());
}

#[test]
fn streams_from_before_a_link_had_limits_count() {
    let door = Door::new(policy(ServiceLimits::default()));
    let mut before: Vec<_> = (0..3).map(|n| door.enter("west", n).unwrap()).collect();
    assert_eq!(door.enter_over(streams(3), "west", 9).unwrap_err(), Bound::LinkStreams);
    before.pop();
    assert!(door.enter_over(streams(3), "west", 9).is_ok());
    let pending = Limits { pending: Some(2), ..Limits::default() };
    assert_eq!(door.enter_over(pending, "west", 9).unwrap_err(), Bound::LinkPending);
    before[0].taken();
    assert!(door.enter_over(pending, "west", 9).is_ok());
}

/// A full service costs nobody the streams a second of his others.
#[test]
fn who_is_refused_somewhere_has_taken_nothing_elsewhere() {
    let opens = Limits { opens_per_second: Some(2), ..Limits::default() };
    let full = policy(ServiceLimits { all: streams(1), per_peer: opens, ..ServiceLimits::default() });
    let mut door = Door::new(full);
    let _core_holds = door.gates.link(&"west".parse().unwrap());
    let first = door.enter_over(opens, "west", 1).unwrap();
    for _ in 0..10 {
        assert_eq!(door.enter_over(opens, "west", 1).unwrap_err(), Bound::ServiceStreams);
    }
    drop(first);
    assert!(door.enter_over(opens, "west", 1).is_ok());
    door.policy = policy(ServiceLimits::default());
    assert_eq!(door.enter_over(opens, "west", 1).unwrap_err(), Bound::LinkOpens);
}

/// Who waits for his own rate is in nobody else's way.
#[test]
fn the_rates_of_a_stream_go_from_the_narrowest_to_the_widest() {
    let bytes = |rate| Limits { bytes_per_second: Some(rate), ..Limits::default() };
    let door = Door::new(policy(ServiceLimits { all: bytes(4), per_peer: bytes(2), per_source: bytes(1) }));
    let admission = door.enter_over(bytes(3), "west", 1).unwrap();
    let rates: Vec<_> = admission.rates().map(|(width, usage)| (width, usage.rate())).collect();
    let usages = [1, 2, 3, 4].map(|rate| {
        let usage = Usage::default();
        usage.enter(&bytes(rate), 0).unwrap();
        usage.rate()
    });
    assert_eq!(rates, (0..).zip(usages).collect::<Vec<_>>());
}

#[test]
fn who_is_taken_is_not_pending_any_more() {
    let all = Limits { pending: Some(1), ..Limits::default() };
    let door = Door::new(policy(ServiceLimits { all, ..ServiceLimits::default() }));
    let mut first = door.enter("west", 1).unwrap();
    assert_eq!(door.enter("west", 2).unwrap_err(), Bound::ServicePending);
    first.taken();
    first.taken();
    let second = door.enter("west", 2).unwrap();
    assert_eq!(door.enter("west", 3).unwrap_err(), Bound::ServicePending);
    drop(second);
    assert!(door.enter("west", 3).is_ok());
}

#[test]
fn retries_are_of_the_service_and_end_when_a_stream_is_taken() {
    let retries = Retries { percent: 50, per_second: 0 };
    let door = Door::new(Arc::new(ServicePolicy { retries, ..ServicePolicy::default() }));
    let mut inside: Vec<_> = (0..4).map(|n| door.enter("west", n).unwrap()).collect();
    assert!(inside[0].may_retry(0) && inside[1].may_retry(0) && !inside[2].may_retry(0));
    inside[0].taken();
    assert!(inside[2].may_retry(0) && !inside[3].may_retry(0));
    inside.remove(1);
    assert!(!inside[2].may_retry(0), "one of three is");
}

#[test]
fn a_service_has_one_gate_a_side_as_long_as_anybody_holds_it() {
    let gates = Gates::default();
    let (here, there) = (gates.get(&api(), Side::Egress), gates.get(&api(), Side::Ingress));
    assert!(Arc::ptr_eq(&here, &gates.get(&api(), Side::Egress)) && here.number != there.number);
    drop((here, there));
    assert_eq!(gates.get(&api(), Side::Egress).number, 2);
    assert_eq!(gates.all.lock().unwrap().len(), 1);
}

#[test]
fn a_stream_without_limits_holds_no_room_for_them() {
    let words = size_of::<Admission>() / size_of::<usize>();
    assert!(words <= 5, "{words} words");
}
