use super::{health::HealthStatus, *};
use client::Client;
use proptest::prelude::*;

#[path = "algorithms.rs"]
mod algorithms;
mod checked;
#[path = "simulation.rs"]
mod simulation;

fn endpoints(ports: impl IntoIterator<Item = u16>) -> Vec<Endpoint> {
    ports.into_iter().map(|port| Endpoint::at(([10, 0, 0, 2], port).into())).collect()
}

const FAILURES: u32 = 3;
const SHORTEST: Duration = Duration::from_secs(1);

fn balancer(ports: impl IntoIterator<Item = u16>) -> Balancer {
    with(ports, ServicePolicy::default())
}

fn with(ports: impl IntoIterator<Item = u16>, policy: ServicePolicy) -> Balancer {
    Balancer::new(&endpoints(ports), &Arc::new(policy), &Place::default(), Instant::now())
}

impl Balancer {
    fn set(&mut self, ports: impl IntoIterator<Item = u16>) {
        let policy = self.policy.clone();
        self.update(&endpoints(ports), &policy, &Place::default(), Instant::now());
    }
}

/// Numbers that look random and are the same in every run.
fn randoms() -> impl Iterator<Item = u64> {
    (1_u64..).map(|i| i.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17))
}

fn none() -> Tried {
    Tried::default()
}

fn health(balancer: &Balancer, now: Instant, port: u16) -> HealthStatus {
    balancer.snapshot(now).into_iter().find(|status| status.address.port() == port).unwrap().health
}

#[test]
fn the_loaded_one_of_two_is_left_alone() {
    let (now, mut balancer) = (Instant::now(), balancer([1, 2]));
    for random in randoms().take(100) {
        let _ = balancer.pick(now, Draw::Random(random), &none()).unwrap();
    }
    let in_flight: Vec<_> = balancer.snapshot(now).iter().map(|status| status.in_flight).collect();
    assert_eq!(in_flight, [50, 50]);
}

#[test]
fn a_slow_endpoint_gets_fewer_streams() {
    let (mut now, mut balancer) = (Instant::now(), balancer([1, 2]));
    let mut counts = [0; 2];
    for random in randoms().take(1000) {
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        let slow = pick.address.port() == 2;
        counts[usize::from(slow)] += 1;
        let took = Duration::from_millis(if slow { 200 } else { 1 });
        now += took;
        balancer.connected(&pick, took, now);
        balancer.released(pick, now);
    }
    assert!(counts[0] > 900 && counts[1] > 0, "{counts:?}");
}

#[test]
fn a_client_stays_with_its_endpoint_as_long_as_that_is_healthy() {
    let mut now = Instant::now();
    let all: Vec<u16> = (1..=5).collect();
    let mut balancer = balancer(all.clone());
    let own = |n: u8| Draw::For(Client::at([10, 0, 0, n].into()));
    let port = |balancer: &mut Balancer, now, n| {
        let pick = balancer.pick(now, own(n), &none()).unwrap();
        let port = pick.address.port();
        balancer.released(pick, now);
        port
    };
    let first: Vec<_> = (0..50).map(|n| port(&mut balancer, now, n)).collect();
    assert!(all.iter().all(|port| first.contains(port)), "they are spread: {first:?}");
    // Load does not matter, nor does the order of the list.
    let _loaded: Vec<_> = (0..100).map(|_| balancer.pick(now, own(0), &none()).unwrap()).collect();
    balancer.set(all.iter().rev().copied());
    assert_eq!((0..50).map(|n| port(&mut balancer, now, n)).collect::<Vec<_>>(), first);

    // One fails: its clients go elsewhere, and nobody else.
    let gone = first[0];
    for _ in 0..FAILURES {
        let pick = balancer.pick(now, own(0), &none()).unwrap();
        assert_eq!(pick.address.port(), gone);
        balancer.failed(pick, now);
    }
    for n in 0..50 {
        let (was, is) = (first[usize::from(n)], port(&mut balancer, now, n));
        assert_eq!(was == is, was != gone, "client {n}: {was}, now {is}");
    }
    // Once it works again, they are back.
    now += Duration::from_mins(5);
    let probe = balancer.pick(now, own(0), &none()).unwrap();
    assert_eq!(probe.address.port(), gone);
    balancer.connected(&probe, Duration::from_millis(1), now);
    balancer.released(probe, now);
    assert_eq!((0..50).map(|n| port(&mut balancer, now, n)).collect::<Vec<_>>(), first);
}

