//! ● Why a stream went where it did: whom there was to choose from, and how each fared at that moment.

use crate::balance::{
    EndpointStatus, Standing,
    health::HealthStatus,
    locality::{self, Candidates},
    sides::SideStatus,
};
use isthmus_control_api::{Affinity, ClusterName};
use serde::Serialize;
use std::time::Duration;

/// Candidates of a choice that are noted: first who was chosen, then those that were left out, then others in their order.
pub(crate) const CANDIDATES: usize = 8;
/// Choices of a stream that are noted: more than it may have attempts, at clusters and at endpoints.
pub(crate) const CHOICES: usize = 12;

/// One choice, of a cluster or of an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Choice {
    /// Who it was.
    chosen: String,
    /// Whom there was to choose from, himself among them.
    candidates: Vec<Candidate>,
    /// How many more there were.
    others: usize,
}

/// Who could be chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Candidate {
    /// A cluster's name, or an endpoint's address.
    name: String,
    /// Of an endpoint: what one more stream would cost there, streams times milliseconds. Of two, the cheaper takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    /// Of a cluster: its share, in ready endpoints or as the import says, less what is not back yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    /// Of a cluster: the round trip, in milliseconds, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    /// Why it was no candidate, or only if there was no better one.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<String>,
}

impl Choice {
    /// `chosen` of `candidates`, of which there were `total`.
    pub(crate) fn new(chosen: String, mut candidates: Vec<Candidate>, total: usize) -> Self {
        if !candidates.iter().any(|candidate| candidate.name == chosen) {
            // There are many, and it was not among the first of them.
            candidates.truncate(CANDIDATES - 1);
            candidates.push(Candidate::named(chosen.clone()));
        }
        candidates.sort_by_key(|candidate| (candidate.name != chosen, candidate.left_out.is_none()));
        candidates.truncate(CANDIDATES);
        Self { chosen, others: total.saturating_sub(candidates.len()), candidates }
    }
}

impl Candidate {
    fn named(name: String) -> Self {
        Self { name, score: None, share: None, rtt_ms: None, left_out: None }
    }

    /// An endpoint. `tried`: whether the stream had been tried there.
    pub(crate) fn endpoint(status: &EndpointStatus, tried: bool) -> Self {
        let why = || status.why.map_or("fails", |why| why.as_str());
        let left_out = match status.health {
            _ if tried => Some("tried".to_owned()),
            HealthStatus::Healthy => None,
            HealthStatus::Failing => Some(format!("failing: it {}", why())),
            HealthStatus::Ejected(left) => Some(format!("ejected for {:.1} s: it {}", left.as_secs_f64(), why())),
            HealthStatus::Probing => Some("one stream is finding out whether it is back".to_owned()),
            HealthStatus::Down => Some("its checks fail".to_owned()),
        };
        Self { score: Some(rounded(status.cost.product() * 1e3)), left_out, ..Self::named(status.address.to_string()) }
    }

    /// The clusters that could have a stream; this one first, if it could. `own`: its name; `link`: the round trip to those that a live
    /// tunnel leads to, zero where it was not measured; `tried`: whether the stream had been tried there, `None` being here.
    pub(crate) fn clusters(
        own: &str,
        (candidates, standing): (&Candidates<'_>, Standing),
        link: impl Fn(&ClusterName) -> Option<Duration>,
        known: &[SideStatus],
        tried: impl Fn(Option<&ClusterName>) -> bool,
    ) -> Vec<Self> {
        let here = (candidates.local > 0).then(|| {
            let left_out =
                if tried(None) { Some("tried") } else { (standing.healthy == 0).then_some("no endpoint is healthy") };
            let share = candidates.weights.map_or(candidates.local, |weights| weights.local);
            Self { share: Some(share.into()), left_out: left_out.map(str::to_owned), ..Self::named(own.to_owned()) }
        });
        let there = candidates.clusters.iter().map(|(name, &ready)| {
            let (trip, known) = (link(name), known.iter().find(|of| of.cluster == *name));
            let share = candidates.weights.map_or(ready, |of| of.clusters.get(name).copied().unwrap_or_default());
            let left_out = if tried(Some(name)) {
                Some("tried".to_owned())
            } else if ready == 0 {
                Some("no endpoint is ready".to_owned())
            } else if trip.is_none() {
                Some("no live tunnel leads there".to_owned())
            } else {
                known.and_then(|of| match of.health {
                    HealthStatus::Ejected(left) => Some(format!(
                        "ejected for {:.1} s: it has answered that it has no endpoint",
                        left.as_secs_f64()
                    )),
                    HealthStatus::Probing => Some("one stream is finding out whether it is back".to_owned()),
                    _ => None,
                })
            };
            let rtt = trip.filter(|trip| !trip.is_zero());
            Self {
                share: Some(rounded(f64::from(share) * known.map_or(1.0, |of| of.part))),
                rtt_ms: rtt.map(|trip| rounded(trip.as_secs_f64() * 1e3)),
                left_out,
                ..Self::named(name.to_string())
            }
        });
        let (mut here, mut there): (Vec<_>, Vec<_>) = (here.into_iter().collect(), there.collect());
        match (candidates.weights, candidates.affinity) {
            (Some(_), _) => pass_over(here.iter_mut().chain(&mut there), "it has no share", |of| of.share == Some(0.0)),
            (None, Affinity::None) => {}
            (None, affinity) => {
                let nearest = left(&there).filter_map(|of| of.rtt_ms).reduce(f64::min);
                let is_far = |of: &Self| of.rtt_ms.zip(nearest).is_some_and(|(trip, nearest)| trip > as_near(nearest));
                pass_over(there.iter_mut(), "nearer ones come first", is_far);
                if affinity == Affinity::Local && left(&here).next().is_some() {
                    pass_over(there.iter_mut(), "this cluster comes first", |_| true);
                } else if affinity == Affinity::Remote && left(&there).next().is_some() {
                    pass_over(here.iter_mut(), "other clusters come first", |_| true);
                }
            }
        }
        here.append(&mut there);
        here
    }
}

/// Those that nothing is against so far.
fn left(candidates: &[Candidate]) -> impl Iterator<Item = &Candidate> {
    candidates.iter().filter(|candidate| candidate.left_out.is_none())
}

/// Leaves out those that `is_meant` and that nothing was against so far.
fn pass_over<'c>(
    candidates: impl Iterator<Item = &'c mut Candidate>,
    why: &str,
    is_meant: impl Fn(&Candidate) -> bool,
) {
    for candidate in candidates.filter(|candidate| candidate.left_out.is_none()) {
        if is_meant(candidate) {
            candidate.left_out = Some(why.to_owned());
        }
    }
}

