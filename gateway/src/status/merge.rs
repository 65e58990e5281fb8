//! ● From the cores' reports to one [`Status`].

use super::{
    BreakReport, CheckReport, CheckStatus, ChoiceReport, CoreReport, DialReport, EndpointReport, EndpointStatus,
    ExtraStatus, IdentityReport, LinkStatus, LinkWord, LocalHopStatus, LossReport, ServiceKind, ServiceStatus, Status,
    TableStatus, Timestamp, TunnelReport, gateways::gateways, message, report::Broken,
};
use crate::{
    admin::Readiness,
    balance::health::HealthStatus,
    hop::unread,
    tunnel::{TunnelHealth, link::LinkState},
};
use isthmus_control_api::{ClusterName, Export, Import, Link, Listen, ServicePort, Weights};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

/// One status of what each core reported, in the order of the cores; `None` of one that did not answer.
pub fn merge(extra: &ExtraStatus, readiness: &Readiness, reports: &[Option<CoreReport>]) -> Status {
    let all: Vec<&CoreReport> = reports.iter().flatten().collect();
    let index = Index::new(&all);
    let exports = extra.table.exports.iter().map(|(port, export)| export_status(port, export, &index));
    let imports = extra.table.imports.iter().map(|(listen, import)| import_status(listen, import, extra, &index));
    Status {
        cluster: extra.cluster.clone(),
        clusterset: extra.clusterset.clone(),
        gateway: extra.gateway.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: readiness.problem().is_none(),
        not_ready: readiness.problem().map(str::to_owned),
        table: TableStatus { version: extra.table.version, age_seconds: extra.table_age.map(|age| age.as_secs_f64()) },
        links: extra.table.links.iter().map(|(cluster, link)| link_status(cluster, link, extra, &all)).collect(),
        services: imports.chain(exports).collect(),
        identity: extra.identity.clone(),
        local_hop: all.iter().find_map(|report| report.local_hop.clone()).map(|hop| LocalHopStatus {
            unread: unread::sum(all.iter().flat_map(|report| report.unread.clone())),
            ..hop
        }),
        shared_listener: all.iter().find_map(|report| report.shared_listener.clone()),
        silent_cores: (0..reports.len()).filter(|&core| reports[core].is_none()).collect(),
        control: extra.control.clone(),
    }
}

