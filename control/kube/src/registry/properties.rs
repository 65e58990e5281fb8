//! ● What the cluster says of itself: its id and its clusterset's name (KEP-2149).

use crate::{
    api::about::{CLUSTER_ID, CLUSTERSET, ClusterProperty, ClusterPropertySpec},
    apply::{Kind, Write, writes},
    index::Index,
    mcs::{MANAGED_BY, MANAGER, Settings},
};
use kube::ResourceExt as _;

/// The properties that there are to be.
pub(super) const NAMES: [&str; 2] = [CLUSTER_ID, CLUSTERSET];

/// What is to be written of a property. One that somebody else has set stays as it is.
pub(super) fn write(name: &str, settings: &Settings, index: &Index) -> Option<Write> {
    let observed = index.property(name);
    if observed.is_some_and(|property| !is_ours(property)) {
        return None;
    }
    let mut wanted = ClusterProperty::new(name, ClusterPropertySpec { value: value(name, settings)?.into() });
    wanted.labels_mut().insert(MANAGED_BY.into(), MANAGER.into());
    writes::object(Kind::Property, &wanted, observed)
}

/// What is wrong with the properties that somebody else has set.
pub(super) fn problems(settings: &Settings, index: &Index) -> Vec<String> {
    let problem = |name: &&str| {
        let (property, wanted) = (index.property(name)?, value(name, settings)?);
        let found = &property.spec.value;
        (!is_ours(property) && found != wanted)
            .then(|| format!("ClusterProperty {name}: found {found:?}, which is not ours, expected {wanted:?}"))
    };
    NAMES.iter().filter_map(problem).collect()
}

fn value<'a>(name: &str, settings: &'a Settings) -> Option<&'a str> {
    match name {
        CLUSTER_ID => Some(settings.cluster.as_str()),
        CLUSTERSET => Some(settings.clusterset.as_str()),
        _ => None,
    }
}

/// Whether it carries our mark. Who applied it does not tell: another's change takes the field from us.
fn is_ours(property: &ClusterProperty) -> bool {
    property.labels().get(MANAGED_BY).is_some_and(|by| by == MANAGER)
}
