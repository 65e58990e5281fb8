//! ● Which clusters clients are to prefer, as annotations say.

use super::{Problem, asked::unheeded, here::Here};
use crate::compat::istio::Zones;
use isthmus_control_api::{Affinity, ClusterName, Weights};
use kube::{Resource, ResourceExt as _};

/// On a ServiceExport, Service or ServiceImport: `local`, `remote` or `none`.
pub const AFFINITY: &str = "isthmus.io/affinity";
/// On the same: shares, as `east=80,west=20`. A cluster without one serves while none that has one is ready.
pub const WEIGHTS: &str = "isthmus.io/weights";

/// What clients are to prefer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Preference {
    pub(super) affinity: Affinity,
    pub(super) weights: Option<Weights>,
    /// Whether an annotation says so: no rule of another system counts beside it.
    pub(super) is_own: bool,
}

/// What an object says that clients are to prefer, and what of it makes no sense; `None` if it says nothing.
pub(super) fn of<K: Resource>(object: &K, own: &ClusterName) -> Option<(Preference, Vec<Problem>)> {
    let said = |key| object.annotations().get(key).map(String::as_str);
    let (affinity, weights) = (said(AFFINITY), said(WEIGHTS));
    if affinity.is_none() && weights.is_none() {
        return None;
    }
    let mut problems = Vec::new();
    let mut problem = |key, found: &str, expected| {
        let found: String = found.chars().take(80).collect();
        problems.push(Problem::Unheeded { what: format!("{key}: found {found:?}, expected {expected}") });
    };
    let affinity = affinity.and_then(|said| {
        let affinity = parse_affinity(said);
        if affinity.is_none() {
            problem(AFFINITY, said, "local, remote or none");
        }
        affinity
    });
    let weights = weights.and_then(|said| {
        let weights = parse_weights(said, own);
        if weights.is_none() {
            problem(
                WEIGHTS,
                said,
                "cluster=weight for at most 256 clusters, each once, joined by commas, one of them not 0",
            );
        }
        weights
    });
    Some((Preference { affinity: affinity.unwrap_or_default(), weights, is_own: true }, problems))
}

/// Takes what a DestinationRule says of the service, where no annotation does; what of it is not so.
pub(super) fn by_rule(here: &mut Here<'_>) -> Vec<Problem> {
    let Some(rule) = here.cx.rules.get(here.key) else { return Vec::new() };
    let mut notes = rule.notes.clone();
    if !here.preference.is_own {
        let own = &here.cx.settings.cluster;
        let mut zones: Zones<'_> =
            here.constituents.iter().map(|(c, of)| (c, of.zones.keys().cloned().collect())).collect();
        zones.entry(own).or_default().extend(here.cx.world.zones.values().cloned());
        let (weights, more) = rule.weights(own, &zones);
        notes.extend(more);
        here.preference.weights = weights;
        here.preference.affinity = rule.affinity.unwrap_or_default();
    }
    notes.into_iter().map(unheeded).collect()
}

/// One cluster and no other.
pub(super) fn only(cluster: &ClusterName) -> Weights {
    Weights { local: 0, clusters: [(cluster.clone(), 1)].into(), others: false }
}

fn parse_affinity(said: &str) -> Option<Affinity> {
    match said {
        "local" => Some(Affinity::Local),
        "remote" => Some(Affinity::Remote),
        "none" => Some(Affinity::None),
        _ => None,
    }
}

fn parse_weights(said: &str, own: &ClusterName) -> Option<Weights> {
    let mut weights = Weights { others: true, ..Weights::default() };
    let mut seen_own = false;
    for (n, part) in said.split(',').enumerate() {
        let (cluster, weight) = part.trim().split_once('=')?;
        let (cluster, weight): (ClusterName, u32) = (cluster.trim().parse().ok()?, weight.trim().parse().ok()?);
        let is_new = if cluster == *own {
            weights.local = weight;
            !std::mem::replace(&mut seen_own, true)
        } else {
            weights.clusters.insert(cluster, weight).is_none()
        };
        if !is_new || n >= isthmus_control::MOST_LINKS {
            return None;
        }
    }
    (weights.local > 0 || weights.clusters.values().any(|weight| *weight > 0)).then_some(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcs::tests::service;
    use k8s_openapi::api::core::v1::Service;

    fn said(key: &str, value: &str) -> (Preference, Vec<Problem>) {
        let mut service = service("shop/api", &[]);
        service.metadata.annotations = Some([(key.to_owned(), value.to_owned())].into());
        of(&service, &"west".parse().unwrap()).unwrap()
    }

    #[test]
    fn annotations_are_taken_or_named() {
        assert_eq!(of(&Service::default(), &"west".parse().unwrap()), None);
        assert_eq!(said(AFFINITY, "remote").0.affinity, Affinity::Remote);
        let (preference, problems) = said(WEIGHTS, "east=80, west=20");
        let weights = preference.weights.unwrap();
        assert_eq!((weights.local, &weights.clusters), (20, &[("east".parse().unwrap(), 80)].into()));
        assert!(problems.is_empty());
        for bad in ["", "east", "east=", "east=x", "east=-1", "east=1,east=1", "west=1,west=1", "east=0,west=0", "E=1"]
        {
            let (preference, problems) = said(WEIGHTS, bad);
            assert!(preference.weights.is_none() && problems.len() == 1, "{bad:?}");
        }
        let (_, problems) = said(AFFINITY, "near");
        let expected = "isthmus.io/affinity: found \"near\", expected local, remote or none";
        assert_eq!(problems, [Problem::Unheeded { what: expected.into() }]);
    }
}
