//! ● What is wrong with a link, in one line: everything that is, the worst first.

use super::{GatewaysStatus, LinkWord, report::Broken};
use crate::{peer::choose::LOSSY, tunnel::mux::hello::REVISION};
use std::{path::Path, time::Duration};

/// A clock that differs by less is as good as right: a path's delay looks alike.
const SKEW: Duration = Duration::from_secs(5);
/// A tunnel that broke longer ago has been replaced by ones that live.
const BREAK: Duration = Duration::from_mins(1);

/// What is known of a link.
#[derive(Debug, Clone)]
pub(super) struct Facts<'a> {
    pub(super) state: LinkWord,
    pub(super) gateways: &'a GatewaysStatus,
    /// Why dialling failed last.
    pub(super) failed: Option<&'a str>,
    /// What is wrong with its names.
    pub(super) lookup: Option<&'a str>,
    /// How many tunnels the peer takes of this gateway, and how many it declined.
    pub(super) declined: Option<(u32, usize)>,
    /// Whether a tunnel gets through with small packets only.
    pub(super) small: bool,
    /// The largest losses that were measured: of what goes there, of what comes back.
    pub(super) loss: [Option<f64>; 2],
    /// By how many milliseconds the peer's clock is ahead.
    pub(super) ahead: Option<i64>,
    /// The revision that the peer speaks.
    pub(super) revision: Option<u16>,
    /// Tunnels that broke.
    pub(super) broken: Option<&'a Broken>,
    /// Who claimed to be the peer and was refused, and why.
    pub(super) refused: Option<&'a str>,
    /// What control has to say.
    pub(super) control: Option<&'a str>,
}

/// The line, and whether traffic suffers or is about to.
pub(super) fn say(facts: &Facts<'_>) -> (Option<String>, bool) {
    let up = facts.state == LinkWord::Up;
    let unanswered = (facts.state == LinkWord::Unresponsive).then(|| "the peer does not answer".to_owned());
    let failed = facts.failed.filter(|_| !up && unanswered.is_none()).map(str::to_owned);
    let refused = facts.refused.map(|why| format!("somebody who claims to be of this cluster was refused: {why}"));
    // Each with whether it is a degradation of a link that is up.
    let parts = [
        (unanswered.or(failed), false),
        (refused.filter(|_| !up), false),
        (facts.lookup.map(str::to_owned), true),
        (unreached(facts.gateways).filter(|_| up), true),
        (facts.small.then(|| SMALL.to_owned()), true),
        (loss(facts.loss), true),
        (facts.ahead.and_then(skew), true),
        (facts.broken.map(broken), facts.broken.is_some_and(|broken| broken.ago < BREAK)),
        (facts.declined.map(declined), false),
        (facts.revision.and_then(revision), false),
        (facts.control.map(str::to_owned), false),
    ];
    let degraded = up && parts.iter().any(|(part, degrades)| part.is_some() && *degrades);
    let said: Vec<String> = parts.into_iter().filter_map(|(part, _)| part).collect();
    ((!said.is_empty()).then(|| said.join("; ")), degraded)
}

/// See [`Facts::small`].
const SMALL: &str = "large packets vanish on the path without a word (a black hole of path MTU discovery): TLS tunnels make do with \
                     packets of 1280 bytes";

/// Why a cluster is neither dialled nor let in that has no bundle here, in one line; `bundle` is where that would lie.
pub fn untrusted(cluster: &str, bundle: Option<&Path>) -> String {
    let place = bundle.map_or_else(|| "a bundle".to_owned(), |path| path.display().to_string());
    format!("it is not trusted: found no CA certificates of {cluster}, expected them in {place}")
}

fn unreached(gateways: &GatewaysStatus) -> Option<String> {
    let first = gateways.addresses.iter().find_map(|address| Some((&address.address, address.message.as_ref()?)));
    let (address, why) = first?;
    Some(format!("{} of {} gateways are reached; {address}: {why}", gateways.reached, gateways.known))
}

fn loss([out, back]: [Option<f64>; 2]) -> Option<String> {
    let percent = |loss: Option<f64>| loss.map_or("an unknown part".into(), |loss| format!("{:.1}%", loss * 100.0));
    let lossy = [out, back].into_iter().flatten().any(|loss| loss >= LOSSY);
    lossy.then(|| format!("the path loses {} of what goes there, {} of what comes back", percent(out), percent(back)))
}

fn skew(ahead: i64) -> Option<String> {
    let by = Duration::from_millis(ahead.unsigned_abs());
    let word = if ahead < 0 { "behind" } else { "ahead of" };
    (by >= SKEW).then(|| format!("the clocks differ: the peer's is {} s {word} this one", by.as_secs()))
}

fn broken(Broken { times, ago, why }: &Broken) -> String {
    let tunnels = if *times == 1 { "a tunnel".to_owned() } else { format!("{times} tunnels") };
    format!("{tunnels} broke within 10 min, the last {} s ago: {why}", ago.as_secs())
}

fn declined((limit, declined): (u32, usize)) -> String {
    format!(
        "the peer takes {limit} tunnels of this gateway, {declined} fewer than it would dial: some cores do without"
    )
}

fn revision(theirs: u16) -> Option<String> {
    let what = match theirs {
        REVISION => return None,
        0..REVISION => "older: it does not tell which of its cluster's gateways it is, nor its clock",
        _ => "newer: what it has more is not used",
    };
    Some(format!("the peer speaks revision {theirs} of isthmus/1, this gateway revision {REVISION}; {what}"))
}

#[cfg(test)]
mod tests;
