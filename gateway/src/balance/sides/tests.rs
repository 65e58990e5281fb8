use super::*;
use isthmus_control_api::Affinity;
use std::{collections::BTreeMap, time::Duration};

struct World {
    sides: Sides,
    shares: Shares,
    clusters: BTreeMap<ClusterName, u32>,
    affinity: Affinity,
    standing: Standing,
    random: u64,
    now: Instant,
}

impl World {
    /// With four local endpoints, and so many in clusters c0, c1 …
    fn new(affinity: Affinity, ready: &[u32]) -> Self {
        let clusters = ready.iter().enumerate().map(|(i, &n)| (format!("c{i}").parse().unwrap(), n)).collect();
        let standing = Standing { total: 4, healthy: 4, is_due: false };
        Self {
            sides: Sides::default(),
            shares: Shares::default(),
            clusters,
            affinity,
            standing,
            random: 1,
            now: Instant::now(),
        }
    }

    /// Where the next stream goes: "" is here.
    fn next(&mut self) -> String {
        self.random = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17);
        let candidates = Candidates {
            affinity: self.affinity,
            local: u32::try_from(self.standing.total).unwrap(),
            clusters: &self.clusters,
            weights: None,
        };
        let links = |_: &ClusterName| Some(Duration::from_millis(1));
        let how = (&Tried::default(), Draw::Random(self.random));
        let policy = ServicePolicy::default();
        match self.sides.choose((&mut self.shares, &policy), (&candidates, self.standing), &links, how, self.now) {
            Some(Choice::Local) => String::new(),
            Some(Choice::Cluster(name)) => name.to_string(),
            None => "nowhere".into(),
        }
    }

    /// How many of 1,000 streams go to each.
    fn spread(&mut self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        (0..1000).for_each(|_| *counts.entry(self.next()).or_default() += 1);
        counts
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }
}

fn c0() -> ClusterName {
    "c0".parse().unwrap()
}

#[test]
fn what_the_healthy_ones_cannot_carry_goes_elsewhere() {
    let mut world = World::new(Affinity::Local, &[3]);
    for (healthy, local) in [(4, 1000), (2, 1000), (1, 500), (0, 0)] {
        world.standing.healthy = healthy;
        let spread = world.spread();
        let found = spread.get("").copied().unwrap_or(0);
        assert!(found.abs_diff(local) <= 60, "{healthy} of 4 healthy: {spread:?}");
    }
}

#[test]
fn one_stream_finds_out_and_the_others_come_back_gradually() {
    let mut world = World::new(Affinity::Local, &[3]);
    world.standing.healthy = 0;
    assert_eq!(world.spread().get(""), None);
    world.standing.is_due = true;
    assert_eq!(world.next(), "");
    // It was well, and so are the others.
    world.standing = Standing { total: 4, healthy: 4, is_due: false };
    world.after(1);
    let shares = [1, 4, 4, 2].map(|seconds| world.after(seconds).spread()[""]);
    let about = shares.iter().zip([200_u32, 600, 1000, 1000]).all(|(share, due)| share.abs_diff(due) <= 60);
    assert!(about, "{shares:?}");
}

/// Endpoints that come and go around the threshold, twice a second: what has left comes back as slowly as ever, and does not go to and fro.
#[test]
fn endpoints_that_flap_around_the_threshold_do_not_move_streams_to_and_fro() {
    let mut world = World::new(Affinity::Local, &[3]);
    let spreads: Vec<_> = (0..40)
        .map(|step| {
            world.standing.healthy = if step % 2 == 0 { 1 } else { 4 };
            world.now += Duration::from_millis(250);
            i64::from(world.spread().get("").copied().unwrap_or(0))
        })
        .collect();
    // One of four healthy carries half. What a quarter of a second gives back is a fortieth, and the draws are a thousand.
    assert!(spreads.iter().all(|local| (440..600).contains(local)), "{spreads:?}");
    world.standing.healthy = 4;
    let shares = [2, 4, 8].map(|seconds| world.after(seconds).spread()[""]);
    assert!(shares[0] < 800 && shares[2] == 1000, "and once they are there for good, it is: {shares:?}");
}

#[test]
fn a_cluster_that_has_no_endpoint_is_left_until_it_has() {
    let mut world = World::new(Affinity::Remote, &[1, 1]);
    let policy = ServicePolicy::default();
    world.sides.refused(&c0(), &policy, world.now);
    assert_eq!(world.spread(), BTreeMap::from([("c1".into(), 1000)]));
    world.after(1);
    let probes: Vec<_> = (0..50).map(|_| world.next()).filter(|name| name == "c0").collect();
    assert_eq!(probes.len(), 1, "one stream finds out");
    world.sides.refused(&c0(), &policy, world.now);
    assert_eq!(world.after(1).spread().get("c0"), None, "out for two seconds now");
    world.after(1);
    while world.next() != "c0" {}
    world.sides.accepted(&c0(), world.now);
    let shares = [0, 5, 5].map(|seconds| world.after(seconds).spread().get("c0").copied().unwrap_or(0));
    assert!(shares[0] < 20 && (150..420).contains(&shares[1]) && shares[2] >= 480, "{shares:?}");
}

#[test]
fn where_nobody_else_is_left_health_is_not_heeded() {
    let mut world = World::new(Affinity::Remote, &[1]);
    world.standing = Standing::default();
    world.sides.refused(&c0(), &ServicePolicy::default(), world.now);
    assert_eq!(world.next(), "c0");
    world.clusters.clear();
    assert_eq!(world.next(), "nowhere");
}

#[test]
fn a_cluster_that_is_late_once_is_not_left_out() {
    let mut world = World::new(Affinity::Local, &[3]);
    let policy = ServicePolicy::default();
    let out =
        |world: &World| world.sides.snapshot(world.now).iter().any(|of| matches!(of.health, HealthStatus::Ejected(_)));
    for late in 1..=policy.outliers.failures {
        assert!(!out(&world), "before the {late}th");
        world.sides.late(&c0(), &policy, world.now);
    }
    assert!(out(&world));
}

#[test]
fn a_probe_that_was_given_up_leaves_room_for_the_next() {
    let mut world = World::new(Affinity::Remote, &[1, 1]);
    world.sides.refused(&c0(), &ServicePolicy::default(), world.now);
    world.after(2);
    while world.next() != "c0" {}
    assert!((0..20).all(|_| world.next() == "c1"));
    world.sides.gave_up(&c0());
    assert!((0..20).any(|_| world.next() == "c0"));
}

/// A client stays with its cluster when some of that one's endpoints fail.
#[test]
fn clients_do_not_move_for_an_endpoint_that_fails() {
    use crate::balance::client::Client;
    let world = World::new(Affinity::None, &[3, 2]);
    let candidates = Candidates { affinity: Affinity::None, local: 4, clusters: &world.clusters, weights: None };
    let links = |_: &ClusterName| Some(Duration::from_millis(1));
    let of = |n: u8, healthy| {
        let draw = Draw::For(Client::at([10, 0, 0, n].into()));
        let (standing, policy) = (Standing { total: 4, healthy, is_due: false }, ServicePolicy::default());
        let (mut sides, mut shares, how) = (Sides::default(), Shares::default(), (&Tried::default(), draw));
        let choice = sides.choose((&mut shares, &policy), (&candidates, standing), &links, how, world.now);
        format!("{:?}", choice.unwrap())
    };
    assert!((0..200).all(|n| of(n, 4) == of(n, 1)));
}
