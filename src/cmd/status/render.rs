//! The status as a text for people.

use super::{file, push::Apart, registry};
use crate::{cmd::Failure, output::Grid};
use isthmus_gateway::status::{CheckStatus, LinkStatus, ServiceKind, ServiceStatus, Status, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// A gateway's answer: what it sent, as JSON; what we know of it, as tables.
#[derive(Debug)]
pub(super) struct View {
    pub(super) status: Status,
    /// Where control and gateways are processes of their own.
    pub(super) apart: Apart,
    json: serde_json::Value,
    now: SystemTime,
}

impl View {
    /// Reads the answer of `admin`.
    pub(super) fn new(json: impl AsRef<[u8]>, admin: &str, now: SystemTime) -> Result<Self, Failure> {
        let unknown = |error| {
            Failure::failed(format!(
                "{admin} answered something else than a status: {error} (is it a gateway of this version?)"
            ))
        };
        let json: serde_json::Value = serde_json::from_slice(json.as_ref()).map_err(unknown)?;
        let status = Status::deserialize(&json).map_err(unknown)?;
        let apart = Apart::of(&status.control);
        Ok(Self { status, apart, json, now })
    }
}

/// Keeps what a newer gateway says and this version does not know.
impl Serialize for View {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(to)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.status;
        head(status, self.now, f)?;
        file::write(&status.control, f)?;
        registry::write(&status.control, f)?;
        self.apart.write(self.now, f)?;
        if !status.links.is_empty() {
            write!(f, "\n{}", links(&status.links, self.now))?;
            status.links.iter().try_for_each(|link| choice(link, f))?;
        }
        let of_kind = |kind| status.services.iter().filter(move |service| service.kind == kind).collect::<Vec<_>>();
        let (imported, exported) = (of_kind(ServiceKind::Import), of_kind(ServiceKind::Export));
        if !imported.is_empty() {
            write!(f, "\n{}", imports(&imported))?;
        }
        if !exported.is_empty() {
            write!(f, "\n{}", exports(&exported))?;
        }
        Ok(())
    }
}

fn head(status: &Status, now: SystemTime, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let ready = status.not_ready.as_ref().map_or_else(|| "ready".to_owned(), |why| format!("not ready: {why}"));
    writeln!(f, "cluster {} of {}, isthmus {}: {ready}", status.cluster, status.clusterset, status.version)?;
    let age = status.table.age_seconds.map_or_else(String::new, |age| format!(", {} old", seconds(age)));
    writeln!(f, "table version {}{age}", status.table.version)?;
    let identity = &status.identity;
    if let Some(id) = &identity.id {
        let expiry = identity.not_after.map(|at| format!(", expires in {}", until(at, now)));
        let renewal = identity.renews_at.map(|at| format!(", renewed in {}", until(at, now)));
        writeln!(f, "identity {id}{}{}", expiry.unwrap_or_default(), renewal.unwrap_or_default())?;
    }
    if let Some(message) = &identity.message {
        writeln!(f, "{message}")?;
    }
    if let Some(error) = &identity.last_error {
        writeln!(f, "identity is not kept up: {error}")?;
    }
    if !status.silent_cores.is_empty() {
        writeln!(f, "cores that did not answer, so that something is missing below: {:?}", status.silent_cores)?;
    }
    Ok(())
}

fn links(links: &[LinkStatus], now: SystemTime) -> Grid<10> {
    let mut grid = Grid::new([
        "CLUSTER",
        "STATE",
        "TRANSPORT",
        "DIRECTION",
        "GATEWAYS",
        "RTT",
        "STREAMS IN/OUT",
        "SYNC-AGE",
        "CERT-EXPIRY",
        "MESSAGE",
    ]);
    for link in links {
        grid.row([
            link.cluster.clone(),
            state(link).to_owned(),
            or_dash(transport(link)),
            or_dash(link.direction.clone()),
            format!("{}/{}", link.gateways.reached, link.gateways.known),
            or_dash(link.rtt_ms.map(millis)),
            format!("{}/{}", link.streams_in, link.streams_out),
            or_dash(link.sync_age_seconds.map(seconds)),
            or_dash(link.cert_expiry.map(|at| until(at, now))),
            or_dash(link.message.clone()),
        ]);
    }
    grid
}

