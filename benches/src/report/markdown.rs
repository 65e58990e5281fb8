//! `RESULTS.md`.

use super::{Source, heading, table};
use crate::metric::Metric;
use crate::samples::Samples;
use crate::setup::Setup;
use crate::target::{TARGETS, Target, judge};

/// The whole document.
pub fn render(source: &Source<'_>) -> String {
    let samples = &source.run.samples;
    format!(
        "# Results\n\n{}\n\nOver an emulated WAN: [WAN.md](WAN.md). The local hop: [LOCAL-HOP.md](LOCAL-HOP.md). Choosing: [CHOICE.md](CHOICE.md). Control: [CONTROL.md](CONTROL.md). A newcomer's clock: [NEWCOMER.md](NEWCOMER.md).\n\n![chart](results.svg)\n\n## What must be reached\n\n{}\n## Medians and ranges\n\n{}\n{}## How\n\n{}",
        preface(source),
        targets(&TARGETS, samples),
        medians(samples, Setup::IsthmusTls),
        failures(samples),
        method(source)
    )
}

fn preface(source: &Source<'_>) -> String {
    format!(
        "Written by `{}`; do not edit. {}.\n\n{} rounds of {} s a load, {} in all. Absolute figures are of this machine and hour: \
         wrk, nginx and both proxies share its CPUs. Read the ratios.",
        source.command,
        heading(source.machine),
        source.rounds,
        source.scale.seconds,
        crate::schedule::minutes(source.run.took.as_secs_f64())
    )
}

/// A table of verdicts.
pub(super) fn targets(targets: &[Target], samples: &Samples) -> String {
    let mut text = "| | isthmus | compared with | found | must be | |\n|---|---|---|---|---|---|\n".to_owned();
    for verdict in judge(targets, samples) {
        let title = verdict.target.metric.info().title;
        let mark = if verdict.pass { "PASS" } else { "**short of target**" };
        let (compared, found, limit) = (table::compared(&verdict), table::found(&verdict), table::limit(&verdict));
        text += &format!("| {title} | {} | {compared} | {found} | {limit} | {mark} |\n", verdict.target.subject.key());
    }
    text + "\nRatio of the medians (range of the ratios within each round).\n"
}

/// A table of everything, with the ratio of `ours` to the best peer.
pub(super) fn medians(samples: &Samples, ours: Setup) -> String {
    let setups = samples.setups();
    let titles: Vec<&str> = setups.iter().map(|setup| setup.title()).collect();
    let mut text = format!("| | {} | {} : best peer |\n", titles.join(" | "), ours.key());
    text += &format!("|---|{}---|\n", "---|".repeat(setups.len()));
    for metric in samples.metrics() {
        let info = metric.info();
        let cells: Vec<String> = setups.iter().map(|&setup| cell(samples, metric, setup)).collect();
        let ratio =
            table::ratio_to_best(samples, metric, ours).map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}"));
        text += &format!("| {}, {} | {} | {ratio} |\n", info.title, info.unit, cells.join(" | "));
    }
    text + "\nMedian (smallest–largest) of the rounds. Bold: the best peer.\n"
}

fn cell(samples: &Samples, metric: Metric, setup: Setup) -> String {
    let Some(spread) = samples.spread(metric, setup) else { return "–".into() };
    let best = table::is_compared(metric) && samples.best(metric, &Setup::PEERS).is_some_and(|(best, _)| best == setup);
    let median = metric.show(spread.median);
    let median = if best { format!("**{median}**") } else { median };
    if spread.count == 1 {
        return median;
    }
    format!("{median} ({}–{})", metric.show(spread.min), metric.show(spread.max))
}

/// What failed, if anything did.
pub(super) fn failures(samples: &Samples) -> String {
    let mut text = String::new();
    for (setup, case, count) in samples.errors() {
        text +=
            &format!("- {}, {}: {count} requests or streams failed, all rounds together.\n", setup.title(), case.key());
    }
    for failure in samples.failures() {
        text += &format!("- Not done: {}\n", failure.lines().next().unwrap_or_default());
    }
    if text.is_empty() { text } else { format!("## Failures\n\n{text}\n") }
}

fn method(source: &Source<'_>) -> String {
    format!(
        "client → egress proxy → mutual TLS 1.3 (ECDSA P-256, AES-128-GCM where it can be chosen) → ingress proxy → nginx \
         with a body of 128 bytes, or a sink and source of the harness for bulk. {cpus} threads or \
         workers for every proxy, everything pinned to {cpus} CPUs, buffers as each has them by default (but Envoy's HTTP/2 \
         windows are 256 KiB a stream: with its default two stalled readers lock out all others), sessions resumed where \
         a peer does so by default.\n\n\
         Each round runs every case, each case every setup, starting with another one each time. The pairs stay up for \
         the whole run: idle, all of them together used {idle:.1}% of one core, and \
         everything else on the machine {others:.1}% of its CPUs. Memory and stalled readers are measured on \
         pairs started for it.\n\n\
         - c=1, c=64, close: wrk with 1, 2 and 2 threads; its percentiles are corrected for coordinated omission. \
         CPU is user and system time of both proxies over the c=64 load.\n\
         - bulk: 1 and 8 TCP connections for the time of a load after half a second to get going, counted where the bytes \
         arrive. CPU per GiB is over the eight streams down.\n\
         - memory: resident set of both proxies, all processes (pages that nginx's processes share are counted in each); \
         per idle connection at {conns}, each of which exchanged one request.\n\
         - stalled: 32 busy keep-alive connections, then the same beside 40 readers that asked for 1 GiB and stopped after 64 KiB.\n",
        cpus = source.machine.cpus,
        idle = source.run.idle_percent,
        others = source.run.others_percent,
        conns = source.scale.idle,
    )
}
