//! `results.json`: every sample.

use serde_json::{Map, Value, json};

use super::Source;
use crate::metric::{Better, Metric};
use crate::samples::Samples;
use crate::setup::Setup;
use crate::target::{Limit, TARGETS, judge};

/// The whole document. A value that is not finite (a lock-out) is null.
pub fn render(source: &Source<'_>) -> String {
    let samples = &source.run.samples;
    let versions: Map<String, Value> =
        source.machine.versions.iter().map(|(name, version)| ((*name).to_owned(), json!(version))).collect();
    let document = json!({
        "date": source.machine.date,
        "commit": source.machine.commit,
        "command": source.command,
        "machine": {
            "cpu": source.machine.cpu, "cpus": source.machine.cpus, "kernel": source.machine.kernel,
            "congestion_control": source.machine.congestion,
        },
        "versions": versions,
        "rounds": source.rounds,
        "seconds_per_load": source.scale.seconds,
        "idle_connections": source.scale.idle,
        "idle_cpu_percent": source.run.idle_percent,
        "others_cpu_percent": source.run.others_percent,
        "took_seconds": source.run.took.as_secs(),
        "metrics": samples.metrics().into_iter().map(|of| (of.info().key.to_owned(), metric(samples, of))).collect::<Map<_, _>>(),
        "targets": targets(samples),
        "failed_requests": samples.errors().map(|(setup, case, count)| json!({
            "setup": setup.key(), "case": case.key(), "count": count,
        })).collect::<Vec<_>>(),
        "not_done": samples.failures(),
    });
    format!("{document:#}\n")
}

fn metric(samples: &Samples, metric: Metric) -> Value {
    let info = metric.info();
    let setups: Map<String, Value> = samples
        .setups()
        .into_iter()
        .filter_map(|setup| Some((setup.key().to_owned(), values(samples, metric, setup)?)))
        .collect();
    let better = if info.better == Better::Lower { "lower" } else { "higher" };
    json!({"title": info.title, "unit": info.unit, "better": better, "setups": setups})
}

fn values(samples: &Samples, metric: Metric, setup: Setup) -> Option<Value> {
    let spread = samples.spread(metric, setup)?;
    Some(json!({"median": spread.median, "min": spread.min, "max": spread.max, "samples": samples.raw(metric, setup)}))
}

fn targets(samples: &Samples) -> Vec<Value> {
    let judged = judge(&TARGETS, samples).into_iter().map(|verdict| {
        let (limit, ratio) = match verdict.target.limit {
            Limit::OfBest(_, limit) => (limit, true),
            Limit::Value(limit) => (limit, false),
        };
        json!({
            "metric": verdict.target.metric.info().key, "subject": verdict.target.subject.key(),
            "against": verdict.against.map(Setup::key), "ratio": ratio,
            "found": verdict.found, "min": verdict.range.map(|range| range.min), "max": verdict.range.map(|range| range.max),
            "limit": limit, "pass": verdict.pass,
        })
    });
    judged.collect()
}
