//! ● Which of two definitions of a custom resource is newer.

use serde_json::Value;
use std::collections::BTreeSet;

/// How the Multi-Cluster Services API numbers its definitions: by release, and within one.
const RELEASE: &str = "multicluster.x-k8s.io/release-version";
const REVISION: &str = "multicluster.x-k8s.io/crd-schema-revision";
/// How we number ours.
const OWN: &str = "isthmus.io/crd-schema-revision";

/// What is to be done with a definition that is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ours takes its place: it is as new, or newer.
    Apply,
    /// It stays.
    Keep,
    /// It has to stay, and does not do.
    Lacks(String),
}

/// What is to be done with `found` where `shipped` is to be.
pub(super) fn compare(found: &Value, shipped: &Value) -> Verdict {
    let replaces = match (number(found), number(shipped)) {
        (Some(found), Some(shipped)) => shipped >= found,
        // Without a number it is from before there were any, if it is a kind of ours; else somebody else's.
        (None, _) => shipped["spec"]["group"] == "isthmus.io",
        (Some(_), None) => false,
    };
    if replaces {
        return Verdict::Apply;
    }
    let lacking: Vec<_> = served(shipped).difference(&served(found)).cloned().collect();
    if lacking.is_empty() {
        return Verdict::Keep;
    }
    Verdict::Lacks(format!(
        "found a definition by somebody else that does not serve {}, expected that: have it brought up to date",
        lacking.join(", ")
    ))
}

/// Its number: release and revision.
fn number(definition: &Value) -> Option<(Vec<u64>, u64)> {
    let label = |name: &str| definition["metadata"]["labels"][name].as_str();
    let revision = |name| label(name).and_then(|text| text.parse().ok());
    if let Some(own) = revision(OWN) {
        return Some((Vec::new(), own));
    }
    // A pre-release counts as its release: v0.6.0-rc.1 is newer than v0.5.2.
    let release = label(RELEASE)?.trim_start_matches('v').split(['-', '+']).next()?;
    let release: Option<Vec<u64>> = release.split('.').map(|part| part.parse().ok()).collect();
    Some((release?, revision(REVISION).unwrap_or(0)))
}

fn served(definition: &Value) -> BTreeSet<String> {
    let versions = definition["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let served = versions.iter().filter(|version| version["served"] == true);
    served.filter_map(|version| version["name"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(labels: &[(&str, &str)], group: &str, versions: &[&str]) -> Value {
        let labels: serde_json::Map<_, _> = labels.iter().map(|(key, value)| ((*key).into(), json!(value))).collect();
        let versions: Vec<_> = versions.iter().map(|name| json!({"name": name, "served": true})).collect();
        json!({"metadata": {"labels": labels}, "spec": {"group": group, "versions": versions}})
    }

    fn mcs(release: &str, revision: &str) -> Value {
        definition(&[(RELEASE, release), (REVISION, revision)], "multicluster.x-k8s.io", &["v1alpha1", "v1beta1"])
    }

    #[test]
    fn what_is_newer_stays() {
        let shipped = mcs("v0.5.2", "3");
        for (release, revision, verdict) in [
            ("v0.5.2", "3", Verdict::Apply),
            ("v0.5.2", "2", Verdict::Apply),
            ("v0.4.9", "9", Verdict::Apply),
            ("v0.5.2", "4", Verdict::Keep),
            ("v0.5.10", "0", Verdict::Keep),
            ("v0.6.0-rc.1", "0", Verdict::Keep),
            ("v1.0.0", "0", Verdict::Keep),
        ] {
            assert_eq!(compare(&mcs(release, revision), &shipped), verdict, "{release} {revision}");
        }
    }

    #[test]
    fn somebody_elses_stays_if_it_will_do() {
        let shipped = mcs("v0.5.2", "3");
        let other = |versions: &[&str]| definition(&[], "multicluster.x-k8s.io", versions);
        assert_eq!(compare(&other(&["v1beta1", "v1alpha1"]), &shipped), Verdict::Keep);
        let Verdict::Lacks(why) = compare(&other(&["v1alpha1"]), &shipped) else { panic!("it lacks a version") };
        assert!(why.contains("does not serve v1beta1"), "{why}");
    }

    #[test]
    fn one_of_ours_without_a_number_is_older() {
        let shipped = definition(&[(OWN, "2")], "isthmus.io", &["v1alpha1"]);
        assert_eq!(compare(&definition(&[], "isthmus.io", &["v1alpha1"]), &shipped), Verdict::Apply);
        assert_eq!(compare(&definition(&[(OWN, "3")], "isthmus.io", &["v1alpha1"]), &shipped), Verdict::Keep);
    }
}