#[test]
fn a_clients_stream_tries_others_once_its_own_endpoint_was_tried() {
    let (now, mut balancer) = (Instant::now(), balancer([1, 2, 3]));
    let (own, mut tried, mut ports) = (Draw::For(Client::at([10, 0, 0, 9].into())), none(), vec![]);
    while let Some(pick) = balancer.pick(now, own, &tried) {
        tried.insert(&pick);
        ports.push(pick.address.port());
        balancer.failed(pick, now);
    }
    ports.sort_unstable();
    assert_eq!(ports, [1, 2, 3]);
}

#[test]
fn a_dead_endpoint_costs_three_attempts_then_one_for_each_probe() {
    let (start, mut balancer) = (Instant::now(), balancer([1, 2, 3, 4]));
    let mut failures = 0;
    // Ten streams each millisecond for 120 seconds would be many; one each 10 ms tells the same.
    for (i, random) in (0_u64..12_000).zip(randoms()) {
        let now = start + Duration::from_millis(10 * i);
        let mut tried = none();
        while let Some(pick) = balancer.pick(now, Draw::Random(random), &tried) {
            tried.insert(&pick);
            if pick.address.port() == 2 {
                failures += 1;
                balancer.failed(pick, now);
            } else {
                balancer.connected(&pick, Duration::from_millis(1), now);
                balancer.released(pick, now);
                break;
            }
        }
    }
    // Ejected for 1, 2, 4 … 60 seconds: seven probes within two minutes.
    assert!((FAILURES + 5..=FAILURES + 7).contains(&failures), "{failures}");
}

