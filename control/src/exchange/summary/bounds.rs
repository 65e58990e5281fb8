//! ● How much can be said of a service, and of all of them. What a peer says beyond that is refused; what this side would say is left out.

use super::{Member, PortSummary, Services, Summaries, Summary};
use crate::{MAX_SERVICE_PORTS, exchange::MAX_FRAME};
use isthmus_control_api::ServiceName;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Ports of a service.
pub const MAX_PORTS: usize = 256;
/// Zones in which a service has endpoints.
pub const MAX_ZONES: usize = 64;
/// Labels of a service; annotations are as many at most.
pub const MAX_LABELS: usize = 64;
/// Bytes of a service's annotations, keys and values together.
pub const MAX_ANNOTATION_BYTES: usize = 8 << 10;
/// Endpoints of a headless service.
pub const MAX_MEMBERS: usize = 256;
/// Namespaces that a cluster says it has not.
pub const MAX_LACKING: usize = 1000;
/// The most seconds that a client can be kept with its endpoint: Kubernetes allows a day.
pub const MAX_AFFINITY: u32 = 86_400;
/// The weight of all that a cluster says. It fits a frame, with room for what stands around it.
pub const MAX_WEIGHT: usize = MAX_FRAME - (64 << 10);
/// What a field weighs, besides the bytes of a text: more than it takes on the wire, so that a weight also bounds the number of fields.
pub const FIELD: usize = 16;

impl Summary {
    /// Leaves out what is beyond the bounds. Says what that was: nothing, mostly.
    pub fn fit(&mut self) -> Vec<&'static str> {
        let mut out = Vec::new();
        let mut note = |cut: bool, what| out.extend(cut.then_some(what));
        let cut = first(&mut self.ports, MAX_PORTS);
        note(first(&mut self.sctp, MAX_PORTS - self.ports.len()) || cut, "ports beyond the 256th");
        let bad_name = |port: &PortSummary| port.name.as_deref().is_some_and(|name| !is_label(name));
        let cut = drop_if(&mut self.ports, |_, port| bad_name(port));
        note(drop_if(&mut self.sctp, |_, port| bad_name(port)) || cut, "a port whose name is no DNS label");
        let bad_protocol = |port: &mut PortSummary| port.app_protocol.take_if(|name| !is_qualified(name)).is_some();
        let ports = self.ports.values_mut().chain(self.sctp.values_mut());
        let cut = ports.filter_map(|port| bad_protocol(port).then_some(())).count() > 0;
        note(cut, "an application protocol that is no qualified name");
        note(first(&mut self.zones, MAX_ZONES), "zones beyond the 64th");
        note(drop_if(&mut self.zones, |zone, _| !is_value(zone)), "a zone that is no label's value");
        let bad_affinity = |seconds: &mut u32| !(1..=MAX_AFFINITY).contains(seconds);
        note(self.affinity.take_if(bad_affinity).is_some(), "an affinity that is not 1 to 86400 seconds");
        let bad = self.traffic_distribution.take_if(|word| !is_value(word) || word.is_empty()).is_some();
        note(bad, "a traffic distribution that is no label's value");
        let twice = self.families.len() == 2 && self.families[0] == self.families[1];
        note(twice || self.families.len() > 2, "a family of addresses twice");
        self.families.dedup();
        self.families.truncate(2);
        note(first(&mut self.labels, MAX_LABELS), "labels beyond the 64th");
        let bad = |key: &str, value: &Arc<str>| !is_qualified(key) || !is_value(value);
        note(drop_if(&mut self.labels, bad), "a label that Kubernetes does not take");
        note(first(&mut self.annotations, MAX_LABELS), "annotations beyond the 64th");
        note(
            drop_if(&mut self.annotations, |key, _| !is_qualified(key)),
            "an annotation that Kubernetes does not take",
        );
        let mut room = MAX_ANNOTATION_BYTES;
        let beyond = |key: &str, value: &Arc<str>| match room.checked_sub(key.len() + value.len()) {
            Some(left) => {
                room = left;
                false
            }
            None => true,
        };
        note(drop_if(&mut self.annotations, beyond), "annotations beyond 8 KiB");
        let before = self.members.len();
        self.members.retain(|member| is_label(&member.key));
        note(self.members.len() < before, "an endpoint whose key is no DNS label");
        note(self.members.len() > MAX_MEMBERS, "endpoints beyond the 256th");
        while self.members.len() > MAX_MEMBERS {
            self.members.pop_last();
        }
        out
    }

    /// What it weighs, without its name.
    pub fn weight(&self) -> usize {
        let text = |text: &Arc<str>| FIELD + text.len();
        let option = |of: &Option<Arc<str>>| of.as_ref().map_or(0, text);
        let pairs =
            |of: &BTreeMap<Arc<str>, Arc<str>>| of.iter().map(|(k, v)| FIELD + text(k) + text(v)).sum::<usize>();
        let port = |port: &PortSummary| 4 * FIELD + option(&port.name) + option(&port.app_protocol);
        let member = |member: &Member| 2 * FIELD + text(&member.key);
        6 * FIELD
            + self.ports.values().chain(self.sctp.values()).map(port).sum::<usize>()
            + self.zones.keys().map(|zone| 2 * FIELD + text(zone)).sum::<usize>()
            + option(&self.traffic_distribution)
            + pairs(&self.labels)
            + pairs(&self.annotations)
            + self.members.iter().map(member).sum::<usize>()
    }
}

