//! ● What is asked for, and which cores can do it.

use super::Refused;
use crate::{
    status::{
        CoreReport,
        measure::{MOST_MEBIBYTES, MOST_SECONDS, MOST_STREAMS, Way},
    },
    tunnel::{Direction, Transport, TunnelHealth},
};
use axum::http::StatusCode;
use isthmus_control_api::{ClusterName, Table};
use std::{str::FromStr, time::Duration};

/// What somebody wants to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) way: Way,
    pub(super) time: Duration,
    pub(super) streams: usize,
    pub(super) bytes: u64,
}

impl FromStr for Wanted {
    type Err = String;

    /// Of a query of a URL; what it leaves out is as the command has it.
    fn from_str(query: &str) -> Result<Self, String> {
        let mut wanted = Self { way: Way::Down, time: Duration::from_secs(5), streams: 4, bytes: 1000 << 20 };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = |most: u64| match value.parse() {
                Ok(number) if (1..=most).contains(&number) => Ok(number),
                _ => Err(format!("found {key}={value}, expected a number from 1 to {most}")),
            };
            match key {
                "direction" => {
                    wanted.way = value.parse().map_err(|expected| format!("found {key}={value}, {expected}"))?;
                }
                "seconds" => wanted.time = Duration::from_secs(number(MOST_SECONDS)?),
                "streams" => wanted.streams = number(MOST_STREAMS as u64)? as usize,
                "mebibytes" => wanted.bytes = number(MOST_MEBIBYTES)? << 20,
                _ => return Err(format!("found {key}, expected direction, seconds, streams or mebibytes")),
            }
        }
        Ok(wanted)
    }
}

/// The cluster of that name, which this one is linked with.
///
/// # Errors
/// It is not: who is.
pub(super) fn linked(cluster: &str, table: &Table) -> Result<ClusterName, Refused> {
    let found = table.links.keys().find(|name| name.as_str() == cluster);
    found.cloned().ok_or_else(|| {
        let names: Vec<_> = table.links.keys().take(5).map(ClusterName::as_str).collect();
        let more = if table.links.len() > names.len() { ", …" } else { "" };
        let expected = if names.is_empty() { "a linked cluster, and there is none".into() } else { names.join(", ") };
        let found: String = cluster.chars().filter(char::is_ascii_graphic).take(63).collect();
        (StatusCode::BAD_REQUEST, format!("no link with {found}: expected {expected}{more}"))
    })
}

/// Which core opens how many streams.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) streams: Vec<(usize, usize)>,
    /// The longest that a tunnel has measured.
    pub(super) round_trip: Duration,
}

/// Gives each core that has a direct tunnel its share of the streams.
///
/// # Errors
/// There is none: why, and what to do.
pub(super) fn plan(cluster: &ClusterName, reports: &[Option<CoreReport>], streams: usize) -> Result<Plan, Refused> {
    if reports.is_empty() {
        let message = "this is a control, which has no tunnels: ask a gateway (--admin)".to_owned();
        return Err((StatusCode::CONFLICT, message));
    }
    let (mut cores, mut round_trip) = (Vec::new(), Duration::ZERO);
    let (mut relay, mut is_other_side) = (None, false);
    for (core, report) in reports.iter().enumerate() {
        let tunnels = report.iter().flat_map(|report| &report.tunnels);
        let live = tunnels.filter(|tunnel| tunnel.cluster == *cluster && tunnel.status.health == TunnelHealth::Live);
        let mut can = false;
        for tunnel in live {
            let status = &tunnel.status;
            if let Some(via) = &tunnel.via {
                relay = Some(via);
            } else if status.transport == Transport::H2 && status.direction == Direction::Accepted {
                is_other_side = true;
            } else {
                can = true;
                round_trip = round_trip.max(status.rtt.unwrap_or_default());
            }
        }
        if can {
            cores.push(core);
        }
    }
    if cores.is_empty() {
        return Err((StatusCode::CONFLICT, none(cluster, relay, is_other_side)));
    }
    let share = |at: usize| streams / cores.len() + usize::from(at < streams % cores.len());
    let shares = cores.iter().enumerate().map(|(at, &core)| (core, share(at)));
    Ok(Plan { streams: shares.filter(|(_, share)| *share > 0).collect(), round_trip })
}

