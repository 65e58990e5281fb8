//! The configuration changes under load: what is right is taken up, what is wrong is refused, and no request notices.

use crate::over_tls_and_the_local_hop;
use isthmus_tests::{
    Endpoint, Nginx, Topology, Transport, check, client, endpoint, eventually,
    load::Reuse,
    pair::{self, Pair},
    topology::{gateway, pod},
};
use std::io::ErrorKind;

over_tls_and_the_local_hop!(
    imports_come_and_go_under_load,
    endpoints_move_under_load,
    a_bad_file_is_refused_with_its_line_and_the_table_stays,
    a_hangup_has_the_file_looked_at,
    streams_outlive_their_import,
);

fn imports_come_and_go_under_load(transport: Transport) {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let load = pair.load(8, Reuse::ConnectionPerRequest, "served");
    let kept = pair.load(2, Reuse::KeepAlive, "served");
    let config = pair::west_config(&topology, transport);
    let more = config.clone().imports(pair::SERVICE, gateway(18081));
    for _ in 0..3 {
        load.wait_for(100);
        pair.west.configure(&more);
        eventually("the new import listens", || {
            west.pods().connect(gateway(18081)).map(drop).map_err(|e| e.to_string())
        });
        pair.west.configure(&config);
        eventually("the import that was taken out refuses", || match west.pods().connect(gateway(18081)) {
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    kept.stop().assert_no_failure();
    let outcome = load.stop();
    outcome.assert_no_failure();
    assert_eq!(outcome.refused, 0);
}

fn endpoints_move_under_load(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _first = Nginx::start(east.pods(), east.dir(), pod(2, 8080), "served");
    let _second = Nginx::start(east.pods(), east.dir(), pod(3, 8080), "served");
    let pair = Pair::start(&topology, transport, &[pod(2, 8080)]);
    let load = pair.load(8, Reuse::ConnectionPerRequest, "served");
    for host in [3, 2, 3, 2, 3] {
        load.wait_for(50);
        pair.east.configure(&pair::east_config(&topology, transport, &[pod(host, 8080)]));
        eventually("east serves from there", || {
            let status = pair.east.status().to_string();
            if status.contains(&pod(host, 8080).to_string()) { Ok(()) } else { Err(status) }
        });
    }
    load.wait_for(50);
    load.stop().assert_no_failure();
}

fn a_bad_file_is_refused_with_its_line_and_the_table_stays(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let load = pair.load(8, Reuse::ConnectionPerRequest, "served");
    let good = pair::west_config(&topology, transport).to_yaml();
    let last = good.lines().count();
    let version = pair.west.status()["table"]["version"].clone();
    for (added, found) in [
        ("colour: red", "colour"),
        ("  - service: not a service\n    port: 80\n    listen: \"10.0.0.1:18082\"", "not a service"),
        ("  - service: shop/api\n    port: 80\n    listen: \"10.0.0.1:99999\"", "99999"),
        (": [", ""),
    ] {
        pair.west.configure_text(&format!("{good}{added}\n"));
        // The line of the mistake, or the one after where the text as a whole is no YAML.
        eventually(&format!("{added:?} is refused with file and line"), || {
            let log = pair.west.log();
            let lines = last + 1..=last + 4;
            let names =
                |line: &str| lines.clone().any(|n| line.contains(&format!("west.yaml:{n}:"))) && line.contains(found);
            if log.lines().any(names) { Ok(()) } else { Err("no such line in the log".into()) }
        });
        load.wait_for(50);
        assert_eq!(pair.west.status()["table"]["version"], version, "the table stays");
        let line = check::wait_named(&pair.west, "gateway of west", &["the last change was refused", found]);
        assert_eq!(line["check"], "gateway.configuration", "{line}");
    }
    pair.west.configure_text(&good);
    load.wait_for(50);
    load.stop().assert_no_failure();
}

/// As `systemctl reload` does: whoever asks finds the answer in the log, and nothing ends.
fn a_hangup_has_the_file_looked_at(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let mut pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let load = pair.load(2, Reuse::KeepAlive, "served");
    let good = pair::west_config(&topology, transport).to_yaml();
    pair.west.hang_up();
    pair.west.wait_log(&["asked to reload: what the file says is in force"]);
    pair.west.configure_text(&format!("{good}colour: red\n"));
    pair.west.hang_up();
    pair.west.wait_log(&["asked to reload: not all of it is in force", "colour"]);
    load.wait_for(50);
    load.stop().assert_no_failure();
    assert!(pair.west.runs());
}

/// Streams do not care that the import through which they came is no more.
fn streams_outlive_their_import(transport: Transport) {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let mut stream = topology.block_on(pair.connect()).unwrap();
    topology.block_on(client::exchange(&mut stream, b"before")).unwrap();
    let mut config = pair::west_config(&topology, transport);
    config.imports.clear();
    pair.west.configure(&config);
    eventually("the import refuses", || match west.pods().connect(pair::import()) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
    topology.block_on(client::exchange(&mut stream, b"after")).unwrap();
}
