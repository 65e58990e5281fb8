//! Choosing costs no allocation: neither between endpoints, by any algorithm, nor between clusters.

use isthmus_control_api::{Affinity, Algorithm, ClusterName, Endpoint, Near, ServicePolicy, Weights};
use isthmus_gateway::balance::{
    Balancer, Standing, Tried,
    client::{Client, Draw},
    locality::{self, Candidates},
    near::Place,
    sides::Sides,
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
    let endpoints: Vec<_> =
        (0..1000_u32).map(|n| Endpoint::at((std::net::Ipv4Addr::from_bits(0x0a00_0000 + n), 80).into())).collect();
    for balance in Algorithm::ALL {
        for near in [Near::Off, Near::Zone] {
            let policy =
                ServicePolicy { balance, near, slow_start: Some(Duration::from_secs(1)), ..Default::default() };
            let now = Instant::now();
            let mut balancer = Balancer::new(&endpoints, &Arc::new(policy), &Place::default(), now);
            let count = allocations(|| {
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
            });
            assert_eq!(count, 0, "{balance:?}, {near:?}");
        }
    }
}

/// Once every cluster was met: what is remembered of it takes its place then.
#[test]
fn choosing_a_cluster_allocates_nothing() {
    let clusters: BTreeMap<ClusterName, u32> = (0..20).map(|n| (format!("c{n}").parse().unwrap(), n)).collect();
    let weights = Weights { local: 5, clusters: clusters.clone(), others: true };
    let (standing, now) = (Standing { total: 9, healthy: 9, is_due: false }, Instant::now());
    for (affinity, weights) in [(Affinity::None, None), (Affinity::Remote, None), (Affinity::None, Some(&weights))] {
        let candidates = Candidates { affinity, local: 9, clusters: &clusters, weights };
        let (mut sides, policy) = (Sides::default(), ServicePolicy::default());
        let ill = "c7".parse().unwrap();
        sides.refused(&ill, &policy, now);
        let links = |_: &ClusterName| Some(Duration::from_millis(3));
        let mut choose = |n: u64| {
            let how = (&locality::Tried::default(), Draw::Random(n << 32));
            std::hint::black_box(sides.choose((&candidates, standing), &links, how, &policy, now));
        };
        (0..200).for_each(&mut choose);
        assert_eq!(allocations(|| (0..1000).for_each(&mut choose)), 0, "{affinity:?}, {weights:?}");
    }
}
