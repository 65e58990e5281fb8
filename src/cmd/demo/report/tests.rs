use super::*;

fn outcome(failed: u64, unexpected: u64) -> Outcome {
    let (faults, answered) = (BTreeMap::new(), BTreeMap::new());
    Outcome { requests: 4000, failed, unexpected, faults, longest_gap_ms: 3412.0, answered }
}

fn measurement(path: Path, errors: u64) -> Measurement {
    let (requests, requests_per_second) = (51_234, 10_246.8);
    Measurement {
        path,
        connections: 64,
        requests,
        requests_per_second,
        p50_us: 480,
        p90_us: 900,
        p99_us: 1300,
        max_us: 12_345,
        errors,
        faults: BTreeMap::new(),
    }
}

fn report(errors: u64, unexpected: u64, recovery_ms: Option<f64>) -> Report {
    let throughput = vec![measurement(Path::Direct, 0), measurement(Path::Gateways, errors)];
    let link = LinkCut { outcome: outcome(1204, 0), cut_ms: 3000.0, recovery_ms };
    Report::judge(SetUp { mode: LOOPBACK, wan: None, seconds: 5 }, throughput, outcome(3, unexpected), link)
}

#[test]
fn the_table_is_aligned() {
    let expected = "\
connections  path                  requests/s  p50 ms  p90 ms  p99 ms  max ms  errors
64           direct                    10,247    0.48    0.90    1.30   12.34       0
64           through the gateways      10,247    0.48    0.90    1.30   12.34       0

under load                    requests  failed  unexpected  longest gap  recovery
one endpoint of two killed       4,000       3           0       3.41 s         -
link cut for 3.0 s, restored     4,000   1,204           0       3.41 s    412 ms

direct: inside east, without a gateway. longest gap: without any answer.
recovery: from the restored link to the first answer. The WAN was a relay within the demo, at a cost.

√ no request failed that should not have
";
    assert_eq!(report(0, 0, Some(412.0)).to_string(), expected);
}

#[test]
fn one_connection_that_is_quicker_through_the_gateways_is_explained_and_nothing_else_is() {
    let said = |connections: u32, direct: f64, through: f64, wan: Option<&str>| {
        let mut report = report(0, 0, Some(412.0));
        report.set_up.wan = wan.map(str::to_owned);
        for (measurement, rate) in report.throughput.iter_mut().zip([direct, through]) {
            (measurement.connections, measurement.requests_per_second) = (connections, rate);
        }
        let text = report.to_string();
        assert_eq!(text.matches(AWAKE).count(), usize::from(text.contains("quicker")), "{text}");
        text.contains(AWAKE)
    };
    assert!(said(1, 14_486.0, 15_114.0, None));
    assert!(!said(1, 15_114.0, 14_486.0, None) && !said(1, 15_114.2, 15_114.4, None));
    // Many keep no core awake; over a WAN nobody waits for the answer.
    assert!(!said(64, 14_486.0, 15_114.0, None) && !said(1, 14_486.0, 15_114.0, Some("50ms")));
}

#[test]
fn errors_anywhere_are_the_verdict() {
    assert!(report(0, 0, Some(1.0)).ok);
    for (bad, words) in [
        (report(2, 0, Some(1.0)), "2 requests"),
        (report(0, 1, Some(1.0)), "1 request "),
        (report(0, 0, None), "nothing"),
    ] {
        assert!(!bad.ok && bad.verdict().starts_with(words), "{}", bad.verdict());
    }
}

#[test]
fn digits_are_grouped() {
    assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
}