impl Summaries {
    /// Leaves out the services for which there is no room, each alone, and says which: first are kept those of `before` that have not grown,
    /// then the others of these, then the oldest exports. So whoever is told of stays, as long as it does not grow itself, and no other takes
    /// its room by growing.
    pub fn fit(&mut self, before: &Services) -> BTreeSet<ServiceName> {
        while self.lacking.len() > MAX_LACKING {
            self.lacking.pop_last();
        }
        if self.fits() {
            return BTreeSet::new();
        }
        let mut room = (MAX_SERVICE_PORTS, MAX_WEIGHT.saturating_sub(self.weight_of_lacking()));
        let turn = |(name, summary): &(&ServiceName, &Arc<Summary>)| {
            let size = |of: &Summary| (all_ports(of), weight(name.as_str(), of));
            let turn = match before.get(*name).map(|told| (size(told), size(summary))) {
                Some((told, now)) if now.0 <= told.0 && now.1 <= told.1 => 0,
                Some(_) => 1,
                None => 2,
            };
            (turn, summary.since, (*name).clone())
        };
        let mut in_turn: Vec<_> = self.services.iter().collect();
        in_turn.sort_by_cached_key(turn);
        let mut beyond = BTreeSet::new();
        for (name, summary) in in_turn {
            let ports = room.0.checked_sub(all_ports(summary));
            match (ports, room.1.checked_sub(weight(name.as_str(), summary))) {
                (Some(ports), Some(weight)) => room = (ports, weight),
                _ => drop(beyond.insert(name.clone())),
            }
        }
        self.services.retain(|name, _| !beyond.contains(name));
        beyond
    }

    /// Whether nothing is beyond the bounds of all together.
    pub fn fits(&self) -> bool {
        let ports: usize = self.services.values().map(|summary| all_ports(summary)).sum();
        ports <= MAX_SERVICE_PORTS && self.lacking.len() <= MAX_LACKING && self.weight() <= MAX_WEIGHT
    }

    /// What all of it weighs.
    pub fn weight(&self) -> usize {
        let services = self.services.iter().map(|(name, summary)| weight(name.as_str(), summary));
        services.sum::<usize>() + self.weight_of_lacking()
    }

    fn weight_of_lacking(&self) -> usize {
        self.lacking.iter().map(|namespace| FIELD + namespace.len()).sum()
    }
}

/// The ports of a service; one, where there are none.
fn all_ports(summary: &Summary) -> usize {
    (summary.ports.len() + summary.sctp.len()).max(1)
}

/// What a service weighs.
pub(crate) fn weight(name: &str, summary: &Summary) -> usize {
    FIELD + name.len() + summary.weight()
}

/// Whether some were left out so that `most` remain: those that come first.
fn first<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, most: usize) -> bool {
    let Some(beyond) = map.keys().nth(most).cloned() else { return false };
    map.split_off(&beyond);
    true
}

/// Whether some were left out that are `bad`.
fn drop_if<K: Ord + KeyText, V>(map: &mut BTreeMap<K, V>, mut bad: impl FnMut(&str, &V) -> bool) -> bool {
    let before = map.len();
    map.retain(|key, value| !bad(key.text(), value));
    map.len() < before
}

/// A key that may be a text.
trait KeyText {
    fn text(&self) -> &str;
}

impl KeyText for Arc<str> {
    fn text(&self) -> &str {
        self
    }
}

impl KeyText for u16 {
    fn text(&self) -> &str {
        ""
    }
}

impl KeyText for super::Port {
    fn text(&self) -> &str {
        ""
    }
}

/// A DNS label (RFC 1123).
pub fn is_label(s: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&s.len()) && s.bytes().all(inner) && !s.starts_with('-') && !s.ends_with('-')
}

/// A label's value: empty, or a name.
fn is_value(s: &str) -> bool {
    s.is_empty() || is_name(s)
}

/// A name, with a DNS name and a slash before it or not.
fn is_qualified(s: &str) -> bool {
    match s.split_once('/') {
        Some((prefix, name)) => prefix.len() <= 253 && prefix.split('.').all(is_label) && is_name(name),
        None => is_name(s),
    }
}

fn is_name(s: &str) -> bool {
    let outer = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let bytes = s.as_bytes();
    bytes.len() <= 63 && outer(bytes.first()) && outer(bytes.last()) && bytes.iter().all(inner)
}

#[cfg(test)]
mod tests;