/// What the cores report of services, by what it is of: there may be thousands.
struct Index<'r> {
    /// Why a listener does not listen.
    refused: HashMap<Listen, &'r str>,
    endpoints: HashMap<(&'r ServicePort, SocketAddr), Vec<&'r EndpointReport>>,
    checks: HashMap<(&'r ServicePort, SocketAddr), &'r CheckReport>,
}

impl<'r> Index<'r> {
    fn new(reports: &[&'r CoreReport]) -> Self {
        let mut index = Self { refused: HashMap::new(), endpoints: HashMap::new(), checks: HashMap::new() };
        for report in reports {
            for listener in &report.listeners {
                if let Some(error) = &listener.error {
                    index.refused.entry(listener.listen.clone()).or_insert(error);
                }
            }
            for known in &report.endpoints {
                index.endpoints.entry((&known.service, known.status.address)).or_default().push(known);
            }
            for check in &report.checks {
                index.checks.entry((&check.service, check.address)).or_insert(check);
            }
        }
        index
    }
}

fn link_status(cluster: &ClusterName, link: &Link, extra: &ExtraStatus, reports: &[&CoreReport]) -> LinkStatus {
    let all = reports.iter().flat_map(|report| &report.tunnels).filter(|tunnel| tunnel.cluster == *cluster);
    let tunnels: Vec<&TunnelReport> = all.filter(|tunnel| tunnel.status.health != TunnelHealth::Closed).collect();
    // What drains beside others, or does not answer, takes no new streams.
    let carrying: Vec<&TunnelReport> = match live(&tunnels).collect::<Vec<_>>() {
        none if none.is_empty() => tunnels.clone(),
        live => live,
    };
    let dials = reports.iter().flat_map(|report| &report.dials).filter(|dial| dial.cluster == *cluster);
    let dials: Vec<&DialReport> = dials.collect();
    let lookup =
        of(cluster, reports.iter().flat_map(|report| &report.lookups), |(of, _)| of).map(|(_, why)| &**why).next();
    let control = extra.links.get(cluster);
    let state = control.and_then(|link| link.state).unwrap_or_else(|| link_word(link, &tunnels, &dials, lookup));
    let choices = || reports.iter().flat_map(|report| &report.choices).filter(|choice| choice.cluster == *cluster);
    let gateways = gateways(&tunnels, &dials);
    let losses = || of(cluster, reports.iter().flat_map(|report| &report.losses), |loss| &loss.cluster);
    let worst = |loss: fn(&LossReport) -> Option<f64>| losses().filter_map(loss).reduce(f64::max);
    let loss = [worst(|loss| loss.out), worst(|loss| loss.back)];
    let greetings = || live(&tunnels).filter_map(|tunnel| tunnel.status.peer);
    // Of several measurements the one that is least wrong: a clock may have been put right meanwhile.
    let ahead = greetings().filter_map(|peer| peer.ahead).min_by_key(|ahead| ahead.unsigned_abs());
    let broken = broken(of(cluster, reports.iter().flat_map(|report| &report.breaks), |of| &of.cluster));
    let waits = untrusted(cluster, state, &extra.identity).or_else(|| waits(cluster, link, state));
    let (message, degraded) = message::say(&message::Facts {
        state,
        gateways: &gateways,
        failed: dials.iter().find_map(|dial| dial.state.last_error()).or(waits.as_deref()),
        lookup,
        declined: declined(&dials),
        small: dials.iter().any(|dial| dial.small && matches!(dial.state, LinkState::Up { .. })),
        loss,
        ahead,
        revision: greetings().filter_map(|peer| peer.revision).min(),
        broken: broken.as_ref(),
        refused: control.and_then(|link| link.refused.as_deref()),
        control: control.and_then(|link| link.message.as_deref()),
    });
    LinkStatus {
        cluster: cluster.to_string(),
        state,
        transport: joined(carrying.iter().map(|tunnel| tunnel.status.transport.as_str())),
        chosen: joined(choices().map(|choice| choice.transport.as_str())),
        chosen_because: because(&choices().collect::<Vec<_>>()),
        via: via(&choices().collect::<Vec<_>>()),
        direction: joined(carrying.iter().map(|tunnel| tunnel.status.direction.as_str())),
        rtt_ms: carrying.iter().filter_map(|tunnel| tunnel.status.rtt).min().map(millis),
        streams_in: tunnels.iter().map(|tunnel| tunnel.status.streams_in).sum(),
        streams_out: tunnels.iter().map(|tunnel| tunnel.status.streams_out).sum(),
        tunnels: tunnels.len(),
        sync_age_seconds: control.and_then(|link| link.sync_age).map(|age| age.as_secs_f64()),
        cert_expiry: tunnels.iter().filter_map(|tunnel| tunnel.cert_expiry).min().map(Timestamp::from),
        gateways,
        loss_out_percent: loss[0].map(percent),
        loss_in_percent: loss[1].map(percent),
        clock_ahead_seconds: ahead.map(|ahead| ahead as f64 / 1e3),
        degraded,
        message,
    }
}

/// How many tunnels the peer takes of this gateway, and how many it declined.
fn declined(dials: &[&DialReport]) -> Option<(u32, usize)> {
    let limits = dials.iter().filter_map(|dial| dial.declined);
    limits.clone().min().map(|limit| (limit, limits.count()))
}

/// Those of `all` that are of a cluster.
fn of<'r, T: 'r>(
    cluster: &'r ClusterName,
    all: impl Iterator<Item = &'r T>,
    whose: fn(&T) -> &ClusterName,
) -> impl Iterator<Item = &'r T> {
    all.filter(move |one| whose(one) == cluster)
}

fn live<'t>(tunnels: &'t [&TunnelReport]) -> impl Iterator<Item = &'t TunnelReport> {
    tunnels.iter().copied().filter(|tunnel| tunnel.status.health == TunnelHealth::Live)
}

