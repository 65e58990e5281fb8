//! ● Who is well of those that could serve an import's streams: this cluster, by its endpoints, and linked ones, by their answers.
//!
//! ```text
//!            who may have the stream                                  then
//! 1  is well, and its part of streams that is back has this one  ──▶ [`locality`] chooses among them
//! 2  is well, or wants a stream that finds out                   ──▶ the same
//! 3  anybody that was not tried                                  ──▶ the same
//! ```
//!
//! A cluster that answers that it has no endpoint is left out as an endpoint is that refuses ([`super::health`]): for a second, two,
//! four; then one stream finds out. Its part of streams goes at once, and comes back gradually ([`super::returning`]), as does this
//! cluster's own when its endpoints are back. Nothing of this is heeded where nobody else is left.

use super::{
    Standing,
    client::Draw,
    health::{Health, HealthStatus},
    locality::{self, Candidates, Choice, Links, Tried},
    returning::Returning,
    rotation::Rotation,
};
use isthmus_control_api::{Affinity, ClusterName, Outliers, ServicePolicy};
use std::time::Instant;

/// What one core knows of those that serve one service.
#[derive(Debug, Default, Clone)]
pub struct Sides {
    local: Returning,
    /// Clusters that have refused a stream some time; others are well.
    members: Vec<Member>,
    rotation: Rotation,
}

#[derive(Debug, Clone)]
struct Member {
    cluster: ClusterName,
    health: Health,
    share: Returning,
}

/// What is known of a cluster that has refused a stream some time.
#[derive(Debug, Clone, PartialEq)]
pub struct SideStatus {
    /// The cluster.
    pub cluster: ClusterName,
    /// Whether streams are sent there.
    pub health: HealthStatus,
    /// The part of its streams that is back, 0 to 1.
    pub part: f64,
}

/// How strict the choice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Returned,
    Admitted,
    Anybody,
}

