//! What a decision of access policies costs with 10,000 rules: `cargo bench -p isthmus-gateway --bench policy`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark on names of its own, which prints what it found"
)]

use isthmus_control_api::{
    AccessPolicy, Cidr, ClusterName, PolicyName, ServicePort,
    access::{Action, Rule, SourceMatch},
};
use isthmus_gateway::policy::{Caller, Policies};
use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

type Table = BTreeMap<PolicyName, Arc<AccessPolicy>>;

const RULES: usize = 10_000;
/// Decisions of one sample, and samples, of which the median is told.
const DECISIONS: u32 = 20_000;
const SAMPLES: usize = 21;

fn main() {
    println!("{:<44} {:>10} {:>10} {:>10}", "10,000 rules", "made in", "first rule", "no rule");
    for (name, table) in [
        ("none", Table::new()),
        ("of 1,000 policies, each for a service", by_service()),
        ("for all services, by service account", for_all(by_account)),
        ("for all services, by cluster and namespace", for_all(by_namespace)),
        ("for all services, by network", for_all(by_network)),
        ("for all services, all alike but for the name", for_all(|_| SourceMatch::default())),
    ] {
        let begun = Instant::now();
        let policies = Policies::new(&table);
        let made = begun.elapsed();
        let [known, unknown] = [0, RULES + 1].map(|n| decision(&policies, n));
        println!(
            "{name:<44} {:>7.1} ms {:>7} ns {:>7} ns",
            made.as_secs_f64() * 1e3,
            known.as_nanos(),
            unknown.as_nanos()
        );
    }
}

/// What one decision takes, for the source that the rule of this number is for.
fn decision(policies: &Policies, number: usize) -> Duration {
    let cluster: ClusterName = format!("c{}", number % 100).parse().unwrap();
    let id = format!("spiffe://west.demo/ns/n{}/sa/a{number}", number / 100).parse().unwrap();
    let address = [10, 1, (number >> 8) as u8, number as u8];
    let caller = Caller::new(&cluster, &id, Some(address.into()));
    let service = ServicePort::tcp("shop/s0".parse().unwrap(), 80);
    let mut samples: Vec<_> = (0..SAMPLES)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..DECISIONS {
                black_box(policies.decide(black_box(&caller), black_box(&service)));
            }
            begun.elapsed() / DECISIONS
        })
        .collect();
    samples.sort();
    samples[SAMPLES / 2]
}

fn rule(number: usize, from: SourceMatch) -> Rule {
    let from = if from.is_empty() { Vec::new() } else { vec![from] };
    Rule { name: format!("r{number}").parse().unwrap(), action: Action::Allow, from }
}

fn by_service() -> Table {
    let policy = |service: usize| {
        let rules = (0..10).map(|n| rule(n, by_account(service * 10 + n))).collect();
        let services = [format!("shop/s{service}").parse().unwrap()].into();
        (format!("p{service}").parse().unwrap(), Arc::new(AccessPolicy { services, rules, ..AccessPolicy::default() }))
    };
    (0..RULES / 10).map(policy).collect()
}

fn for_all(from: impl Fn(usize) -> SourceMatch) -> Table {
    let rules = (0..RULES).map(|n| rule(n, from(n))).collect();
    let policy = AccessPolicy { services: ["*".parse().unwrap()].into(), rules, ..AccessPolicy::default() };
    [("all".parse().unwrap(), Arc::new(policy))].into()
}

fn by_account(number: usize) -> SourceMatch {
    let account = format!("n{}/a{number}", number / 100).parse().unwrap();
    SourceMatch { service_accounts: [account].into(), ..SourceMatch::default() }
}

fn by_namespace(number: usize) -> SourceMatch {
    let clusters = [format!("c{}", number % 100).parse().unwrap()].into();
    SourceMatch { clusters, namespaces: [format!("n{}", number / 100).into()].into(), ..SourceMatch::default() }
}

fn by_network(number: usize) -> SourceMatch {
    let mut cidrs = [format!("10.1.{}.{}", number >> 8, number & 255).parse().unwrap()].into();
    // Of every length of prefix there is one: each costs a look.
    if number <= 32 {
        cidrs = [Cidr::around([192, 0, 2, 1].into(), u8::try_from(number).unwrap_or(32))].into();
    }
    SourceMatch { cidrs, ..SourceMatch::default() }
}
