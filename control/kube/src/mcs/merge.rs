//! ● What a service of the clusterset is, from what each exporting cluster says. The oldest export wins, ties go by cluster id; so every
//! cluster comes to the same, in whatever order it heard of the others.

use super::{
    conflicts::{Conflict, Field},
    import::is_reserved,
    ports::SCTP,
};
use isthmus_control::exchange::summary::{Family, Port, PortSummary, Summary};
use isthmus_control_api::{ClusterName, Protocol};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The exporting clusters.
pub(super) type Constituents = BTreeMap<ClusterName, Arc<Summary>>;

/// The service of the clusterset.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Merged {
    /// Whose export is the oldest.
    pub(super) oldest: ClusterName,
    /// That export, for all that is taken from it as it is.
    pub(super) from: Arc<Summary>,
    /// The union of all ports, by number. If there are several, all have names.
    pub(super) ports: BTreeMap<Port, MergedPort>,
    /// The same of SCTP, which no gateway carries.
    pub(super) sctp: BTreeMap<u16, MergedPort>,
    /// Of the oldest that says it.
    pub(super) families: Vec<Family>,
    /// In what they disagree.
    pub(super) conflicts: Vec<Conflict>,
}

/// What else there is to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MergedPort {
    pub(super) name: Option<Arc<str>>,
    pub(super) app_protocol: Option<Arc<str>>,
}

/// What they are together; `None` of none.
pub(super) fn merge(constituents: &Constituents) -> Option<Merged> {
    let mut by_age: Vec<_> = constituents.iter().collect();
    by_age.sort_by_key(|(cluster, summary)| (summary.since, *cluster));
    let &(oldest, from) = by_age.first()?;
    let summaries: Vec<&Summary> = by_age.iter().map(|(_, summary)| &***summary).collect();
    let (ports, sctp) = ports(&summaries);
    Some(Merged {
        oldest: oldest.clone(),
        from: from.clone(),
        ports,
        sctp,
        families: summaries.iter().map(|of| &of.families).find(|of| !of.is_empty()).cloned().unwrap_or_default(),
        conflicts: conflicts(from, &summaries),
    })
}

/// A port's number and protocol; none: SCTP.
type Key = (u16, Option<Protocol>);

/// The ports of a service, of all protocols.
fn all_ports(of: &Summary) -> impl Iterator<Item = (Key, &PortSummary)> {
    let carried = of.ports.iter().map(|(key, port)| ((key.number, Some(key.protocol)), port));
    carried.chain(of.sctp.iter().map(|(number, port)| ((*number, None), port)))
}

/// The union, by name and then by number and protocol: of two that clash, the older one's.
fn ports(by_age: &[&Summary]) -> (BTreeMap<Port, MergedPort>, BTreeMap<u16, MergedPort>) {
    let mut ports = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (key, port) in by_age.iter().flat_map(|summary| all_ports(summary)) {
        let is_known = port.name.as_ref().is_some_and(|name| names.contains(name)) || ports.contains_key(&key);
        if !is_known {
            names.extend(port.name.clone());
            ports.insert(key, MergedPort { name: port.name.clone(), app_protocol: port.app_protocol.clone() });
        }
    }
    if ports.len() > 1 {
        name_all(&mut ports, &mut names);
    }
    let (mut carried, mut sctp) = (BTreeMap::new(), BTreeMap::new());
    for ((number, protocol), port) in ports {
        match protocol {
            Some(protocol) => drop(carried.insert(Port { number, protocol }, port)),
            None => drop(sctp.insert(number, port)),
        }
    }
    (carried, sctp)
}

/// Gives a name to those that have none, as each of several ports must have one.
fn name_all(ports: &mut BTreeMap<Key, MergedPort>, names: &mut BTreeSet<Arc<str>>) {
    for ((number, protocol), port) in ports.iter_mut().filter(|(_, port)| port.name.is_none()) {
        let plain = format!("{}-{number}", protocol.map_or(SCTP, Protocol::as_str).to_lowercase());
        let mut name: Arc<str> = plain.as_str().into();
        // Ends: there are fewer names than numbers.
        for n in 0..=names.len() {
            if !names.contains(&name) {
                break;
            }
            name = format!("{plain}-{n}").into();
        }
        names.insert(name.clone());
        port.name = Some(name);
    }
}

fn conflicts(winner: &Summary, all: &[&Summary]) -> Vec<Conflict> {
    let conflict = |field, using: String, differs: &dyn Fn(&Summary) -> bool| {
        let disagree = all.iter().filter(|other| differs(other)).count();
        (disagree > 0).then_some(Conflict { field, using, disagree })
    };
    let quoted = |text: &str| format!("\"{text}\"");
    let ports = |of: &Summary| -> Vec<_> {
        all_ports(of).map(|(key, port)| (key, port.name.clone(), port.app_protocol.clone())).collect()
    };
    let timeout = winner.affinity.unwrap_or_default();
    let both = |other: &Summary| winner.affinity.is_some() && other.affinity.is_some();
    [
        conflict(Field::Ports, "all ports, where they clash those".into(), &|of| ports(of) != ports(winner)),
        conflict(Field::Type, quoted(type_name(winner)), &|of| of.headless != winner.headless),
        conflict(Field::SessionAffinity, quoted(affinity_name(winner)), &|of| {
            of.affinity.is_some() != winner.affinity.is_some()
        }),
        conflict(Field::SessionAffinityConfig, quoted(&format!("{timeout}s")), &|of| {
            both(of) && of.affinity != winner.affinity
        }),
        conflict(Field::Labels, "the labels".into(), &|of| of.labels != winner.labels),
        conflict(Field::Annotations, "the annotations".into(), &|of| !shown(of).eq(shown(winner))),
        conflict(Field::InternalTrafficPolicy, quoted(policy_name(winner)), &|of| of.node_local != winner.node_local),
        conflict(
            Field::TrafficDistribution,
            quoted(winner.traffic_distribution.as_deref().unwrap_or_default()),
            &|of| of.traffic_distribution != winner.traffic_distribution,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The annotations that imports show.
fn shown(of: &Summary) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
    of.annotations.iter().filter(|(key, _)| !is_reserved(key))
}

pub(super) fn type_name(of: &Summary) -> &'static str {
    if of.headless { "Headless" } else { "ClusterSetIP" }
}

pub(super) fn affinity_name(of: &Summary) -> &'static str {
    if of.affinity.is_some() { "ClientIP" } else { "None" }
}

pub(super) fn policy_name(of: &Summary) -> &'static str {
    if of.node_local { "Local" } else { "Cluster" }
}

#[cfg(test)]
mod tests;
