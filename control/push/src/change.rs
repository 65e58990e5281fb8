//! ● What differs between two tables.

use isthmus_control_api::{
    AccessPolicy, Cidr, ClusterName, Export, Import, Link, Listen, PolicyName, Relaying, ServicePort, Table, Workload,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Which entries of a table differ from another's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    imports: BTreeSet<Listen>,
    exports: BTreeSet<ServicePort>,
    links: BTreeSet<ClusterName>,
    relay: bool,
    sources: BTreeSet<Cidr>,
    policies: BTreeSet<PolicyName>,
}

/// What these entries are in one of the two; `None`: not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) imports: BTreeMap<Listen, Option<Arc<Import>>>,
    pub(crate) exports: BTreeMap<ServicePort, Option<Arc<Export>>>,
    pub(crate) links: BTreeMap<ClusterName, Option<Link>>,
    pub(crate) relay: Option<Relaying>,
    pub(crate) sources: BTreeMap<Cidr, Option<Arc<Workload>>>,
    pub(crate) policies: BTreeMap<PolicyName, Option<Arc<AccessPolicy>>>,
}

impl Touched {
    /// What differs between `one` and `other`, but for their versions.
    pub(crate) fn between(one: &Table, other: &Table) -> Self {
        Self {
            imports: differing(&one.imports, &other.imports),
            exports: differing(&one.exports, &other.exports),
            links: differing(&one.links, &other.links),
            relay: one.relay != other.relay,
            sources: differing(&one.sources, &other.sources),
            policies: differing(&one.policies, &other.policies),
        }
    }

    /// Adds what `more` has.
    pub(crate) fn merge(&mut self, more: &Self) {
        self.imports.extend(more.imports.iter().cloned());
        self.exports.extend(more.exports.iter().cloned());
        self.links.extend(more.links.iter().cloned());
        self.relay |= more.relay;
        self.sources.extend(more.sources.iter().copied());
        self.policies.extend(more.policies.iter().cloned());
    }

    /// How many entries.
    pub(crate) fn len(&self) -> usize {
        let Self { imports, exports, links, relay, sources, policies } = self;
        imports.len() + exports.len() + links.len() + usize::from(*relay) + sources.len() + policies.len()
    }
}

impl Change {
    /// What the entries that were touched are in `table`.
    pub(crate) fn to(table: &Table, touched: Touched) -> Self {
        let Touched { imports, exports, links, relay, sources, policies } = touched;
        Self {
            imports: taken(imports, &table.imports),
            exports: taken(exports, &table.exports),
            links: taken(links, &table.links),
            relay: relay.then(|| table.relay.clone()),
            sources: taken(sources, &table.sources),
            policies: taken(policies, &table.policies),
        }
    }

    /// What makes `table` of the empty one.
    pub(crate) fn whole(table: &Table) -> Self {
        Self {
            imports: table.imports.iter().map(|(key, import)| (key.clone(), Some(import.clone()))).collect(),
            exports: table.exports.iter().map(|(key, export)| (key.clone(), Some(export.clone()))).collect(),
            links: table.links.iter().map(|(key, link)| (key.clone(), Some(link.clone()))).collect(),
            relay: Some(table.relay.clone()),
            sources: table.sources.iter().map(|(key, workload)| (*key, Some(workload.clone()))).collect(),
            policies: table.policies.iter().map(|(key, policy)| (key.clone(), Some(policy.clone()))).collect(),
        }
    }

    /// The table that this makes of `before`.
    pub(crate) fn apply(self, before: &Table, version: u64) -> Table {
        let mut table = Table { version, ..before.clone() };
        put(&mut table.imports, self.imports);
        put(&mut table.exports, self.exports);
        put(&mut table.links, self.links);
        if let Some(relay) = self.relay {
            table.relay = relay;
        }
        put(&mut table.sources, self.sources);
        put(&mut table.policies, self.policies);
        table
    }

    /// Adds what `more` says, which counts where both say something.
    pub(crate) fn extend(&mut self, more: Self) {
        self.imports.extend(more.imports);
        self.exports.extend(more.exports);
        self.links.extend(more.links);
        self.relay = more.relay.or(self.relay.take());
        self.sources.extend(more.sources);
        self.policies.extend(more.policies);
    }

    /// How many entries.
    pub(crate) fn len(&self) -> usize {
        let Self { imports, exports, links, relay, sources, policies } = self;
        imports.len() + exports.len() + links.len() + usize::from(relay.is_some()) + sources.len() + policies.len()
    }
}

/// How many entries a table has: as many as [`Change::whole`] of it.
pub(crate) fn entries(table: &Table) -> usize {
    table.imports.len() + table.exports.len() + table.links.len() + table.sources.len() + table.policies.len() + 1
}

/// The keys at which they differ: both are walked through once, together.
fn differing<K: Ord + Clone, V: PartialEq>(one: &BTreeMap<K, V>, other: &BTreeMap<K, V>) -> BTreeSet<K> {
    let mut keys = BTreeSet::new();
    let (mut ours, mut theirs) = (one.iter().peekable(), other.iter().peekable());
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return keys,
        };
        let (a, b) = (if order.is_le() { ours.next() } else { None }, if order.is_ge() { theirs.next() } else { None });
        if a.map(|(_, value)| value) != b.map(|(_, value)| value) {
            keys.extend(a.or(b).map(|(key, _)| key.clone()));
        }
    }
}

fn taken<K: Ord, V: Clone>(keys: BTreeSet<K>, from: &BTreeMap<K, V>) -> BTreeMap<K, Option<V>> {
    let of = |key| {
        let value = from.get(&key).cloned();
        (key, value)
    };
    keys.into_iter().map(of).collect()
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, change: BTreeMap<K, Option<V>>) {
    for (key, value) in change {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
