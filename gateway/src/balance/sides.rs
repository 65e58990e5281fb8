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
//!
//! What is known here holds for all imports of a service; what belongs to one of them is in its [`Shares`].

use super::{
    Standing,
    client::Draw,
    health::{Health, HealthStatus},
    locality::{self, Candidates, Choice, Links, Tried},
    returning::Returning,
    shares::Shares,
};
use isthmus_control_api::{ClusterName, Outliers, ServicePolicy};
use std::time::Instant;

/// What one core knows of those that serve one service.
#[derive(Debug, Default, Clone)]
pub struct Sides {
    /// Clusters that have refused a stream some time; others are well.
    members: Vec<Member>,
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
    /// Where the next stream of an import goes. `shares` and `policy`: the import's; `standing`: this cluster's own endpoints.
    pub fn choose<'a>(
        &mut self,
        (shares, policy): (&mut Shares, &ServicePolicy),
        (candidates, standing): (&Candidates<'a>, Standing),
        links: &impl Links,
        (tried, draw): (&Tried, Draw),
        now: Instant,
    ) -> Option<Choice<'a>> {
        shares.grow(standing, candidates, policy, now);
        self.grow(policy, now);
        let members = &self.members;
        for pass in [Pass::Returned, Pass::Admitted, Pass::Anybody] {
            let healthy = match draw {
                Draw::Random(_) => u32::try_from(standing.healthy).unwrap_or(u32::MAX),
                // Clients stay with their cluster as long as that has an endpoint for them, so that shares must not move.
                Draw::For(_) if standing.healthy > 0 => candidates.local,
                Draw::For(_) => 0,
            };
            let finds_out = standing.healthy == 0 && standing.is_due;
            let local = match pass {
                Pass::Returned if finds_out || draw.client().part(Choice::Local.seat()) < shares.local_part() => {
                    healthy.max(1)
                }
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
            if let Some(choice) = locality::choose(&left, &reaches, tried, draw, &mut shares.rotation) {
                self.picked(&choice, policy, now);
                return Some(choice);
            }
        }
        None
    }

    /// Whether somebody who is well is left besides those in `tried`.
    pub fn has_another(
        &self,
        (candidates, standing): (&Candidates<'_>, Standing),
        links: &impl Links,
        tried: &Tried,
        now: Instant,
    ) -> bool {
        let well = |name: &ClusterName| {
            let member = self.members.iter().find(|member| member.cluster == *name);
            member.is_none_or(|member| !member.health.is_failing() && member.health.admits(now))
        };
        let reaches = |name: &ClusterName| if well(name) { links.reaches(name) } else { None };
        let local = u32::try_from(standing.healthy).unwrap_or(u32::MAX).min(candidates.local);
        locality::has_another(&Candidates { local, ..*candidates }, &reaches, tried)
    }

    /// A cluster has taken a stream.
    pub fn accepted(&mut self, cluster: &ClusterName, now: Instant) {
        if let Some(member) = self.member(cluster) {
            member.health.succeeded(now);
        }
    }

    /// A cluster has no endpoint for a stream, or none that answers in time.
    pub fn refused(&mut self, cluster: &ClusterName, policy: &ServicePolicy, now: Instant) {
        self.failed(cluster, &rules(policy), now);
    }

    /// A cluster's endpoints were late for a stream, which is for others then: that happens once, and counts when it goes on.
    pub fn late(&mut self, cluster: &ClusterName, policy: &ServicePolicy, now: Instant) {
        self.failed(cluster, &policy.outliers, now);
    }

    fn failed(&mut self, cluster: &ClusterName, rules: &Outliers, now: Instant) {
        if self.member(cluster).is_none() {
            let (health, share) = (Health::default(), Returning::default());
            self.members.push(Member { cluster: cluster.clone(), health, share });
        }
        if let Some(member) = self.member(cluster) {
            let probe = matches!(member.health.status(now), HealthStatus::Probing);
            member.health.failed(now, probe, rules, true);
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

    /// Lets everybody's part follow how they fare.
    fn grow(&mut self, policy: &ServicePolicy, now: Instant) {
        for member in &mut self.members {
            let target = if member.health.is_failing() { 0.0 } else { 1.0 };
            member.share.toward(target, now, policy.failover.recovery);
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

#[cfg(test)]
mod tests;