impl Sides {
    /// Where the next stream goes. `standing`: this cluster's own endpoints; `policy`: the import's.
    pub fn choose<'a>(
        &mut self,
        candidates: &Candidates<'a>,
        standing: Standing,
        links: &impl Links,
        (tried, draw): (&Tried, Draw),
        policy: &ServicePolicy,
        now: Instant,
    ) -> Option<Choice<'a>> {
        self.grow(standing, candidates, policy, now);
        let Self { local: own, members, rotation } = self;
        for pass in [Pass::Returned, Pass::Admitted, Pass::Anybody] {
            let healthy = u32::try_from(standing.healthy).unwrap_or(u32::MAX);
            let finds_out = standing.healthy == 0 && standing.is_due;
            let local = match pass {
                Pass::Returned if finds_out || draw.client().part(Choice::Local.seat()) < own.part() => healthy.max(1),
                Pass::Admitted if finds_out || healthy > 0 => healthy.max(1),
                Pass::Returned | Pass::Admitted => 0,
                Pass::Anybody => candidates.local,
            };
            let well = |name: &ClusterName| {
                let member = members.iter().find(|member| member.cluster == *name);
                member.is_none_or(|member| member.admits(pass, draw, now))
            };
            let reaches = |name: &ClusterName| if well(name) { links.reaches(name) } else { None };
            let left = Candidates { local: local.min(candidates.local), ..*candidates };
            if let Some(choice) = locality::choose(&left, &reaches, tried, draw, rotation) {
                self.picked(&choice, policy, now);
                return Some(choice);
            }
        }
        None
    }

    /// A cluster has taken a stream.
    pub fn accepted(&mut self, cluster: &ClusterName, now: Instant) {
        if let Some(member) = self.member(cluster) {
            member.health.succeeded(now);
        }
    }

    /// A cluster has no endpoint for a stream, or none that answers in time.
    pub fn refused(&mut self, cluster: &ClusterName, policy: &ServicePolicy, now: Instant) {
        if self.member(cluster).is_none() {
            let (health, share) = (Health::default(), Returning::default());
            self.members.push(Member { cluster: cluster.clone(), health, share });
        }
        if let Some(member) = self.member(cluster) {
            let probe = matches!(member.health.status(now), HealthStatus::Probing);
            member.health.failed(now, probe, &rules(policy), true);
        }
    }

    /// A stream that was to go there says nothing of the cluster: the client has gone, or the tunnel.
    pub fn gave_up(&mut self, cluster: &ClusterName) {
        if let Some(member) = self.member(cluster) {
            member.health.gave_up(true);
        }
    }

    /// Forgets clusters that are not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&ClusterName) -> bool) {
        self.members.retain(|member| is_there(&member.cluster));
    }

    /// What is known of clusters that have refused a stream some time.
    pub fn snapshot(&self, now: Instant) -> Vec<SideStatus> {
        let status = |member: &Member| SideStatus {
            cluster: member.cluster.clone(),
            health: member.health.status(now),
            part: member.share.part(),
        };
        self.members.iter().map(status).collect()
    }

    /// The part of this cluster's own streams that it gets, 0 to 1, as of the last stream.
    pub fn local_part(&self) -> f64 {
        self.local.part()
    }

    /// Lets everybody's part follow how they fare.
    fn grow(&mut self, standing: Standing, candidates: &Candidates<'_>, policy: &ServicePolicy, now: Instant) {
        let recovery = policy.failover.recovery;
        if candidates.local > 0 {
            let shrinks = candidates.affinity == Affinity::Local && candidates.weights.is_none();
            self.local.toward(target(standing, if shrinks { policy.failover.healthy } else { 0 }), now, recovery);
        }
        for member in &mut self.members {
            member.share.toward(if member.health.is_failing() { 0.0 } else { 1.0 }, now, recovery);
        }
    }

    fn picked(&mut self, choice: &Choice<'_>, policy: &ServicePolicy, now: Instant) {
        if let Choice::Cluster(name) = choice
            && let Some(member) = self.member(name)
        {
            member.health.picked(now, &rules(policy));
        }
    }

    fn member(&mut self, cluster: &ClusterName) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.cluster == *cluster)
    }
}

impl Member {
    fn admits(&self, pass: Pass, draw: Draw, now: Instant) -> bool {
        let finds_out = || self.health.is_ejected();
        let is_back = || draw.client().part(Choice::Cluster(&self.cluster).seat()) < self.share.part();
        match pass {
            Pass::Returned => self.health.admits(now) && (finds_out() || is_back()),
            Pass::Admitted => self.health.admits(now),
            Pass::Anybody => true,
        }
    }
}

/// A cluster has many endpoints, and says that it has none after it has tried several: once is enough.
fn rules(policy: &ServicePolicy) -> Outliers {
    Outliers { failures: 1, ..policy.outliers }
}

/// The part of this cluster's streams that it should have, where it should have all while so many percent are healthy.
fn target(standing: Standing, healthy: u32) -> f64 {
    let (total, threshold) = (standing.total as f64, f64::from(healthy) / 100.0);
    let share = standing.healthy as f64 / total.max(1.0);
    if standing.healthy == 0 {
        0.0
    } else if share >= threshold {
        1.0
    } else {
        share / threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, time::Duration};

    struct World {
        sides: Sides,
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
            Self { sides: Sides::default(), clusters, affinity, standing, random: 1, now: Instant::now() }
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
            match self.sides.choose(&candidates, self.standing, &links, how, &policy, self.now) {
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
    fn a_probe_that_was_given_up_leaves_room_for_the_next() {
        let mut world = World::new(Affinity::Remote, &[1, 1]);
        world.sides.refused(&c0(), &ServicePolicy::default(), world.now);
        world.after(2);
        while world.next() != "c0" {}
        assert!((0..20).all(|_| world.next() == "c1"));
        world.sides.gave_up(&c0());
        assert!((0..20).any(|_| world.next() == "c0"));
    }
}