/// Up to where a round trip is as short as the shortest one, in milliseconds.
fn as_near(nearest: f64) -> f64 {
    locality::as_near(Duration::from_secs_f64(nearest / 1e3)).as_secs_f64() * 1e3
}

/// To the thousandth.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::Weights;
    use std::collections::BTreeMap;

    fn endpoint(host: u8, health: HealthStatus) -> Candidate {
        let address = ([10, 0, 0, host], 80).into();
        Candidate::endpoint(&EndpointStatus { health, ..EndpointStatus::unused(address) }, false)
    }

    #[test]
    fn who_was_chosen_comes_first_and_those_that_were_left_out_before_the_others() {
        let ejected = HealthStatus::Ejected(Duration::from_secs(2));
        let mut all: Vec<_> = (1..=20).map(|host| endpoint(host, HealthStatus::Healthy)).collect();
        all[6] = endpoint(7, ejected);
        let choice = Choice::new("10.0.0.3:80".into(), all, 20);
        let names: Vec<_> = choice.candidates.iter().map(|candidate| candidate.name.as_str()).collect();
        assert_eq!((names.len(), choice.others), (CANDIDATES, 12));
        assert_eq!(names[..3], ["10.0.0.3:80", "10.0.0.7:80", "10.0.0.1:80"]);
        assert_eq!(choice.candidates[1].left_out.as_deref(), Some("ejected for 2.0 s: it fails"));
        let unlisted = Choice::new("10.0.0.99:80".into(), vec![endpoint(1, ejected); CANDIDATES], 10_000);
        assert_eq!((unlisted.candidates[0].name.as_str(), unlisted.others), ("10.0.0.99:80", 9_992));
    }

    #[test]
    fn of_each_cluster_it_says_why_it_could_not_be() {
        let name = |name: &str| name.parse::<ClusterName>().unwrap();
        let clusters: BTreeMap<_, _> =
            ["busy", "dead", "gone", "near"].iter().zip([4, 4, 0, 2]).map(|(of, ready)| (name(of), ready)).collect();
        let weights = Weights { local: 20, clusters: [(name("near"), 80)].into(), others: false };
        let candidates =
            Candidates { affinity: Affinity::None, local: 3, clusters: &clusters, weights: Some(&weights) };
        let standing = Standing { total: 3, healthy: 0, is_due: false };
        let link = |of: &ClusterName| (of.as_str() != "dead").then_some(Duration::from_micros(7_100));
        let busy = SideStatus {
            cluster: name("busy"),
            health: HealthStatus::Ejected(Duration::from_millis(1_500)),
            part: 0.5,
        };
        let all = Candidate::clusters("west", (&candidates, standing), link, &[busy], |of| of.is_none());
        let said: Vec<_> = all.iter().map(|of| (of.name.as_str(), of.share, of.left_out.as_deref())).collect();
        let expected = [
            ("west", Some(20.0), Some("tried")),
            ("busy", Some(0.0), Some("ejected for 1.5 s: it has answered that it has no endpoint")),
            ("dead", Some(0.0), Some("no live tunnel leads there")),
            ("gone", Some(0.0), Some("no endpoint is ready")),
            ("near", Some(80.0), None),
        ];
        assert_eq!((&said[..], all[4].rtt_ms), (&expected[..], Some(7.1)));
    }

    #[test]
    fn who_comes_first_leaves_out_the_others() {
        let name = |name: &str| name.parse::<ClusterName>().unwrap();
        let clusters: BTreeMap<_, _> = [(name("far"), 4), (name("near"), 4)].into();
        let link = |of: &ClusterName| Some(Duration::from_millis(if of.as_str() == "far" { 80 } else { 3 }));
        let said = |affinity, healthy| {
            let candidates = Candidates { affinity, local: 3, clusters: &clusters, weights: None };
            let standing = Standing { total: 3, healthy, is_due: false };
            let all = Candidate::clusters("west", (&candidates, standing), link, &[], |_| false);
            all.into_iter().map(|of| of.left_out.unwrap_or_default()).collect::<Vec<_>>()
        };
        let (first, nearer) = ("this cluster comes first", "nearer ones come first");
        assert_eq!(said(Affinity::None, 3), ["", "", ""]);
        assert_eq!(said(Affinity::Local, 3), ["", nearer, first]);
        assert_eq!(said(Affinity::Local, 0), ["no endpoint is healthy", nearer, ""]);
        assert_eq!(said(Affinity::Remote, 3), ["other clusters come first", nearer, ""]);
    }
}
