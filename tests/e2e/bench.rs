//! `isthmus bench --link`: what a link carries is near its path's rate, and nobody is loaded who does not want it.

use crate::{over_each_transport, walk::ask};
use isthmus_tests::{
    Config, Gateway, Topology, Transport, Trio, check, eventually,
    pair::{self, Pair},
    trio,
};
use serde_json::Value;

over_each_transport!(what_a_link_carries_is_near_the_rate_of_its_path, a_peer_that_is_killed_meanwhile_is_told);

/// A round trip of 20 ms; 20 Mbit/s each way.
const PATH: &str = "20ms,20mbit";
/// What may be measured there: headers take a part, loss and a busy machine more. What lay in buffers when the second piece was read came in
/// no time.
const MEGABITS: std::ops::RangeInclusive<f64> = 5.0..=24.0;
/// A measurement that is ended by something else than its time.
const LONG: [&str; 5] = ["bench", "--link", "east", "--seconds", "10"];

fn bytes_from(topology: &Topology, from: &str, to: &str) -> u64 {
    topology.emulator().counters(from, to).unwrap().bytes
}

/// Waits until a measurement of west's link with east is under way: the path carries more than summaries and pings.
fn wait_under_way(topology: &Topology) {
    let before = bytes_from(topology, "east", "west");
    eventually("bytes move", || {
        let more = bytes_from(topology, "east", "west") - before;
        if more > 1 << 20 { Ok(()) } else { Err(format!("{more} so far")) }
    });
}

fn what_a_link_carries_is_near_the_rate_of_its_path(transport: Transport) {
    let topology = Topology::west_and_east_over(PATH);
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    for (direction, from, to) in [("down", "east", "west"), ("up", "west", "east")] {
        let before = bytes_from(&topology, from, to);
        let asked = ["bench", "--link", "east", "--seconds", "3", "--streams", "2", "--direction", direction];
        let (report, code, stderr) = ask(&pair.west, &asked);
        assert_eq!(code, Some(0), "{stderr} {report}");
        let rate = report["megabits_per_second"].as_f64().unwrap();
        assert!(MEGABITS.contains(&rate), "{report}");
        let crossed = bytes_from(&topology, from, to) - before;
        let bytes = report["bytes"].as_u64().unwrap();
        assert!(bytes > 0 && bytes <= crossed, "{bytes} were said to arrive, {crossed} have crossed: {report}");
        let by_second = report["megabits_by_second"].as_array().unwrap();
        assert!((1..=4).contains(&by_second.len()), "{report}");
        assert_eq!(
            (&report["direction"], &report["streams"], &report["link"]),
            (&direction.into(), &2.into(), &"east".into())
        );
        let trip = |when: &str, what: &str| report["round_trips"][when][what].as_f64().unwrap();
        // The path takes 20 ms, whatever else there is; nothing waits for it but the load.
        assert!(trip("idle", "min") >= 20.0 && trip("loaded", "min") >= 20.0, "{report}");
        assert!(trip("loaded", "p90") >= trip("idle", "min"), "{report}");
        let counted: u64 = report["histogram"].as_array().unwrap().iter().map(|row| row[1].as_u64().unwrap()).sum();
        assert_eq!(report["round_trips"]["loaded"]["count"], counted, "{report}");
        let transports = report["tunnels"].as_array().unwrap().iter().map(|tunnel| tunnel["transport"].clone());
        assert!(transports.into_iter().all(|found| found == transport.to_string()), "{report}");
    }
    let (report, code, stderr) = ask(&pair.west, &[&LONG[..], &["--mebibytes", "1"]].concat());
    assert_eq!((code, &report["all_bytes"]), (Some(0), &true.into()), "{stderr} {report}");
    // Four streams may each have taken a piece more.
    let bytes = report["bytes"].as_u64().unwrap();
    assert!((1 << 20..=(1 << 20) + 4 * 65536).contains(&bytes), "{report}");
    let table = pair.west.command(&["bench", "--link", "east", "--seconds", "1", "--mebibytes", "1"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    for part in [
        "east to west: 4 streams over ",
        "THROUGHPUT",
        "Mbit in each second",
        "loaded",
        "round trip while loaded, up to",
    ] {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }
}

fn a_peer_that_is_killed_meanwhile_is_told(transport: Transport) {
    let topology = Topology::west_and_east_over(PATH);
    let Pair { west, mut east, .. } = Pair::start(&topology, transport, &[pair::endpoint()]);
    let (report, code, stderr) = std::thread::scope(|scope| {
        let measured = scope.spawn(|| ask(&west, &LONG));
        wait_under_way(&topology);
        east.kill();
        measured.join().unwrap()
    });
    assert_eq!(code, Some(3), "{stderr} {report}");
    assert!(
        stderr.contains("4 of 4 streams ended early") && stderr.contains("`isthmus check --link east`"),
        "{stderr}"
    );
    assert!(report["bytes"].as_u64().unwrap() > 0, "{report}");
    let (_, code, stderr) = eventually("the link is seen to be down", || {
        let told = ask(&west, &LONG);
        if told.2.contains("no tunnel to east is up") { Ok(told) } else { Err(told.2) }
    });
    assert_eq!(code, Some(1), "{stderr}");
    east.restart();
    let (report, code, stderr) = eventually("the link is measured again", || {
        let told = ask(&west, &["bench", "--link", "east", "--seconds", "1"]);
        if told.1 == Some(0) { Ok(told) } else { Err(told.2) }
    });
    assert_eq!(code, Some(0), "{stderr} {report}");
}

#[test]
fn a_peer_that_drains_ends_it_and_does_not_wait_for_it() {
    let topology = Topology::west_and_east_over(PATH);
    let Pair { west, mut east, .. } = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| ask(&west, &LONG));
        wait_under_way(&topology);
        east.terminate();
        let (report, code, stderr) = measured.join().unwrap();
        assert_eq!(code, Some(3), "{stderr} {report}");
        // The time was not what ended it.
        assert!(report["seconds"].as_f64().unwrap() < 9.0, "{report}");
    });
    assert!(east.wait_end().success());
}