fn none(cluster: &ClusterName, relay: Option<&ClusterName>, is_other_side: bool) -> String {
    if is_other_side {
        format!("{cluster} dials this link over h2, where only who dials opens streams: measure it from {cluster}")
    } else if let Some(relay) = relay {
        format!(
            "{relay} relays the link with {cluster}, and would carry the load: measure the links with {relay}, here and there"
        )
    } else {
        format!("no tunnel to {cluster} is up: {}", super::check(cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        status::TunnelReport,
        tunnel::{Direction::*, TunnelStatus},
    };
    use isthmus_control_api::Link;

    fn tunnel(cluster: &str, (transport, direction): (Transport, Direction), via: Option<&str>) -> TunnelReport {
        TunnelReport {
            cluster: cluster.parse().unwrap(),
            status: TunnelStatus {
                transport,
                direction,
                health: TunnelHealth::Live,
                rtt: Some(Duration::from_millis(40)),
                streams_out: 0,
                streams_in: 0,
                peer: None,
            },
            address: None,
            cert_expiry: None,
            via: via.map(|via| via.parse().unwrap()),
        }
    }

    fn planned(cores: Vec<Vec<TunnelReport>>, streams: usize) -> Result<Plan, String> {
        let report = |tunnels| Some(CoreReport { tunnels, ..CoreReport::default() });
        let mut reports: Vec<_> = cores.into_iter().map(report).collect();
        reports.push(None);
        plan(&"east".parse().unwrap(), &reports, streams).map_err(|(status, message)| {
            assert_eq!(status, StatusCode::CONFLICT);
            message
        })
    }

    #[test]
    fn cores_with_a_direct_tunnel_share_the_streams() {
        let tls = || tunnel("east", (Transport::Tls, Accepted), None);
        let others = vec![tunnel("north", (Transport::Tls, Dialled), None)];
        let relayed = vec![tunnel("east", (Transport::Tls, Dialled), Some("hub"))];
        let found = planned(vec![vec![tls()], others, vec![tls(), tls()], relayed], 5).unwrap();
        assert_eq!(found, Plan { streams: vec![(0, 3), (2, 2)], round_trip: Duration::from_millis(40) });
        assert_eq!(planned(vec![vec![tls()], vec![tls()]], 1).unwrap().streams, [(0, 1)]);
    }

    #[test]
    fn a_link_that_cannot_be_measured_says_what_to_do() {
        let relayed = tunnel("east", (Transport::Tls, Dialled), Some("hub"));
        let mut draining = tunnel("east", (Transport::Tls, Dialled), None);
        draining.status.health = TunnelHealth::Draining;
        for (tunnels, said) in [
            (vec![], "no tunnel to east is up: `isthmus check --link east`"),
            (vec![draining], "no tunnel to east is up"),
            (vec![relayed], "measure the links with hub"),
            (vec![tunnel("east", (Transport::H2, Accepted), None)], "measure it from east"),
        ] {
            let message = planned(vec![tunnels], 4).unwrap_err();
            assert!(message.contains(said) && message.len() < 200, "{message}");
        }
        assert!(planned(vec![vec![tunnel("east", (Transport::H2, Dialled), None)]], 4).is_ok());
        let (_, message) = plan(&"east".parse().unwrap(), &[], 4).unwrap_err();
        assert!(message.contains("ask a gateway"), "{message}");
    }

    #[test]
    fn only_a_linked_cluster_will_do() {
        let links = ["east", "north"].map(|name| (name.parse().unwrap(), Link::default())).into();
        let table = Table { links, ..Table::default() };
        assert_eq!(linked("east", &table).unwrap().as_str(), "east");
        let said = |cluster: &str, table: &Table| linked(cluster, table).unwrap_err();
        let (status, message) = said("we\u{1b}st", &table);
        assert_eq!((status, &*message), (StatusCode::BAD_REQUEST, "no link with west: expected east, north"));
        assert!(said("west", &Table::default()).1.ends_with("and there is none"));
    }

    #[test]
    fn what_is_wanted_is_within_bounds() {
        let wanted: Wanted = "direction=up&seconds=10&streams=16&mebibytes=2000".parse().unwrap();
        let (way, time, streams) = (Way::Up, Duration::from_secs(10), 16);
        assert_eq!(wanted, Wanted { way, time, streams, bytes: 2000 << 20 });
        assert_eq!("".parse::<Wanted>().unwrap().streams, 4);
        for (query, said) in [
            ("seconds=11", "a number from 1 to 10"),
            ("seconds=0", "a number from 1 to 10"),
            ("streams=17", "a number from 1 to 16"),
            ("mebibytes=2001", "a number from 1 to 2000"),
            ("mebibytes", "found mebibytes=,"),
            ("direction=left", "expected down or up"),
            ("second=1", "expected direction, seconds, streams or mebibytes"),
        ] {
            let refused = query.parse::<Wanted>().unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
