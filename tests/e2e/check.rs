//! `isthmus check`: no × where all is well, and never a √ where traffic is broken.

use crate::over_each_transport;
use isthmus_tests::{
    Config, Endpoint, Gateway, Topology, Transport, Trio, check, client, endpoint, eventually,
    gateway::config_path,
    pair::{self, Pair},
    topology::gateway,
    trio,
};
use serde_json::Value;

over_each_transport!(what_is_well_has_no_cross, a_peer_that_hangs_is_named);

fn lines(report: &Value) -> Vec<Value> {
    report["lines"].as_array().cloned().unwrap_or_default()
}

fn what_is_well_has_no_cross(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    pair.wait_echo();
    let report = check::wait_well(&pair.west);
    for what in ["gateway.answers", "link.tunnel", "link.stream", "import.listener", "import.stream"] {
        assert_eq!(check::marks(&report, what), ["ok"], "{what}: {report}");
    }
    let stream = lines(&report).into_iter().find(|line| line["check"] == "link.stream").unwrap();
    assert!(stream["found"].as_str().unwrap().contains("32 KiB there and back"), "{stream}");
    let of_link = check::check(&pair.west, &["--link", "east"]);
    assert!(lines(&of_link).iter().all(|line| line["about"] == "link east"), "{of_link}");
    let of_service = check::check(&pair.west, &["--service", pair::SERVICE]);
    assert_eq!(check::marks(&of_service, "import.stream"), ["ok"], "{of_service}");
    for unknown in [["--link", "north"], ["--service", "shop/none"]] {
        assert_eq!(check::check(&pair.west, &unknown)["ok"], false, "{unknown:?}");
    }
    let report = check::wait_well(&pair.east);
    assert_eq!(check::marks(&report, "export.connect"), ["ok"], "{report}");
    // It has opened a stream, and nothing was sent on it.
    eventually("an endpoint has taken a stream of it", || {
        if endpoint.accepted() > 1 { Ok(()) } else { Err(endpoint.accepted().to_string()) }
    });
    eventually("nothing of it is left", || {
        let active = pair.west.metrics().sum("isthmus_streams_active", &[]);
        if active == 0.0 { Ok(()) } else { Err(active.to_string()) }
    });
}

/// The kernel answers for a process that is stopped: connections come about, and nothing gets through.
fn a_peer_that_hangs_is_named(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    check::wait_well(&pair.west);
    pair.east.pause();
    // At once: the link may still count as up.
    let report = check::check(&pair.west, &[]);
    assert_eq!(report["ok"], false, "{report}");
    check::wait_named(&pair.west, "link east", &[]);
    pair.east.resume();
    // That a tunnel broke is told for a minute; streams get through at once.
    eventually("streams get through again", || {
        let report = check::check(&pair.west, &[]);
        if check::marks(&report, "link.stream") == ["ok"] { Ok(()) } else { Err(report.to_string()) }
    });
}

#[test]
fn a_peer_that_is_dead_or_drains_is_named() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let mut pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let mut open = topology.block_on(pair.connect()).unwrap();
    topology.block_on(client::exchange(&mut open, b"it has to wait for this one")).unwrap();
    pair.east.terminate();
    check::wait_named(&pair.east, "gateway of east", &["draining"]);
    check::wait_named(&pair.west, "link east", &[]);
    pair.east.kill();
    let line = check::wait_named(&pair.west, "link east", &["refused"]);
    assert!(line["fix"].as_str().unwrap().contains("start the gateway of east"), "{line}");
}

#[test]
fn a_service_that_nobody_exports_is_named() {
    let topology = Topology::west_and_east();
    let west = topology.cluster("west");
    let east = Gateway::start(topology.cluster("east"), &Config::new(topology.cluster("east")).is_dialled_by(west));
    let west = Gateway::start(west, &pair::west_config(&topology, Transport::Tls));
    east.wait_link("west", &["up"]);
    let line = check::wait_named(&west, "import shop/api:80", &["no cluster has a ready endpoint"]);
    assert!(line["fix"].as_str().unwrap().contains("export shop/api"), "{line}");
}

#[test]
fn a_listener_whose_port_is_taken_is_named() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let _taken = west.edge().listen(gateway(18099));
    let config = pair::west_config(&topology, Transport::Tls).imports("shop/more", gateway(18099));
    pair.west.configure(&config);
    let line = check::wait_named(&pair.west, "import shop/more:80", &["in use"]);
    assert!(line["fix"].as_str().unwrap().contains("free 10.0.0.1:18099"), "{line}");
}

#[test]
fn a_relay_that_is_gone_is_named() {
    let topology = crate::relay::nats();
    let _echoes = crate::relay::echoes(&topology);
    let mut trio = Trio::start(&topology, Transport::Tls, trio::RELAY);
    trio.wait_imported();
    trio.hub.kill();
    check::wait_named(&trio.east, "link hub", &[]);
    check::wait_named(&trio.east, "link west", &["no tunnel to it"]);
}

#[test]
fn a_gateway_that_is_not_there_is_told_with_what_to_do() {
    let topology = Topology::west_and_east();
    let mut west = Gateway::start(topology.cluster("west"), &pair::west_config(&topology, Transport::Tls));
    west.kill();
    let output = west.command(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("start the gateway"), "{output:?}");
}

/// Before a start: the file, the identity, ports and the peer's port.
#[test]
fn what_is_missing_before_a_start_is_named() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let mut gateway = Gateway::start(west, &pair::west_config(&topology, Transport::Tls));
    gateway.kill();
    let path = config_path(west);
    let failed = || {
        let output = gateway.command(&["check", "--before", "--config", path.to_str().unwrap(), "--output", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let failed = lines(&report).into_iter().filter(|line| line["mark"] == "failed");
        let failed = failed.filter(|line| line["check"] != "machine.files");
        failed.map(|line| line["check"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(failed(), ["peer.port"], "nobody is there yet");
    let _east = Gateway::start(east, &Config::new(east).is_dialled_by(west));
    assert_eq!(failed(), [""; 0]);
    let taken = west.edge().listen(west.tunnel_address());
    assert_eq!(failed(), ["machine.port"]);
    drop(taken);
    std::fs::remove_file(west.identity_dir().join("bundles/east.pem")).unwrap();
    assert_eq!(failed(), ["identity.trust"]);
    std::fs::remove_file(west.identity_dir().join("svid.key")).unwrap();
    assert_eq!(failed(), ["identity.trust"], "the start makes an SVID, of ca.key");
    std::fs::remove_file(west.identity_dir().join("ca.key")).unwrap();
    assert_eq!(failed(), ["identity.files"]);
    gateway.configure_text("cluster: west\n");
    assert_eq!(failed(), ["config.file"]);
}