#[test]
fn who_interrupts_the_command_ends_the_measurement_on_both_sides() {
    let topology = Topology::west_and_east_over(PATH);
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let isthmus = isthmus_tests::identity::isthmus();
    let line = [&["-s", "INT", "3", isthmus.to_str().unwrap()], &LONG[..]].concat();
    let output = pair.west.cluster().edge().output("timeout", &line);
    assert!(output.stdout.is_empty(), "{output:?}");
    // Neither gateway says that another measurement is under way.
    let (report, code, stderr) = eventually("it can be measured again", || {
        let told = ask(&pair.west, &["bench", "--link", "east", "--seconds", "1"]);
        if told.1 == Some(0) { Ok(told) } else { Err(told.2) }
    });
    assert_eq!((code, report["faults"].as_object().map(serde_json::Map::len)), (Some(0), Some(0)), "{stderr} {report}");
}

#[test]
fn a_peer_that_has_measurements_off_refuses_and_measures_itself() {
    let topology = Topology::west_and_east();
    let off = pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]).with("measurements: off");
    let pair = Pair::start_with(&topology, &pair::west_config(&topology, Transport::Tls), &off);
    let (_, code, stderr) = ask(&pair.west, &["bench", "--link", "east", "--seconds", "1"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("east refuses to be measured") && stderr.contains("measurements: off"), "{stderr}");
    pair.east.wait_metric("isthmus_refusals_total", &["bound=\"measurements\""], |refused| refused > 0.0);
    let (report, code, stderr) = ask(&pair.east, &["bench", "--link", "west", "--seconds", "1"]);
    assert_eq!(code, Some(0), "{stderr} {report}");
}

#[test]
fn what_cannot_be_measured_says_what_to_do() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let east = Gateway::start(east, &Config::new(east).is_dialled_by(west));
    let west = Gateway::start(west, &pair::west_config(&topology, Transport::H2));
    east.wait_link("west", &["up"]);
    for (gateway, args, expected, said) in [
        (&east, &["--link", "west"][..], 1, "west dials this link over h2"),
        (&west, &["--link", "north"], 1, "no link with north: expected east"),
        (&west, &["--link", "east", "--seconds", "11"], 2, "--seconds 11: a link is measured with 10 at most"),
        (&west, &["--link", "east", "--mebibytes", "2001"], 2, "--mebibytes 2001"),
        (&west, &["--link", "east", "--rate", "5"], 2, "cannot be used with"),
        (&west, &["shop/api", "--streams", "5"], 2, "cannot be used with '--streams"),
        (&west, &[], 2, "--link"),
    ] {
        let (_, code, stderr) = ask(gateway, &[&["bench"], args].concat());
        assert!(code == Some(expected) && stderr.contains(said), "{args:?}: {code:?} {stderr}");
    }
}

#[test]
fn a_relay_is_not_loaded() {
    let topology = crate::relay::nats();
    let trio = Trio::start(&topology, Transport::Tls, trio::RELAY);
    trio.wait_imported();
    let relayed = |about: &str| trio.hub.metrics().sum("isthmus_relayed_bytes_total", &[&format!("from=\"{about}\"")]);
    let before = relayed("west") + relayed("east");
    for (gateway, peer) in [(&trio.east, "west"), (&trio.west, "east")] {
        let (_, code, stderr) = ask(gateway, &["bench", "--link", peer]);
        assert!(code == Some(1) && stderr.contains("measure the links with hub"), "{stderr}");
    }
    assert!(relayed("west") + relayed("east") - before < 1e6);
    let (report, code, stderr): (Value, _, _) = ask(&trio.east, &["bench", "--link", "hub", "--seconds", "1"]);
    assert_eq!(code, Some(0), "{stderr} {report}");
    check::wait_line(&trio.east, "link west", Some("ok"), &[]);
}