/// A link's state: one that is up may suffer all the same.
fn state(link: &LinkStatus) -> &'static str {
    if link.degraded { "degraded" } else { link.state.as_str() }
}

/// Its transports, and who relays new streams, if anybody does.
fn transport(link: &LinkStatus) -> Option<String> {
    let transport = link.transport.clone()?;
    Some(link.via.as_ref().map_or(transport.clone(), |via| format!("{transport} via {via}")))
}

/// Which transport new streams take, where there is a choice.
fn choice(link: &LinkStatus, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let several = link.transport.as_ref().is_some_and(|transports| transports.contains('+'));
    match (&link.chosen, &link.chosen_because) {
        (Some(chosen), Some(because)) if several => {
            let [cluster, chosen, because] = [&link.cluster, chosen, because].map(|text| or_dash(Some(text.clone())));
            writeln!(f, "new streams to {cluster} go over {chosen}: {because}")
        }
        _ => Ok(()),
    }
}

fn imports(services: &[&ServiceStatus]) -> Grid<4> {
    let mut grid = Grid::new(["IMPORT", "LISTEN", "READY ENDPOINTS", "MESSAGE"]);
    for service in services {
        let clusters: Vec<String> = service.clusters.iter().map(|(name, ready)| format!("{name} {ready}")).collect();
        grid.row([
            service.name(),
            or_dash(service.listen.clone()),
            or_dash((!clusters.is_empty()).then(|| clusters.join(", "))),
            or_dash(service.message.clone()),
        ]);
    }
    grid
}

fn exports(services: &[&ServiceStatus]) -> Grid<7> {
    let mut grid = Grid::new(["EXPORT", "ENDPOINT", "HEALTH", "STREAMS", "CONNECT", "FAILURES", "CHECK"]);
    for service in services {
        let name = service.name();
        if service.endpoints.is_empty() {
            let mut row = std::array::from_fn(|_| "-".to_owned());
            (row[0], row[1]) = (name.clone(), or_dash(service.message.clone()));
            grid.row(row);
        }
        for endpoint in &service.endpoints {
            grid.row([
                name.clone(),
                endpoint.address.clone(),
                endpoint.health.clone(),
                endpoint.inflight.to_string(),
                or_dash(endpoint.ewma_ms.map(millis)),
                endpoint.failures.to_string(),
                or_dash(endpoint.check.as_ref().map(check)),
            ]);
        }
    }
    grid
}

/// What checks say, and why where that is not `up`.
fn check(check: &CheckStatus) -> String {
    let why = check.error.as_ref().map(|error| format!(": {error}"));
    format!("{}{}", check.state, why.unwrap_or_default())
}

/// What came from a gateway goes to a terminal: without control characters.
pub(super) fn or_dash(text: Option<String>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.chars().filter(|c| !c.is_control()).collect())
}

fn millis(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}ms") } else { format!("{value:.0}ms") }
}

/// The time to `at`, or that it is over.
fn until(at: Timestamp, now: SystemTime) -> String {
    SystemTime::from(at).duration_since(now).map_or_else(|_| "expired".to_owned(), |left| short(left.as_secs()))
}

fn seconds(value: f64) -> String {
    short(Duration::try_from_secs_f64(value).map_or(u64::MAX, |age| age.as_secs()))
}

/// The largest unit that leaves two digits to see: 59s, 59m, 47h, 90d.
pub(super) fn short(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let times = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(short);
        assert_eq!(times, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn what_is_over_says_so() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(until(Timestamp::from(now + Duration::from_secs(300)), now), "5m");
        assert_eq!(until(Timestamp::from(now - Duration::from_secs(1)), now), "expired");
    }

    #[test]
    fn a_gateway_cannot_write_to_the_terminal() {
        assert_eq!(or_dash(Some("a\u{1b}[2Jb\n".into())), "a[2Jb");
    }
}