/// What all cores' tunnels broke, together.
fn broken<'r>(breaks: impl Iterator<Item = &'r BreakReport>) -> Option<Broken> {
    breaks.map(|of| of.broken.clone()).reduce(|a, b| {
        let times = a.times + b.times;
        Broken { times, ..if a.ago <= b.ago { a } else { b } }
    })
}

/// What a relayed link waits for, whose other side dials.
fn waits(cluster: &ClusterName, link: &Link, state: LinkWord) -> Option<String> {
    let relay = link.relay.as_ref().filter(|_| state == LinkWord::Waiting)?;
    Some(format!("waits for {cluster} to come through {relay}: its status says what is wrong"))
}

/// Why nobody is let in who is waited for. Of what is dialled the diallers say it.
fn untrusted(cluster: &ClusterName, state: LinkWord, identity: &IdentityReport) -> Option<String> {
    let trusts = |name: &String| name == cluster.as_str();
    let waits_in_vain = state == LinkWord::Waiting && identity.id.is_some() && !identity.trusts.iter().any(trusts);
    let bundle = identity.bundles.as_ref().map(|bundles| Path::new(bundles).join(format!("{cluster}.pem")));
    waits_in_vain.then(|| message::untrusted(cluster.as_str(), bundle.as_deref()))
}

/// Who relays new streams, if any core has no direct tunnel.
fn via(choices: &[&ChoiceReport]) -> Option<String> {
    choices.iter().find_map(|choice| choice.via.as_ref()).map(ToString::to_string)
}

/// Why; of a relay first, which not all cores may need.
fn because(choices: &[&ChoiceReport]) -> Option<String> {
    let is_relayed = |choice: &&&ChoiceReport| choice.via.is_some();
    let relayed = choices.iter().find(is_relayed);
    let differ = relayed.is_some() && !choices.iter().all(|choice| is_relayed(&choice));
    let reason = relayed.or(choices.first())?.reason.clone();
    Some(if differ { format!("{reason}, on some cores") } else { reason })
}

/// The best that a tunnel says; without tunnels what dialling says.
fn link_word(link: &Link, tunnels: &[&TunnelReport], dials: &[&DialReport], lookup: Option<&str>) -> LinkWord {
    let any = |health| tunnels.iter().any(|tunnel| tunnel.status.health == health);
    if any(TunnelHealth::Live) {
        LinkWord::Up
    } else if any(TunnelHealth::Unresponsive) {
        LinkWord::Unresponsive
    } else if any(TunnelHealth::Draining) {
        LinkWord::Draining
    } else if link.endpoints.is_empty() && dials.is_empty() {
        LinkWord::Waiting
    } else if lookup.is_some() || dials.iter().any(|dial| dial.state.last_error().is_some()) {
        // Between attempts and during the next one alike, so that the word does not flicker.
        LinkWord::Down
    } else {
        LinkWord::Dialling
    }
}

fn import_status(listen: &Listen, import: &Import, extra: &ExtraStatus, index: &Index<'_>) -> ServiceStatus {
    let mut clusters: BTreeMap<String, u32> =
        import.clusters.iter().map(|(cluster, &ready)| (cluster.to_string(), ready)).collect();
    if let Some(export) = extra.table.exports.get(&import.service) {
        clusters.insert(extra.cluster.clone(), u32::try_from(export.endpoints.len()).unwrap_or(u32::MAX));
    }
    let message = index.refused.get(&listen.socket()).map(|&error| error.to_owned());
    let nowhere = || clusters.values().all(|&ready| ready == 0).then(|| "no cluster has a ready endpoint".to_owned());
    ServiceStatus {
        service: import.service.service.to_string(),
        port: import.service.port,
        protocol: import.service.protocol,
        kind: ServiceKind::Import,
        listen: Some(match &listen.server_name {
            None => listen.address.to_string(),
            Some(_) => listen.to_string(),
        }),
        message: message.or_else(nowhere),
        clusters,
        weights: import.weights.as_ref().map(|weights| shares(&extra.cluster, weights)).unwrap_or_default(),
        endpoints: Vec::new(),
    }
}

