//! ● What is wrong with links: status, control's exchange, and streams that were opened on every tunnel.

use super::{
    fix::{self, Place},
    line::{Line, Lines},
    trust,
};
use crate::output::count;
use isthmus_gateway::status::{
    LinkStatus, LinkWord, Status,
    probe::{LinkProbe, LinksProbe, TunnelProbe},
    untrusted,
};
use serde_json::Value;
use std::{path::Path, time::SystemTime};

/// Clocks that differ by more are named.
const SKEW: f64 = 5.0;

/// Lines about each link; of one cluster only, if it is named.
pub(super) fn lines(
    status: &Status,
    probe: Result<&LinksProbe, &str>,
    only: Option<&str>,
    now: SystemTime,
) -> Vec<Line> {
    let wanted = |link: &&LinkStatus| only.is_none_or(|only| only == link.cluster);
    let of = |link: &LinkStatus| {
        let found = probe.map(|probe| probe.links.iter().find(|found| found.cluster == link.cluster));
        one(status, link, found, now)
    };
    status.links.iter().filter(wanted).flat_map(of).collect()
}

fn one(status: &Status, link: &LinkStatus, probe: Result<Option<&LinkProbe>, &str>, now: SystemTime) -> Vec<Line> {
    let place = Place { own: &status.cluster, peer: &link.cluster };
    let mut lines = Lines::about(format!("link {}", link.cluster));
    if !tunnel(&mut lines, status, link, place) {
        for (check, wanted) in [("link.path", PATH), ("link.exchange", EXCHANGE), ("link.stream", STREAM)] {
            lines.skipped(check, wanted, "the link is not up");
        }
        return lines.into_vec();
    }
    path(&mut lines, link, place);
    clock(&mut lines, link, place);
    certificate(&mut lines, link, place, now);
    exchange(&mut lines, &status.control["peers"][&link.cluster], place);
    stream(&mut lines, link, probe, place);
    lines.into_vec()
}

const PATH: &str = "the path carries everything";
const EXCHANGE: &str = "both sides know what the other exports";
const STREAM: &str = "streams get through, both ways";

