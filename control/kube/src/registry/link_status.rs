//! ● What a ClusterLink says of its link.

use crate::api::link::{ClusterLink, ClusterLinkStatus};
use isthmus_control_api::ClusterName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::{collections::BTreeMap, sync::Arc};

/// Round trips that differ by less than this part are the same for a status.
const RTT_PART: u32 = 4;

/// What gateway and control know of the links.
pub type LinkReports = BTreeMap<ClusterName, LinkReport>;

/// What gateway and control know of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkReport {
    /// Whether a tunnel is live.
    pub established: bool,
    /// What is wrong with it, in a line.
    pub message: Option<String>,
    /// What the tunnels use.
    pub transport: Option<String>,
    /// Who dials: `out`, `in` or `both`.
    pub direction: Option<String>,
    /// The round trip, in milliseconds.
    pub rtt_ms: Option<u32>,
    /// Why what the peer shows is not believed; `None`: we have what its identity is checked against, and it passed.
    pub untrusted: Option<String>,
    /// Whether each side knows what the other exports.
    pub synced: bool,
    /// Services that the peer exports.
    pub imported: usize,
    /// Services that the peer hears of.
    pub exported: usize,
}

/// The status that `link` should have. `last_sync` is when the peer last said something new; `wrong`, why the link is not made.
pub(super) fn status(
    link: &ClusterLink,
    report: Option<&LinkReport>,
    last_sync: Option<&Time>,
    wrong: Option<&str>,
    now: &Time,
) -> ClusterLinkStatus {
    let before = link.status.clone().unwrap_or_default();
    let none = LinkReport::default();
    let report = report.unwrap_or(&none);
    let message = report.message.as_deref();
    let established = match (wrong, report.established) {
        (Some(wrong), _) => ("False", "Invalid", wrong),
        (None, true) => ("True", "Established", message.unwrap_or("a tunnel is live")),
        (None, false) => ("False", "NotEstablished", message.unwrap_or("no tunnel is live")),
    };
    let trusted = match (&report.untrusted, report.established) {
        (Some(why), _) => ("False", "NotTrusted", why.as_str()),
        (None, true) => ("True", "Trusted", "the peer's identity is proven"),
        (None, false) => ("Unknown", "NotEstablished", "nothing has been proven yet"),
    };
    let synced = match (report.synced, report.established) {
        (true, _) => ("True", "Synced", "each side knows what the other exports"),
        (false, true) => ("False", "Syncing", message.unwrap_or("the exchange is under way")),
        (false, false) => ("False", "NotEstablished", "what the peer said last is kept"),
    };
    let condition = |type_: &str, (status, reason, message): (&str, &str, &str)| {
        let known = before.conditions.iter().find(|known| known.type_ == type_ && known.status == status);
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            observed_generation: link.metadata.generation,
            last_transition_time: known.map_or_else(|| now.clone(), |known| known.last_transition_time.clone()),
        }
    };
    ClusterLinkStatus {
        conditions: vec![
            condition("Established", established),
            condition("TrustValid", trusted),
            condition("TablesSynced", synced),
        ],
        direction: report.direction.clone(),
        transport: report.transport.clone(),
        rtt_ms: report.rtt_ms.map(|rtt| steady(rtt, before.rtt_ms)),
        imported: Some(u32::try_from(report.imported).unwrap_or(u32::MAX)),
        exported: Some(u32::try_from(report.exported).unwrap_or(u32::MAX)),
        last_sync: last_sync.cloned().or(before.last_sync),
        peer_version: before.peer_version,
    }
}

/// The round trip, or what is written of it where that is about the same: a status is not written for every pulse.
fn steady(rtt: u32, written: Option<u32>) -> u32 {
    match written {
        Some(written) if written.abs_diff(rtt) <= (written / RTT_PART).max(2) => written,
        _ => rtt,
    }
}

/// The name of a link's object as the cluster that it leads to.
pub(super) fn cluster(link: &Arc<ClusterLink>) -> Option<ClusterName> {
    link.metadata.name.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn time(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn link(status: Option<ClusterLinkStatus>) -> ClusterLink {
        let mut link = ClusterLink::new("east", Default::default());
        link.status = status;
        link
    }

    fn words(status: &ClusterLinkStatus) -> Vec<(&str, &str)> {
        status.conditions.iter().map(|condition| (condition.status.as_str(), condition.reason.as_str())).collect()
    }

    fn up() -> LinkReport {
        LinkReport { established: true, synced: true, rtt_ms: Some(80), ..LinkReport::default() }
    }

    #[test]
    fn a_link_says_how_it_fares() {
        let nothing = status(&link(None), None, None, None, &time(1));
        assert_eq!(
            words(&nothing),
            [("False", "NotEstablished"), ("Unknown", "NotEstablished"), ("False", "NotEstablished")]
        );
        let good = status(&link(None), Some(&up()), None, None, &time(1));
        assert_eq!(words(&good), [("True", "Established"), ("True", "Trusted"), ("True", "Synced")]);
        let wrong = status(&link(None), None, None, Some("no"), &time(1));
        assert_eq!((words(&wrong)[0], wrong.conditions[0].message.as_str()), (("False", "Invalid"), "no"));
    }

    #[test]
    fn a_status_that_says_the_same_is_the_same() {
        let first = status(&link(None), Some(&up()), Some(&time(1)), None, &time(1));
        let pulse = LinkReport { rtt_ms: Some(90), ..up() };
        let again = status(&link(Some(first.clone())), Some(&pulse), Some(&time(1)), None, &time(60));
        assert_eq!(again, first);
        let slow = LinkReport { rtt_ms: Some(200), ..up() };
        assert_eq!(status(&link(Some(first.clone())), Some(&slow), None, None, &time(60)).rtt_ms, Some(200));
        let down = status(&link(Some(first)), None, None, None, &time(60));
        assert_eq!(down.conditions[0].last_transition_time, time(60));
        assert_eq!(down.last_sync, Some(time(1)), "it is still when the peer last said something");
    }
}
