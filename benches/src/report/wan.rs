//! `WAN.md` and `wan.json`: what was measured over the emulated WAN, leg by leg.
//!
//! A run replaces the legs that it has measured, and leaves the others as they were: each says when, and of what
//! commit, it is.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::markdown;
use crate::case::Case;
use crate::error::{Error, Result, write_file};
use crate::leg::{Kind, LEGS, Leg};
use crate::metric::Metric;
use crate::samples::{Outcome, Samples};
use crate::setup::Setup;
use crate::target::WAN_TARGETS;

/// Adds `legs`, each with what it measured and how that can be repeated, to the files in `dir`.
pub fn write(dir: &Path, legs: &[(&'static Leg, Value)]) -> Result<Vec<PathBuf>> {
    let (json_path, text_path) = (dir.join("wan.json"), dir.join("WAN.md"));
    let mut document = match std::fs::read_to_string(&json_path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| Error::Load(format!("{}: {error}; remove it to begin anew", json_path.display())))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
        Err(error) => return Err(Error::io(format!("reading {}", json_path.display()))(error)),
    };
    for (leg, result) in legs {
        document[leg.key] = result.clone();
    }
    write_file(&json_path, &format!("{document:#}\n"))?;
    write_file(&text_path, &render(&document))?;
    Ok(vec![text_path, json_path])
}

/// One leg's part of `wan.json`. A value that is not finite (a lock-out) is null.
pub fn result(about: &str, command: &str, rounds: u32, took: u64, samples: &Samples) -> Value {
    let of_metric = |metric: Metric| {
        let setups = samples.setups().into_iter();
        let raw: Map<String, Value> = setups
            .map(|setup| (setup.key().to_owned(), json!(samples.raw(metric, setup))))
            .filter(|(_, raw)| raw.as_array().is_some_and(|raw| !raw.is_empty()))
            .collect();
        (metric.info().key.to_owned(), Value::Object(raw))
    };
    let failed = samples.errors().map(|(setup, case, count)| json!([setup.key(), case.key(), count]));
    json!({
        "about": about, "command": command, "rounds": rounds, "took_seconds": took,
        "metrics": samples.metrics().into_iter().map(of_metric).collect::<Map<_, _>>(),
        "failed_requests": failed.collect::<Vec<_>>(),
        "not_done": samples.failures(),
    })
}

/// The samples of one leg's part.
fn samples_of(result: &Value) -> Samples {
    let mut samples = Samples::default();
    for metric in Metric::ALL {
        for setup in Setup::ALL {
            let raw = result["metrics"][metric.info().key][setup.key()].as_array();
            for (round, value) in (1..).zip(raw.into_iter().flatten()) {
                samples.record(round, setup, &[(metric, value.as_f64().unwrap_or(f64::INFINITY))]);
            }
        }
    }
    for failed in result["failed_requests"].as_array().into_iter().flatten() {
        let word = |at: usize| failed[at].as_str().unwrap_or_default();
        if let (Ok(setup), Ok(case)) = (Setup::from_str(word(0), false), Case::from_str(word(1), false)) {
            let errors = failed[2].as_u64().unwrap_or_default();
            samples.add(1, setup, case, &Outcome { values: Vec::new(), errors });
        }
    }
    for failure in result["not_done"].as_array().into_iter().flatten() {
        samples.fail(failure.as_str().unwrap_or_default().to_owned());
    }
    samples
}

/// The whole document.
fn render(document: &Value) -> String {
    let mut text = HEAD.to_owned();
    for leg in LEGS.iter().filter(|leg| document.get(leg.key).is_some()) {
        let result = &document[leg.key];
        let samples = samples_of(result);
        let word = |key: &str| result[key].as_str().unwrap_or_default();
        text += &format!(
            "## {}\n\n`{}` ({} in all, {}): {}. WAN: `{}`.\n\n{}\n{}\n{}",
            leg.title,
            word("command"),
            crate::schedule::minutes(result["took_seconds"].as_f64().unwrap_or_default()),
            match leg.kind {
                Kind::Loads(_) => format!("{} rounds", result["rounds"]),
                Kind::Faults(_) => format!("{} faults", result["rounds"]),
            },
            word("about"),
            leg.spec,
            markdown::targets(&WAN_TARGETS, &samples),
            markdown::medians(&samples, Setup::IsthmusAuto),
            markdown::failures(&samples).replace("## Failures\n\n", ""),
        );
    }
    text + HOW
}

const HEAD: &str = "# Results over an emulated WAN

Written by `make bench ARGS=wan`; do not edit. Each leg is one run of its own, all setups interleaved, and says when it was made. Read
the ratios: wrk, nginx, both proxies and the emulator itself share the CPUs.

";

const HOW: &str = "## How

client → egress proxy ══ emulated WAN, mutual TLS 1.3 ══ ingress proxy → nginx, as on loopback ([RESULTS.md](RESULTS.md)), with the two
halves in network namespaces and the emulator of [docs/wan.md](../docs/wan.md) between them. The times are round trips, losses are of each
direction, and the line has 500 Mbit/s each way with a queue of 100 ms. Direct: the client connects to nginx over the WAN.

- Everybody has the same kernel: BBR, which is this kernel's default, and socket buffers that grow to 32 MiB. (isthmus over QUIC has QUIC's own BBR.)
- Peers are tuned as on loopback, but Envoy's HTTP/2 windows are its defaults, 16 MiB a stream and 24 MiB a connection: the line holds 5 MB at 80 ms.
  TLS sessions are resumed. Nobody preconnects; isthmus and HBONE keep their tunnels.
