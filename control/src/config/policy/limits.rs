//! The `timeouts`, `retries` and `limits` mappings of a policy.

use super::section;
use crate::config::{
    ConfigError,
    fields::{Fields, Refused, alone, parsed},
    node::Node,
    values,
};
use isthmus_control_api::{Limits, Retries, ServiceLimits, Timeouts};

/// The section of a link's limits.
const LINK: &str = "links[].limits";

pub(super) fn timeouts(fields: &Fields<'_>) -> Timeouts {
    Timeouts {
        connect: fields.value("connect", values::duration),
        first_byte: fields.value("firstByte", values::duration),
        idle: fields.value("idle", values::long_duration),
        max_age: fields.value("maxAge", values::long_duration),
    }
}

pub(super) fn retries(fields: &Fields<'_>) -> Retries {
    let default = Retries::default();
    Retries {
        percent: fields.value("budget", percent).unwrap_or(default.percent),
        per_second: fields.value("perSecond", per_second).unwrap_or(default.per_second),
    }
}

pub(super) fn limits(fields: &Fields<'_>) -> ServiceLimits {
    let of_each = |name| section(fields, name, "policy.limits.perPeer, perSource");
    ServiceLimits {
        all: bounds(fields),
        per_peer: of_each("perPeer").map(|fields| bounds(&fields)).unwrap_or_default(),
        per_source: of_each("perSource").map(|fields| bounds(&fields)).unwrap_or_default(),
    }
}

/// The `limits` of a link.
pub(in crate::config) fn of_link(link: &Fields<'_>) -> Limits {
    section(link, "limits", LINK).map(|fields| bounds(&fields)).unwrap_or_default()
}

/// The limits of a link from a tree of JSON: the field `path` of a Kubernetes object.
///
/// # Errors
/// Everything that is wrong with it.
pub fn of_link_from_json(path: &str, limits: &serde_json::Value) -> Result<Limits, Vec<ConfigError>> {
    alone(&Node::from_json(limits), LINK, path, |fields| Some(bounds(fields)))
}

fn bounds(fields: &Fields<'_>) -> Limits {
    Limits {
        streams: fields.value("streams", count),
        pending: fields.value("pending", count),
        opens_per_second: fields.value("opensPerSecond", count),
        bytes_per_second: fields.value("bytesPerSecond", values::rate),
    }
}

fn count(text: &str) -> Result<u32, Refused> {
    values::count(text).and_then(|count| u32::try_from(count).map_err(|_| Refused(None)))
}

/// 0% to 100%.
fn percent(text: &str) -> Result<u32, Refused> {
    let number = text.strip_suffix('%').ok_or(Refused(None))?;
    parsed(number).and_then(|percent| if percent <= 100 { Ok(percent) } else { Err(Refused(None)) })
}

fn per_second(text: &str) -> Result<u32, Refused> {
    parsed(text).and_then(|count| if count <= 1_000_000 { Ok(count) } else { Err(Refused(None)) })
}