#[test]
fn who_is_late_gives_way_and_who_is_overtaken_has_failed_until_it_answers() {
    let (now, mut balancer, mut randoms) = (Instant::now(), balancer([1, 2]), randoms());
    let mut pick = |balancer: &mut Balancer| loop {
        let pick = balancer.pick(now, Draw::Random(randoms.next().unwrap()), &none()).unwrap();
        if pick.address.port() == 1 {
            return pick;
        }
        balancer.released(pick, now);
    };
    let first = pick(&mut balancer);
    let cost = |balancer: &Balancer| balancer.snapshot(now)[0].cost.streams;
    assert_eq!(cost(&balancer), 2.0);
    balancer.late(&first, now);
    assert_eq!(cost(&balancer), 4.0);
    balancer.overtaken(&first, now);
    for _ in 1..FAILURES {
        let mut tried = none();
        let other = balancer.pick(now, Draw::Random(1), &tried).unwrap();
        tried.insert(&other);
        let pick = balancer.pick(now, Draw::Random(1), &tried).unwrap();
        balancer.released(other, now);
        balancer.overtaken(&pick, now);
        balancer.released(pick, now);
    }
    assert!(matches!(health(&balancer, now, 1), HealthStatus::Ejected(_)));
    balancer.connected(&first, Duration::from_millis(300), now);
    assert_eq!(health(&balancer, now, 1), HealthStatus::Healthy);
    balancer.released(first, now);
    assert_eq!(balancer.snapshot(now).iter().map(|status| status.in_flight).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn a_retry_takes_another_endpoint_and_ends() {
    let (now, mut balancer) = (Instant::now(), balancer(1..=10));
    let mut tried = none();
    let mut ports = HashSet::new();
    while let Some(pick) = balancer.pick(now, Draw::Random(99), &tried) {
        tried.insert(&pick);
        assert!(ports.insert(pick.address.port()));
        balancer.failed(pick, now);
    }
    assert_eq!(ports.len(), MAX_TRIED);
}

#[test]
fn while_all_are_failing_all_are_candidates() {
    let (now, mut balancer) = (Instant::now(), balancer([1, 2, 3]));
    for random in randoms().take(200) {
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        balancer.failed(pick, now);
    }
    let mut met = HashSet::new();
    for random in randoms().take(200) {
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        met.insert(pick.address.port());
        balancer.released(pick, now);
    }
    assert_eq!(met.len(), 3);
    // One is back: the others are left out again, those that may be.
    let pick = balancer.pick(now, Draw::Random(1), &none()).unwrap();
    let back = pick.address.port();
    balancer.connected(&pick, Duration::ZERO, now);
    balancer.released(pick, now);
    assert_eq!(health(&balancer, now, back), HealthStatus::Healthy);
    for random in randoms().take(200) {
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        let port = pick.address.port();
        assert!(port == back || health(&balancer, now, port) == HealthStatus::Failing);
        balancer.released(pick, now);
    }
}

/// One stream to each endpoint in turn, of which `dead` refuses, until `dead` is ejected.
fn eject(balancer: &mut Balancer, now: Instant, dead: u16) {
    let mut randoms = randoms();
    while !matches!(health(balancer, now, dead), HealthStatus::Ejected(_)) {
        let pick = balancer.pick(now, Draw::Random(randoms.next().unwrap()), &none()).unwrap();
        if pick.address.port() == dead {
            balancer.failed(pick, now);
        } else {
            // Streams that stay, so that the loaded one looks worse than the dead one now and then.
            balancer.connected(&pick, Duration::ZERO, now);
        }
    }
}

#[test]
fn a_retry_rather_takes_an_ejected_endpoint_than_none() {
    let (now, mut balancer) = (Instant::now(), balancer([1, 2]));
    eject(&mut balancer, now, 1);
    let pick = balancer.pick(now, Draw::Random(7), &none()).unwrap();
    assert_eq!(pick.address.port(), 2);
    let mut tried = none();
    tried.insert(&pick);
    balancer.failed(pick, now);
    let pick = balancer.pick(now, Draw::Random(7), &tried).unwrap();
    assert_eq!(pick.address.port(), 1);
    balancer.released(pick, now);
}

#[test]
fn an_idle_gateway_comes_back_to_an_endpoint_that_failed_once() {
    let (now, mut balancer) = (Instant::now(), balancer([1, 2]));
    let pick = balancer.pick(now, Draw::Random(1), &none()).unwrap();
    let failed = pick.address.port();
    balancer.failed(pick, now);
    let tried_again = |balancer: &mut Balancer, now: Instant| {
        randoms().take(100).any(|random| {
            let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
            let port = pick.address.port();
            balancer.released(pick, now);
            port == failed
        })
    };
    assert!(!tried_again(&mut balancer, now));
    assert!(tried_again(&mut balancer, now + SHORTEST));
}

#[test]
fn an_update_keeps_the_state_of_those_that_stay() {
    let (now, mut balancer) = (Instant::now(), balancer([1, 2, 3]));
    let mut picks: Vec<Pick> =
        randoms().take(30).map(|random| balancer.pick(now, Draw::Random(random), &none()).unwrap()).collect();
    balancer.set([4, 3, 1, 3]);
    assert_eq!(balancer.len(), 3);
    let in_flight: HashMap<u16, u32> =
        balancer.snapshot(now).iter().map(|status| (status.address.port(), status.in_flight)).collect();
    let of = |port| picks.iter().filter(|pick| pick.address.port() == port).count() as u32;
    assert_eq!(in_flight, HashMap::from([(4, 0), (3, of(3)), (1, of(1))]));
    // An endpoint that left and came back is a new one: what its old streams do is not its fault.
    balancer.set([1, 2, 3]);
    picks.drain(..).for_each(|pick| balancer.released(pick, now));
    assert!(balancer.snapshot(now).iter().all(|status| status.in_flight == 0));
}

/// A service that is gone and back has another balancer, in which the streams of the first one mean nothing.
#[test]
fn streams_that_outlive_their_balancer_do_not_touch_the_next() {
    let now = Instant::now();
    let mut first = balancer([1]);
    let late = [(); 3].map(|()| first.pick(now, Draw::Random(1), &none()).unwrap());
    drop(first);
    let mut second = balancer([1]);
    let pick = second.pick(now, Draw::Random(1), &none()).unwrap();
    let before = second.snapshot(now);
    let [failed, released, connected] = late;
    second.connected(&connected, Duration::from_secs(9), now);
    second.failed(failed, now);
    second.released(released, now);
    second.released(connected, now);
    assert_eq!(second.snapshot(now), before);
    assert_eq!(before[0].in_flight, 1);
    second.released(pick, now);
}

/// The same for an address that leaves a list and comes back to it.
#[test]
fn streams_of_an_endpoint_that_left_do_not_touch_the_one_that_comes_at_its_address() {
    let (now, mut balancer) = (Instant::now(), balancer([1]));
    let late = [(); 2].map(|()| balancer.pick(now, Draw::Random(1), &none()).unwrap());
    balancer.set([2]);
    balancer.set([1]);
    let pick = balancer.pick(now, Draw::Random(1), &none()).unwrap();
    let before = balancer.snapshot(now);
    let [failed, released] = late;
    balancer.failed(failed, now);
    balancer.released(released, now);
    assert_eq!(balancer.snapshot(now), before);
    balancer.released(pick, now);
}

/// What a caller can do, as numbers that the test turns into calls.
#[derive(Debug, Clone)]
enum Step {
    Pick(u64),
    Connected(usize, u64),
    Heard(usize),
    Silent(usize),
    Failed(usize),
    Released(usize),
    Update(Vec<u16>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u64>().prop_map(Step::Pick),
        2 => (any::<usize>(), 0_u64..100_000).prop_map(|(i, micros)| Step::Connected(i, micros)),
        1 => any::<usize>().prop_map(Step::Heard),
        1 => any::<usize>().prop_map(Step::Silent),
        4 => any::<usize>().prop_map(Step::Failed),
        2 => any::<usize>().prop_map(Step::Released),
        1 => proptest::collection::vec(1_u16..12, 0..12).prop_map(Step::Update),
        1 => (0_u64..100_000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Against a model that only counts: whatever happens in whatever order, streams in flight are those picked and not over,
    /// never too many are ejected, and a stream finds an endpoint whenever there is one.
    #[test]
    fn counts_and_bounds_hold_in_any_order(steps in steps()) {
        let mut now = Instant::now();
        let mut balancer = balancer([1, 2, 3]);
        let mut picks: Vec<Pick> = vec![];
        let mut last_ejected = 0;
        for step in steps {
            let mut updated = false;
            match step {
                Step::Pick(random) => match balancer.pick(now, Draw::Random(random), &none()) {
                    Some(pick) => picks.push(pick),
                    None => prop_assert!(balancer.nodes.iter().all(|node| node.health.is_failing() && node.trying > 0)),
                },
                Step::Connected(i, micros) if !picks.is_empty() => {
                    balancer.connected(&picks[i % picks.len()], Duration::from_micros(micros), now);
                }
                Step::Heard(i) if !picks.is_empty() => balancer.heard(&picks[i % picks.len()], now),
                Step::Silent(i) if !picks.is_empty() => balancer.silent(&picks[i % picks.len()], now),
                Step::Failed(i) if !picks.is_empty() => balancer.failed(picks.swap_remove(i % picks.len()), now),
                Step::Released(i) if !picks.is_empty() => balancer.released(picks.swap_remove(i % picks.len()), now),
                Step::Update(ports) => {
                    balancer.set(ports);
                    updated = true;
                }
                Step::Wait(millis) => now += Duration::from_millis(millis),
                _ => {}
            }
            let tally = balancer.nodes.iter().fold(Tally::default(), |tally, node| tally.with(&node.health));
            prop_assert_eq!(balancer.tally, tally);
            // An update may take the healthy ones away; nothing else may leave too few.
            let bound = outlier::most_ejected(balancer.len(), 50).max(last_ejected);
            prop_assert!(updated || tally.ejected <= bound);
            last_ejected = tally.ejected;
            for node in &balancer.nodes {
                let open = || picks.iter().filter(|pick| pick.id.key == node.key);
                prop_assert_eq!(node.load.in_flight() as usize, open().count());
                prop_assert_eq!(node.trying as usize, open().filter(|pick| !pick.settled.get()).count());
            }
        }
    }
}
