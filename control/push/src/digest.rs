//! ● What a table says, as one number: it costs what changes, not what there is.

use crate::{change::Change, convert};
use isthmus_control_api::Table;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The sum of its entries' hashes. Two tables with the same digest say the same, whatever their versions: it tells control whether a
/// gateway has what a delta begins with, and the gateway whether the delta has led to what control has.
///
/// It is no proof against somebody who makes tables: those are of control, which is believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// That of a whole table.
    pub fn of(table: &Table) -> Self {
        let Table { version: _, imports, exports, links, relay, sources, policies } = table;
        let imports = imports.iter().map(|(listen, import)| hash(1, &convert::import(listen, Some(import))));
        let exports = exports.iter().map(|(service, export)| hash(2, &convert::export(service, Some(export))));
        let links = links.iter().map(|(cluster, link)| hash(3, &convert::link(cluster, Some(link))));
        let relay = hash(4, &convert::relaying(relay));
        let sources = sources.iter().map(|(cidr, workload)| hash(5, &convert::source(*cidr, Some(workload))));
        let policies = policies.iter().map(|(name, policy)| hash(6, &convert::policy(name, Some(policy))));
        let all = imports.chain(exports).chain(links).chain([relay]).chain(sources).chain(policies);
        Self(all.fold(0, u128::wrapping_add))
    }

    /// That of the table that `change` makes of `before`, of which this is.
    #[must_use]
    pub(crate) fn after(self, before: &Table, change: &Change) -> Self {
        let Change { imports, exports, links, relay, sources, policies } = change;
        let mut sum = self.0;
        let mut step = |old: Option<u128>, new: Option<u128>| {
            sum = sum.wrapping_sub(old.unwrap_or(0)).wrapping_add(new.unwrap_or(0));
        };
        for (listen, import) in imports {
            let hash = |import| hash(1, &convert::import(listen, Some(import)));
            step(before.imports.get(listen).map(hash), import.as_ref().map(hash));
        }
        for (service, export) in exports {
            let hash = |export| hash(2, &convert::export(service, Some(export)));
            step(before.exports.get(service).map(hash), export.as_ref().map(hash));
        }
        for (cluster, link) in links {
            let hash = |link| hash(3, &convert::link(cluster, Some(link)));
            step(before.links.get(cluster).map(hash), link.as_ref().map(hash));
        }
        for (cidr, workload) in sources {
            let hash = |workload| hash(5, &convert::source(*cidr, Some(workload)));
            step(before.sources.get(cidr).map(hash), workload.as_ref().map(hash));
        }
        for (name, policy) in policies {
            let hash = |policy| hash(6, &convert::policy(name, Some(policy)));
            step(before.policies.get(name).map(hash), policy.as_ref().map(hash));
        }
        if let Some(relay) = relay {
            step(Some(hash(4, &convert::relaying(&before.relay))), Some(hash(4, &convert::relaying(relay))));
        }
        Self(sum)
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.0.to_be_bytes().into()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u128::from_be_bytes(bytes)))
    }
}

/// The first sixteen bytes of SHA-256 over the entry as it is on the wire, which has one form only.
fn hash(kind: u8, entry: &impl prost::Message) -> u128 {
    let mut hasher = Sha256::new_with_prefix([kind]);
    hasher.update(entry.encode_to_vec());
    let hash = hasher.finalize();
    hash.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Eight hexadecimal digits, enough to tell two apart.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 96)
    }
}
