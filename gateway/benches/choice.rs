//! What a choice costs, in nanoseconds: `cargo bench -p isthmus-gateway --bench choice`.
//!
//! A choice is all that a stream's balancer does for it: pick, the time that connecting took, the time to the first byte, the end.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it found")]

use isthmus_control_api::{Affinity, Algorithm, ClusterName, Endpoint, ServicePolicy};
use isthmus_gateway::balance::{
    Balancer, Standing, Tried,
    client::{Client, Draw},
    locality::{self, Candidates},
    near::Place,
    shares::Shares,
    sides::Sides,
};
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long one figure is measured.
const TIME: Duration = Duration::from_millis(300);

fn main() {
    println!("{:<16}{:>12}{:>12}{:>12}", "ns a stream", "10", "1,000", "10,000");
    for balance in Algorithm::ALL {
        let figures = [10, 1000, 10_000].map(|count| endpoints(balance, count));
        println!("{:<16}{:>12.0}{:>12.0}{:>12.0}", balance.as_str(), figures[0], figures[1], figures[2]);
    }
    println!("\n{:<16}{:>12}{:>12}", "ns a stream", "2", "20");
    for affinity in [Affinity::Local, Affinity::Remote, Affinity::None] {
        let figures = [2, 20].map(|count| clusters(affinity, count));
        println!("clusters, {:<6}{:>12.0}{:>12.0}", format!("{affinity:?}").to_lowercase(), figures[0], figures[1]);
    }
}

/// Between so many endpoints.
fn endpoints(balance: Algorithm, count: u32) -> f64 {
    let all: Vec<_> = (0..count).map(|n| Endpoint::at((Ipv4Addr::from_bits(0x0a00_0000 + n), 80).into())).collect();
    let policy = Arc::new(ServicePolicy { balance, ..ServicePolicy::default() });
    let begun = Instant::now();
    let mut balancer = Balancer::new(&all, &policy, &Place::default(), begun);
    measure(|n| {
        let now = begun + Duration::from_micros(10 * n);
        let draw = match balance {
            Algorithm::SourceAddress => Draw::For(Client::at(Ipv4Addr::from_bits(n as u32).into())),
            _ => Draw::Random(n.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17)),
        };
        if let Some(pick) = balancer.pick(now, draw, &Tried::default()) {
            balancer.connected(&pick, Duration::from_micros(200 + n % 100), now);
            balancer.answered(pick.id(), Some(Duration::from_millis(2)), now);
            balancer.released(pick, now);
        }
    })
}

/// Between this cluster and so many others.
fn clusters(affinity: Affinity, count: u32) -> f64 {
    let all: BTreeMap<ClusterName, u32> =
        (0..count).filter_map(|n| Some((format!("cluster-{n}").parse().ok()?, 1 + n % 5))).collect();
    let (standing, policy, now) =
        (Standing { total: 4, healthy: 4, is_due: false }, ServicePolicy::default(), Instant::now());
    let candidates = Candidates { affinity, local: 4, clusters: &all, weights: None };
    let (mut sides, mut shares) = (Sides::default(), Shares::default());
    measure(|n| {
        let how = (&locality::Tried::default(), Draw::Random(n.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17)));
        let links = |_: &ClusterName| Some(Duration::from_millis(3));
        std::hint::black_box(sides.choose((&mut shares, &policy), (&candidates, standing), &links, how, now));
    })
}

/// Nanoseconds that `act` takes, on average.
fn measure(mut act: impl FnMut(u64)) -> f64 {
    let (begun, mut times) = (Instant::now(), 0);
    while begun.elapsed() < TIME {
        (times..times + 64).for_each(&mut act);
        times += 64;
    }
    begun.elapsed().as_secs_f64() * 1e9 / times as f64
}