/// The shares above zero, by cluster.
fn shares(own: &str, weights: &Weights) -> BTreeMap<String, u32> {
    let others = weights.clusters.iter().map(|(cluster, &share)| (cluster.to_string(), share));
    others.chain([(own.to_owned(), weights.local)]).filter(|&(_, share)| share > 0).collect()
}

fn export_status(port: &ServicePort, export: &Export, index: &Index<'_>) -> ServiceStatus {
    let endpoints = export.endpoints.iter().map(|endpoint| {
        let key = (port, endpoint.address);
        let known = index.endpoints.get(&key).into_iter().flatten().copied();
        let check = index.checks.get(&key).map(|check| check_status(check));
        EndpointStatus { check, ..endpoint_status(endpoint.address, known) }
    });
    ServiceStatus {
        service: port.service.to_string(),
        port: port.port,
        protocol: port.protocol,
        kind: ServiceKind::Export,
        listen: None,
        clusters: Default::default(),
        weights: Default::default(),
        endpoints: endpoints.collect(),
        message: export.endpoints.is_empty().then(|| "no endpoint is ready".to_owned()),
    }
}

fn endpoint_status<'r>(address: SocketAddr, known: impl Iterator<Item = &'r EndpointReport>) -> EndpointStatus {
    let unused = EndpointStatus {
        address: address.to_string(),
        health: "unused".to_owned(),
        inflight: 0,
        ewma_ms: None,
        answer_ms: None,
        failures: 0,
        resets: 0,
        message: None,
        check: None,
    };
    let mut worst = None;
    let mut merged = known.fold(unused, |merged, EndpointReport { status, .. }| {
        worst = worst.max(Some(badness(status.health)));
        EndpointStatus {
            inflight: merged.inflight.saturating_add(status.in_flight),
            ewma_ms: merged.ewma_ms.into_iter().chain(status.connect_time.map(millis)).reduce(f64::max),
            answer_ms: merged.answer_ms.into_iter().chain(status.answer_time.map(millis)).reduce(f64::max),
            failures: merged.failures.max(status.failures),
            resets: merged.resets.max(status.resets),
            message: merged.message.or_else(|| status.why.map(|why| why.as_str().to_owned())),
            ..merged
        }
    });
    if let Some((_, word)) = worst {
        merged.health = word.to_owned();
    }
    merged
}

pub(super) fn badness(health: HealthStatus) -> (u8, &'static str) {
    match health {
        HealthStatus::Healthy => (0, "healthy"),
        HealthStatus::Probing => (1, "probing"),
        HealthStatus::Failing => (2, "failing"),
        HealthStatus::Ejected(_) => (3, "ejected"),
        HealthStatus::Down => (4, "down"),
    }
}

fn check_status(check: &CheckReport) -> CheckStatus {
    CheckStatus {
        state: check.state.as_str().to_owned(),
        age_seconds: check.age.map(|age| age.as_secs_f64()),
        took_ms: check.took.map(millis),
        error: check.error.clone(),
    }
}

/// The different words, in order, joined by `+`.
fn joined(words: impl Iterator<Item = &'static str>) -> Option<String> {
    let words: std::collections::BTreeSet<_> = words.collect();
    (!words.is_empty()).then(|| words.into_iter().collect::<Vec<_>>().join("+"))
}

/// Percent, to the hundredth.
fn percent(part: f64) -> f64 {
    (part * 1e4).round() / 1e2
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