fn tunnel(lines: &mut Lines, status: &Status, link: &LinkStatus, place: Place<'_>) -> bool {
    let wanted = "a tunnel is up";
    if link.state == LinkWord::Up {
        let words = [link.transport.clone(), link.direction.clone(), link.rtt_ms.map(|rtt| format!("{rtt:.1} ms"))];
        lines.ok("link.tunnel", wanted, Some(words.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        return true;
    }
    let (state, peer) = (link.state.as_str(), place.peer);
    if !status.identity.trusts.contains(&link.cluster) {
        // Whatever failed last: without it nothing else can go well.
        let bundle = status.identity.bundles.as_ref().map(|bundles| Path::new(bundles).join(format!("{peer}.pem")));
        let found = format!("{state}: {}", untrusted(peer, bundle.as_deref()));
        lines.failed("link.tunnel", wanted, found, trust::fix(status, place));
        return false;
    }
    let found = link.message.as_ref().map_or_else(|| state.to_owned(), |message| format!("{state}: {message}"));
    let fix = match (&link.message, link.state) {
        (Some(message), _) => fix::of(message, place),
        (None, LinkWord::Waiting) => format!(
            "start the gateway of {peer}, which has to dial this one: `isthmus check` there says why it does not; or name where \
             {peer} can be dialled in links[{peer}].endpoints here"
        ),
        (None, LinkWord::Dialling) => "check again in a few seconds".to_owned(),
        (None, _) => fix::of("", place),
    };
    lines.failed("link.tunnel", wanted, found, fix);
    false
}

fn path(lines: &mut Lines, link: &LinkStatus, place: Place<'_>) {
    let clock_alone = |message: &str| message.split("; ").all(|part| part.contains("the clocks differ"));
    match &link.message {
        // It has a line of its own.
        Some(message) if link.degraded && clock_alone(message) => lines.ok("link.path", PATH, None),
        Some(message) if link.degraded => lines.failed("link.path", PATH, message.clone(), fix::of(message, place)),
        // Worth knowing, and nothing suffers.
        message => lines.ok("link.path", PATH, message.clone()),
    }
}

fn clock(lines: &mut Lines, link: &LinkStatus, place: Place<'_>) {
    let wanted = "the clocks agree";
    match link.clock_ahead_seconds {
        Some(ahead) if ahead.abs() >= SKEW => {
            let word = if ahead < 0.0 { "behind" } else { "ahead of" };
            let found = format!("the clocks differ: {}'s is {:.0} s {word} this one", place.peer, ahead.abs());
            lines.failed("link.clock", wanted, found, fix::of("the clocks differ", place));
        }
        Some(_) => lines.ok("link.clock", wanted, None),
        None => lines.skipped("link.clock", wanted, "the peer does not tell its own"),
    }
}

fn certificate(lines: &mut Lines, link: &LinkStatus, place: Place<'_>, now: SystemTime) {
    let wanted = "the peer's certificate is valid";
    match link.cert_expiry.map(SystemTime::from) {
        Some(expiry) if expiry <= now => {
            let found = "expired: the tunnels that are there go on, and no new one can be made";
            lines.failed("link.certificate", wanted, found, fix::of("expired", place));
        }
        Some(_) => lines.ok("link.certificate", wanted, None),
        None => lines.skipped("link.certificate", wanted, "it is not known when it ends"),
    }
}

/// `peer` is what control says of the exchange with it: nothing, where control is another process.
fn exchange(lines: &mut Lines, peer: &Value, place: Place<'_>) {
    let word = |direction: &str| peer[direction].as_str().unwrap_or_default().to_owned();
    let (received, sent) = (word("received"), word("sent"));
    let is_there = |word: &str| matches!(word, "synced" | "stated");
    if received.is_empty() {
        return lines.skipped("link.exchange", EXCHANGE, "control is another process: its own `isthmus check` says");
    }
    if let Some(error) = peer["error"].as_str() {
        let fix =
            format!("see that {} runs, and its control: its `isthmus check` says; logs have the details", place.peer);
        return lines.failed("link.exchange", EXCHANGE, error, fix);
    }
    if is_there(&received) && is_there(&sent) {
        let [imported, exported] = ["imported", "exported"].map(|of| peer[of].as_u64().unwrap_or(0));
        return lines.ok(
            "link.exchange",
            EXCHANGE,
            Some(format!("{imported} services from there, {exported} from here")),
        );
    }
    let found = format!("what comes from there is {received}, what goes there is {sent}");
    let fix = format!("check again in a few seconds; if it stays so, see the log of {} and this one's", place.peer);
    lines.failed("link.exchange", EXCHANGE, found, fix);
}

fn stream(lines: &mut Lines, link: &LinkStatus, probe: Result<Option<&LinkProbe>, &str>, place: Place<'_>) {
    let tunnels = match probe {
        Ok(probe) => probe.map(|probe| probe.tunnels.as_slice()).unwrap_or_default(),
        Err(why) => return lines.skipped("link.stream", STREAM, why),
    };
    if tunnels.is_empty() {
        let only_accepted = link.direction.as_deref() == Some("accepted") && link.transport.as_deref() == Some("h2");
        if only_accepted {
            let why = "over HTTP/2 only the side that dials can open streams";
            return lines.skipped("link.stream", STREAM, why);
        }
        let found = "no tunnel took a stream";
        return lines.failed(
            "link.stream",
            STREAM,
            found,
            "check again in a few seconds: the tunnels have just changed",
        );
    }
    let failed: Vec<_> = tunnels.iter().filter_map(|tunnel| tunnel.error.as_ref()).collect();
    if let Some(first) = failed.first() {
        let found = format!("{} of {} failed: {first}", failed.len(), count(tunnels.len(), "tunnel"));
        return lines.failed("link.stream", STREAM, found, fix::of(first, place));
    }
    let all = count(tunnels.len(), "tunnel");
    let slowest = |of: fn(&TunnelProbe) -> Option<f64>| tunnels.iter().filter_map(of).reduce(f64::max);
    let found = match (slowest(|tunnel| tunnel.answered_ms), slowest(|tunnel| tunnel.echoed_ms)) {
        (Some(answered), Some(echoed)) => {
            format!("{all}, answer in {answered:.1} ms, 32 KiB there and back in {echoed:.1} ms")
        }
        (answered, _) => format!(
            "{all}, answer in {:.1} ms; the peer gives no bytes back, being older or no isthmus",
            answered.unwrap_or_default()
        ),
    };
    lines.ok("link.stream", STREAM, Some(found));
}

#[cfg(test)]
mod tests;
