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
        let peer: ClusterName = peer.parse().unwrap();
        let comer = Comer { peer: Some(&peer), source: Some([10, 0, 0, source].into()) };
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
    assert!(words <= 4, "{words} words");
}
