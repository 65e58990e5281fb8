//! `isthmus trace` names the hop at which a stream fails; `bench` measures within its bounds.

use isthmus_tests::{
    Endpoint, Gateway, Nginx, Topology, Transport, endpoint, eventually,
    pair::{self, Pair},
};
use serde_json::Value;

const SOURCES: &str = "sources:
  - {cidrs: [10.0.0.2], namespace: shop, serviceAccount: web}";
const CALLERS: &str = "accessPolicies:
  - name: callers
    services: [shop/api]
    rules: [{name: web, from: [{clusters: [west], serviceAccounts: [shop/web]}]}]";

/// What a command says as JSON, its exit code, and what is on stderr.
pub(crate) fn ask(gateway: &Gateway<'_>, args: &[&str]) -> (Value, Option<i32>, String) {
    let output = gateway.command(&[args, &["--output", "json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (serde_json::from_slice(&output.stdout).unwrap_or_default(), output.status.code(), stderr)
}

/// The mark of each hop, in order.
fn hops(trace: &Value) -> Vec<String> {
    let hops = trace["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
    let words = hops.iter().map(|hop| format!("{} {}", hop["hop"].as_str().unwrap(), hop["mark"].as_str().unwrap()));
    words.collect()
}

/// Waits until a trace fails at that hop.
fn wait_fails(gateway: &Gateway<'_>, args: &[&str], hop: &str) -> Value {
    eventually(&format!("{args:?} fails at {hop}"), || {
        let (trace, code, stderr) = ask(gateway, args);
        let fails = code == Some(3) && hops(&trace).contains(&format!("{hop} failed"));
        if fails { Ok(trace) } else { Err(format!("{code:?} {stderr} {trace}")) }
    })
}

#[test]
fn the_hop_that_fails_is_named() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let west_config = pair::west_config(&topology, Transport::Tls).with(SOURCES);
    let east_config = pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]);
    let pair = Pair::start_with(&topology, &west_config, &east_config);
    pair.wait_echo();
    let (trace, code, stderr) = ask(&pair.west, &["trace", pair::SERVICE]);
    assert_eq!(code, Some(0), "{stderr} {trace}");
    let expected = ["dns skipped", "listener ok", "gateway ok", "peer ok", "policy ok", "endpoint ok"];
    assert_eq!(hops(&trace), expected, "{trace}");
    for hop in [1, 3, 5] {
        assert!(trace["hops"][hop]["took_ms"].as_f64().unwrap() > 0.0, "{trace}");
    }

    let no_name = ["trace", pair::SERVICE, "--name", "api.nowhere.invalid"];
    wait_fails(&pair.west, &no_name, "dns");

    pair.east.configure(&east_config.clone().with(CALLERS));
    let trace = wait_fails(&pair.west, &["trace", pair::SERVICE], "policy");
    assert_eq!(hops(&trace)[3..], ["peer ok", "policy failed", "endpoint skipped"], "{trace}");
    let (trace, code, stderr) = ask(&pair.west, &["trace", pair::SERVICE, "--client", "10.0.0.2"]);
    assert_eq!(code, Some(0), "it is allowed whom the policy is for: {stderr} {trace}");
    pair.east.configure(&east_config);

    drop(echo);
    let trace = wait_fails(&pair.west, &["trace", pair::SERVICE], "endpoint");
    assert_eq!(hops(&trace)[3..], ["peer ok", "policy ok", "endpoint failed"], "{trace}");

    let mut east = pair.east;
    east.kill();
    let trace = wait_fails(&pair.west, &["trace", pair::SERVICE], "gateway");
    assert!(
        hops(&trace).iter().all(|hop| !hop.starts_with("endpoint")),
        "nobody is blamed that was not asked: {trace}"
    );
    let (_, code, stderr) = ask(&pair.west, &["trace", "shop/nothing", "--no-walk"]);
    assert!(code == Some(3) && stderr.contains("neither imports nor exports"), "{stderr}");
}

#[test]
fn a_peer_that_hangs_is_the_hop() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    pair.wait_echo();
    pair.east.pause();
    // The gateway may have noticed, or not yet: a stream gets no further either way.
    let (trace, code, stderr) = ask(&pair.west, &["trace", pair::SERVICE]);
    assert_eq!(code, Some(3), "{stderr} {trace}");
    let found = hops(&trace);
    assert!(["gateway failed", "peer failed"].iter().any(|hop| found.iter().any(|found| found == hop)), "{trace}");
    pair.east.resume();
}

#[test]
fn a_measurement_keeps_its_bounds() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let mut nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let asked = ["bench", pair::SERVICE, "--seconds", "1", "--rate", "50", "--connections", "2"];
    for http in [&[][..], &["--http", "/"]] {
        let (report, code, stderr) = eventually("the service is there", || {
            let (report, code, stderr) = ask(&pair.west, &[&asked, http].concat());
            if code == Some(0) { Ok((report, code, stderr)) } else { Err(stderr) }
        });
        assert_eq!(code, Some(0), "{stderr} {report}");
        let rounds = report["rounds"].as_u64().unwrap();
        // A turn each 20 ms, of which the first is at once.
        assert!((1..=51).contains(&rounds), "{report}");
        assert_eq!(report["failed"], 0, "{report}");
        assert_eq!(report["megabits_per_second"].is_f64(), !http.is_empty(), "{report}");
        let counted: u64 = report["histogram"].as_array().unwrap().iter().map(|row| row[1].as_u64().unwrap()).sum();
        assert_eq!(counted, rounds, "{report}");
    }
    let (report, code, stderr) = ask(&pair.west, &[&asked[..], &["--http", "/files/none"]].concat());
    assert!(code == Some(1) && stderr.contains("HTTP status 404"), "{stderr} {report}");
    nginx.kill();
    eventually("what is not there is not measured", || {
        let (report, code, stderr) = ask(&pair.west, &asked);
        if code == Some(1) && stderr.contains("isthmus trace shop/api") {
            Ok(())
        } else {
            Err(format!("{stderr} {report}"))
        }
    });
}

#[test]
fn services_are_listed_and_yaml_is_the_same_as_json() {
    let topology = Topology::west_and_east();
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let (json, code, stderr) = ask(&pair.west, &["services"]);
    assert_eq!((code, &json["services"][0]["service"]), (Some(0), &pair::SERVICE.into()), "{stderr} {json}");
    let yaml = pair.west.command(&["services", "--output", "yaml"]);
    let yaml = String::from_utf8_lossy(&yaml.stdout).into_owned();
    assert!(yaml.contains("service: shop/api") && yaml.contains("kind: import"), "{yaml}");
    // No colour, and no screen, where there is no terminal.
    let table = pair.west.command(&["check"]);
    assert!(!String::from_utf8_lossy(&table.stdout).contains('\u{1b}'));
    let top = pair.west.command(&["top"]);
    assert!(top.status.code() == Some(1) && String::from_utf8_lossy(&top.stderr).contains("no terminal"));
}

/// On a terminal of its own, which `script` makes: one look, and the key that ends it.
#[test]
fn top_shows_a_running_gateway_and_ends_by_a_key() {
    let topology = Topology::west_and_east();
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let isthmus = isthmus_tests::identity::isthmus();
    let line = format!("stty rows 24 cols 120; TERM=xterm {} top", isthmus.display());
    let script = format!("printf q | script -qec '{line}' /dev/null");
    let output = pair.west.cluster().edge().output("sh", &["-c", &script]);
    let screen = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{screen}");
    for part in ["west", "CLUSTER", "east", "up", "tls"] {
        assert!(screen.contains(part), "{part} is not on {screen:?}");
    }
}