- c=64, close: wrk as on loopback. First byte: eight clients, each connects, sends a request, waits for the first byte and closes, again and
  again. Round trip: a TCP connect to nginx, without proxies. Bulk: two seconds to get going, then counted where the bytes arrive.
- external load balancer: the scenario of the benchmark that is quoted for cross-cluster traffic. The client speaks TLS 1.3 to nginx through HAProxy in
  TCP mode, a load balancer of layer 4 at the far end. `close` is its case: 16 clients, and TLS for each connection. Its name is looked up once, so
  DNS costs it nothing here. wrk runs for a time rather than for 10,000 requests, and its clock runs from the request on: p50 and p99 of `close` have
  neither connect nor TLS of direct and of the load balancer, and all of it of the proxies. What a connection took in all is 16 divided by the rate.
- A path dies: the two ends have two paths, with an address of the far end each; every 13 seconds one becomes a black hole for four seconds, in
  turn. UDP dies: it becomes one, once `auto` has taken QUIC, which it does on a path that loses 2%. Each proxy is asked 200 times a second, on a connection for each request; what has no answer after a second has failed.
  The gap is the longest time between two answers, the fault and what came a second after it included. isthmus has no settings for that. Envoy checks both
  addresses and its connections every 250 ms, gives a connect 250 ms and three attempts; HAProxy checks every 250 ms, with the same limit, and redispatches.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_again_is_what_was_written() {
        let mut samples = Samples::default();
        let values = |value| Outcome { values: vec![(Metric::FirstP50, value)], errors: 2 };
        samples.add(1, Setup::IsthmusAuto, Case::First, &values(80.5));
        samples.add(2, Setup::IsthmusAuto, Case::First, &values(f64::INFINITY));
        samples.fail("nginx: it broke".into());
        let again = samples_of(&result("today", "make bench", 2, 60, &samples));
        let raw = |samples: &Samples| samples.raw(Metric::FirstP50, Setup::IsthmusAuto);
        assert_eq!(raw(&again), raw(&samples));
        assert_eq!(again.errors().collect::<Vec<_>>(), samples.errors().collect::<Vec<_>>());
        assert_eq!(again.failures(), samples.failures());
    }

    #[test]
    fn a_run_replaces_its_own_legs_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut samples = Samples::default();
        samples.record(1, Setup::IsthmusAuto, &[(Metric::FirstRoundTrips, 1.01)]);
        let leg = |about| result(about, "make bench", 1, 60, &samples);
        write(dir.path(), &[(&LEGS[0], leg("yesterday")), (&LEGS[1], leg("yesterday"))]).unwrap();
        write(dir.path(), &[(&LEGS[1], leg("today"))]).unwrap();
        let text = std::fs::read_to_string(dir.path().join("WAN.md")).unwrap();
        assert!(
            text.contains("yesterday. WAN: `5ms,500mbit`") && text.contains("today. WAN: `80ms,500mbit`"),
            "{text}"
        );
        assert!(
            text.contains("| first byte p50 | isthmus-auto | itself | 1.01 round trips | ≤ 1.1 round trips | PASS |"),
            "{text}"
        );
    }
}
