//! Choosing costs no allocation: neither between endpoints, by any algorithm, nor between clusters; nor does deciding by policies.

use isthmus_control_api::{
    AccessPolicy, Affinity, Algorithm, ClusterName, Endpoint, Near, ServicePolicy, ServicePort, Weights,
    access::{Action, Rule, SourceMatch},
};
use isthmus_gateway::{
    balance::{
        Balancer, Standing, Tried,
        client::{Client, Draw},
        locality::{self, Candidates},
        near::Place,
        shares::Shares,
        sides::Sides,
    },
    policy::{Caller, Policies},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, and how often this thread has asked it for something.
struct Counting;

// SAFETY: every call goes to the system's allocator as it is; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `alloc` above, and so from the system's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(act: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    act();
    ALLOCATIONS.get() - before
}

#[test]
fn the_count_sees_an_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn choosing_an_endpoint_allocates_nothing() {
    for count in [10, 1_000, 10_000] {
        for balance in Algorithm::ALL {
            for near in [Near::Off, Near::Zone] {
                let policy =
                    ServicePolicy { balance, near, slow_start: Some(Duration::from_secs(1)), ..Default::default() };
                assert_eq!(of_choices(count, policy), 0, "{count} endpoints, {balance:?}, {near:?}");
            }
        }
    }
}

/// Allocations of a thousand choices between so many endpoints, with all that balancers are told of streams.
fn of_choices(endpoints: u32, policy: ServicePolicy) -> u64 {
    let address = |n: u32| (std::net::Ipv4Addr::from_bits(0x0a00_0000 + n), 80).into();
    let endpoints: Vec<_> = (0..endpoints).map(|n| Endpoint::at(address(n))).collect();
    let now = Instant::now();
    let mut balancer = Balancer::new(&endpoints, &Arc::new(policy), &Place::default(), now);
    allocations(|| {
        for n in 0..1000 {
            let client = Client::at(std::net::Ipv4Addr::from_bits(n).into());
            let draw = if n % 7 == 0 { Draw::For(client) } else { Draw::Random(u64::from(n) << 40) };
            let Some(pick) = balancer.pick(now, draw, &Tried::default()) else { continue };
            if n % 11 == 0 {
                balancer.failed(pick, now);
                continue;
            }
            balancer.connected(&pick, Duration::from_micros(300), now);
            balancer.answered(pick.id(), Some(Duration::from_millis(2)), now);
            balancer.released(pick, now);
        }
        std::hint::black_box(balancer.standing(now));
    })
}

/// Once every cluster was met: what is remembered of it takes its place then.
#[test]
fn choosing_a_cluster_allocates_nothing() {
    let clusters: BTreeMap<ClusterName, u32> = (0..20).map(|n| (format!("c{n}").parse().unwrap(), n)).collect();
    let weights = Weights { local: 5, clusters: clusters.clone(), others: true };
    let (standing, now) = (Standing { total: 9, healthy: 9, is_due: false }, Instant::now());
    for (affinity, weights) in [(Affinity::None, None), (Affinity::Remote, None), (Affinity::None, Some(&weights))] {
        let candidates = Candidates { affinity, local: 9, clusters: &clusters, weights };
        let (mut sides, mut shares, policy) = (Sides::default(), Shares::default(), ServicePolicy::default());
        let ill = "c7".parse().unwrap();
        sides.refused(&ill, &policy, now);
        let links = |_: &ClusterName| Some(Duration::from_millis(3));
        let mut choose = |n: u64| {
            let how = (&locality::Tried::default(), Draw::Random(n << 32));
            std::hint::black_box(sides.choose((&mut shares, &policy), (&candidates, standing), &links, how, now));
        };
        (0..200).for_each(&mut choose);
        assert_eq!(allocations(|| (0..1000).for_each(&mut choose)), 0, "{affinity:?}, {weights:?}");
    }
}

/// Of 10,000 rules for all services, by each thing that a rule can state.
#[test]
fn deciding_by_policies_allocates_nothing() {
    const RULES: usize = 10_000;
    let by: [fn(usize) -> SourceMatch; 4] = [
        |n| SourceMatch {
            service_accounts: [format!("n{}/a{n}", n / 100).parse().unwrap()].into(),
            ..Default::default()
        },
        |n| SourceMatch { namespaces: [format!("n{}", n / 100).into()].into(), ..Default::default() },
        |n| SourceMatch { clusters: [format!("c{}", n % 100).parse().unwrap()].into(), ..Default::default() },
        |n| SourceMatch {
            cidrs: [format!("10.1.{}.{}", n >> 8, n & 255).parse().unwrap()].into(),
            ..Default::default()
        },
    ];
    for (what, from) in by.into_iter().enumerate() {
        let rule =
            |n: usize| Rule { name: format!("r{n}").parse().unwrap(), action: Action::Allow, from: vec![from(n)] };
        let rules = (0..RULES).map(rule).collect();
        let policy = AccessPolicy { services: ["*".parse().unwrap()].into(), rules, ..AccessPolicy::default() };
        let policies = Policies::new(&[("all".parse().unwrap(), Arc::new(policy))].into());
        let (cluster, service) = ("c7".parse().unwrap(), ServicePort::tcp("shop/s0".parse().unwrap(), 80));
        for (known, number) in [(true, 7), (false, RULES + 1)] {
            let id = format!("spiffe://west.demo/ns/n{}/sa/a{number}", number / 100).parse().unwrap();
            let unknown: ClusterName = "elsewhere".parse().unwrap();
            let (cluster, last) = if known { (&cluster, 7) } else { (&unknown, 9) };
            let address = [10, if known { 1 } else { 2 }, 0, last];
            let caller = Caller::new(cluster, &id, Some(address.into()));
            assert_eq!(policies.decide(&caller, &service).allowed, known, "by {what}");
            let count = allocations(|| {
                for _ in 0..100 {
                    std::hint::black_box(policies.decide(std::hint::black_box(&caller), &service));
                }
            });
            assert_eq!(count, 0, "by {what}, known: {known}");
        }
    }
}
