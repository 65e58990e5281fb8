//! The keys of a policy that say from which address endpoints are connected to.

use super::networks;
use crate::config::fields::{Fields, parsed};
use isthmus_control_api::TransparentSource;
use std::ops::RangeInclusive;

/// Entries: an endpoint that can tell so many clusters apart is rare.
const ENTRIES: RangeInclusive<usize> = 1..=64;

/// Whose clients' own addresses endpoints see.
pub(super) fn transparent(policy: &Fields<'_>) -> Vec<TransparentSource> {
    let mut read: Vec<TransparentSource> = Vec::new();
    for fields in policy.mappings("transparentSource", "policy.transparentSource[]", ENTRIES) {
        let (cluster, cidrs) = (fields.value("cluster", parsed), networks(&fields, "cidrs"));
        let Some(cluster) = cluster else { continue };
        for (index, cidr) in cidrs.iter().enumerate() {
            let mut others = read.iter().filter(|source| source.cluster != cluster);
            let claimed = |source: &&TransparentSource| source.cidrs.iter().any(|other| other.overlaps(cidr));
            if let Some(other) = others.find(claimed) {
                // The endpoint could not tell one's clients from the other's, nor a router where its answers belong.
                let found = format!("{cidr}, in which {} has addresses as well", other.cluster);
                let name = format!("cidrs[{index}]");
                fields.note(
                    fields.at_of("cidrs"),
                    &name,
                    found,
                    "networks that no other cluster of the list has addresses of",
                );
            }
        }
        read.push(TransparentSource { cluster, cidrs });
    }
    read
}
