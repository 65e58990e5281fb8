//! Two running clusters that know nothing of each other, linked by two commands, and unlinked by one.

use isthmus_tests::{
    Config, End, Endpoint, Gateway, Pattern, Topology, admin, client, endpoint, eventually, identity, linking,
    pair::{self, SERVICE},
    topology::{CLUSTERSET, gateway, pod},
};
use std::{
    io::{ErrorKind, Write as _},
    net::TcpStream,
};

/// Each exports a service and imports the other's; neither configuration has a link.
fn gateways(topology: &Topology) -> (Gateway<'_>, Gateway<'_>) {
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let west_config = Config::new(west).imports(SERVICE, pair::import()).exports("shop/db", &[pod(3, 5432)]);
    let east_config = Config::new(east).exports(SERVICE, &[pair::endpoint()]).imports("shop/db", gateway(15432));
    (Gateway::start(west, &west_config), Gateway::start(east, &east_config))
}

#[test]
fn two_commands_link_two_clusters_and_one_ends_it() {
    let topology = Topology::strangers();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _api = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let _db = Endpoint::serve(west.pods(), west.tasks(), pod(3, 5432), endpoint::echo);
    let (west_gateway, east_gateway) = gateways(&topology);

    let token = linking::invite(east);
    let said = linking::join(west, &token);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        // Over TLS, QUIC or both: whichever came up first.
        said.out.contains("Linked west with east")
            && said.out.contains("the link is up: ")
            && said.out.contains(", dialled"),
        "{said:?}"
    );
    assert_eq!(east_gateway.link("west")["direction"], "accepted", "only west dials");
    west_gateway.wait_imported(SERVICE, &["east"]);
    east_gateway.wait_imported("shop/db", &["west"]);

    // Both directions, through tunnels that west dialled.
    let (mut there, mut back) = topology.block_on(async {
        let mut there = client::connect(west.pods(), pair::import()).await.unwrap();
        client::exchange(&mut there, &Pattern::new(1).take(1 << 20)).await.unwrap();
        let mut back = client::connect(east.pods(), gateway(15432)).await.unwrap();
        client::exchange(&mut back, &Pattern::new(2).take(1 << 20)).await.unwrap();
        (there, back)
    });

    let reused = linking::join(west, &token);
    assert_eq!(reused.code, Some(1), "{reused:?}");
    assert!(reused.err.contains("was used before"), "{reused:?}");
    east_gateway.wait_metric("isthmus_joins_total", &["result=\"used\""], |sum| sum >= 1.0);
    east_gateway.wait_metric("isthmus_joins_total", &["result=\"linked\""], |sum| sum == 1.0);
    assert!(!east_gateway.log().contains(token.trim_start_matches("isthmus1_")), "the log has the token");

    // East alone unlinks: streams of both directions end, and west is not let in any more.
    let unlinked = linking::unlink(east, "west");
    assert!(unlinked.code == Some(0) && unlinked.out.contains("its tunnels  closed"), "{unlinked:?}");
    topology.block_on(async {
        for stream in [&mut there, &mut back] {
            let received = client::receive(stream).await;
            assert_eq!(received.end, End::Error(ErrorKind::ConnectionReset));
        }
    });
    west_gateway.wait_imported(SERVICE, &[]);
    east_gateway.wait_metric("isthmus_handshakes_refused_total", &["reason=\"not_linked\""], |sum| sum >= 1.0);
    let status = east_gateway.status();
    assert_eq!(status["links"].as_array().map(Vec::len), Some(0), "{status}");

    // West still has its half: linking again replaces it.
    let said = linking::join(west, &linking::invite(east));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("was trusted before, with the same CA"), "{said:?}");
    west_gateway.wait_imported(SERVICE, &["east"]);
    topology.block_on(async {
        let mut stream = client::connect(west.pods(), pair::import()).await.unwrap();
        client::exchange(&mut stream, b"again").await.unwrap();
    });
}

#[test]
fn a_link_outlives_its_processes() {
    let topology = Topology::strangers();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _api = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let (mut west_gateway, mut east_gateway) = gateways(&topology);
    let said = linking::join(west, &linking::invite(east));
    assert_eq!(said.code, Some(0), "{said:?}");
    west_gateway.restart();
    east_gateway.restart();
    west_gateway.wait_link("east", &["up"]);
    west_gateway.wait_imported(SERVICE, &["east"]);
    // Unlinking needs no running gateway.
    west_gateway.kill();
    assert_eq!(linking::unlink(west, "east").code, Some(0));
    west_gateway.restart();
    let status = west_gateway.status();
    assert_eq!(status["links"].as_array().map(Vec::len), Some(0), "{status}");
}

/// Nobody can reach west: its invitation says so, and the other way round works.
#[test]
fn who_cannot_be_dialled_is_told_to_let_the_other_side_invite() {
    let topology = Topology::strangers();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let (west_gateway, _east_gateway) = gateways(&topology);
    let said = linking::run(west, &["invite", "--endpoint", "192.0.2.1:15008"], "");
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.out.starts_with("isthmus1_"), "{said:?}");
    assert!(said.err.contains("not reached from here") && said.err.contains("let it invite"), "{said:?}");
    let joined = linking::join(east, &said.out);
    assert_eq!(joined.code, Some(1), "{joined:?}");
    assert!(joined.err.contains("invite here and join there"), "{joined:?}");
    assert_eq!(linking::join(west, &linking::invite(east)).code, Some(0));
    west_gateway.wait_link("east", &["up"]);
}

#[test]
fn mistakes_have_their_own_words() {
    let topology = Topology::strangers();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let (west_gateway, mut east_gateway) = gateways(&topology);
    let token = linking::invite(east);
    let refused = |token: &str, why: &str| {
        let said = linking::join(west, token);
        assert!(said.code == Some(1) && said.err.contains(why), "{token}: {said:?}");
    };
    refused(&token[..60], "cut off");
    refused(&format!("{}AAAA{}", &token[..40], &token[44..]), "checksum");
    refused("hello", "this is no invitation");
    let own = linking::join(east, &token);
    assert!(own.code == Some(1) && own.err.contains("east's own"), "{own:?}");
    east_gateway.kill();
    refused(&token, "Connection refused");
    let down = linking::run(east, &["invite"], "");
    assert!(down.code == Some(1) && down.err.contains("start it (isthmus run --config"), "{down:?}");
    east_gateway.restart();

    // A link of the configuration is not changed by a command.
    let config = Config::new(west).is_dialled_by(east).imports(SERVICE, pair::import());
    west_gateway.configure(&config);
    eventually("west has the link of its configuration", || {
        let status = west_gateway.status();
        if status["links"].as_array().is_some_and(|links| links.len() == 1) { Ok(()) } else { Err(status.to_string()) }
    });
    refused(&token, "under `links:` of the configuration");
    let said = linking::unlink(west, "east");
    assert!(said.code == Some(3) && said.err.contains("remove it from `links:` there"), "{said:?}");
    let gone = linking::unlink(east, "west");
    assert!(gone.code == Some(1) && gone.err.contains("found no link with west"), "{gone:?}");

    // None of it has used the invitation up.
    west_gateway.configure(&Config::new(west).imports(SERVICE, pair::import()));
    let said = linking::join(west, &token);
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// West has a new CA, and the link with the old one is not taken for a reason to trust the new one.
#[test]
fn a_new_ca_is_taken_only_if_the_inviter_wants_it() {
    let topology = Topology::strangers();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _api = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let (mut west_gateway, east_gateway) = gateways(&topology);
    assert_eq!(linking::join(west, &linking::invite(east)).code, Some(0));
    west_gateway.wait_link("east", &["up"]);
    west_gateway.kill();
    let (old, new) = (west.identity_dir(), west.dir().join("new"));
    identity::init(CLUSTERSET, "west", "24h", &new);
    for file in ["ca.pem", "ca.key", "svid.pem", "svid.key"] {
        std::fs::copy(new.join(file), old.join(file)).unwrap();
    }
    west_gateway.restart();
    east_gateway.wait_metric("isthmus_handshakes_refused_total", &["reason=\"unknown_issuer\""], |sum| sum >= 1.0);
    let refused = linking::join(west, &linking::invite(east));
    assert!(refused.code == Some(1) && refused.err.contains("trusted already, with another CA"), "{refused:?}");
    let other = linking::run(east, &["invite", "--replace", "south"], "");
    let refused = linking::join(west, &other.out);
    assert!(refused.code == Some(1) && refused.err.contains("trusted already, with another CA"), "{refused:?}");
    let invited = linking::run(east, &["invite", "--replace", "west"], "");
    let said = linking::join(west, &invited.out);
    assert_eq!(said.code, Some(0), "{said:?}");
    west_gateway.wait_imported(SERVICE, &["east"]);
}

/// West's CA certificate, which everybody can read, beside one of somebody's own.
#[test]
fn who_brings_along_the_ca_of_a_linked_cluster_does_not_take_its_place() {
    let topology = Topology::strangers();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let (west_gateway, east_gateway) = gateways(&topology);
    assert_eq!(linking::join(west, &linking::invite(east)).code, Some(0));
    let trusted = || std::fs::read_to_string(east.identity_dir().join("bundles/west.pem")).unwrap();
    let (before, real) = (trusted(), std::fs::read_to_string(west.identity_dir().join("ca.pem")).unwrap());

    // Somebody else's identity of the same name, and its bundle with the real CA behind its own.
    let mallory = west.dir().join("mallory");
    identity::init(CLUSTERSET, "west", "24h", &mallory);
    let own = std::fs::read_to_string(mallory.join("ca.pem")).unwrap();
    std::fs::write(mallory.join("ca.pem"), own + &real).unwrap();
    let config = west.dir().join("mallory.yaml");
    let text =
        format!("clusterset: {CLUSTERSET}\ncluster: west\nidentity: {}\nadmin: 127.0.0.1:1\n", mallory.display());
    std::fs::write(&config, text).unwrap();
    let refused = linking::run_with(west, &["join", "-"], &linking::invite(east), &config);
    assert!(refused.code == Some(1) && refused.err.contains("trusted already, with another CA"), "{refused:?}");
    assert_eq!(trusted(), before);
    west_gateway.wait_link("east", &["up"]);
    east_gateway.wait_link("west", &["up"]);
}

/// Another bundle is wrong, and a link file, too: what is unlinked ends all the same.
#[test]
fn unlinking_does_not_wait_for_files_that_are_wrong() {
    let topology = Topology::strangers();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let (west_gateway, _east_gateway) = gateways(&topology);
    assert_eq!(linking::join(west, &linking::invite(east)).code, Some(0));
    let identity = west.identity_dir();
    std::fs::write(identity.join("bundles/zulu.pem"), "nonsense").unwrap();
    std::fs::write(identity.join("links/zulu.yaml"), "cluster: null\n").unwrap();
    west_gateway.wait_log(&["zulu.pem"]);
    west_gateway.wait_log(&["zulu.yaml"]);

    // Of another directory than the gateway has: nothing closes, and that is said.
    let copy = west.dir().join("copy");
    for part in ["bundles", "links"] {
        std::fs::create_dir_all(copy.join(part)).unwrap();
    }
    std::fs::copy(identity.join("bundles/east.pem"), copy.join("bundles/east.pem")).unwrap();
    let admin = admin::ADDRESS.to_string();
    let line = ["unlink", "east", "--identity", copy.to_str().unwrap(), "--admin", &admin];
    let said = linking::run_bare(west, &line, "");
    assert!(said.code == Some(3) && said.err.contains("still has tunnels with east"), "{said:?}");

    let said = linking::unlink(west, "east");
    assert!(said.code == Some(0) && said.out.contains("its tunnels  closed"), "{said:?}");
}

/// Sockets that are opened to join and then say nothing, and an identity that is another user's.
#[test]
fn invitations_are_made_in_spite_of_those_who_hold_places() {
    let topology = Topology::strangers();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let (_west_gateway, east_gateway) = gateways(&topology);
    let silent: Vec<_> = (0..8)
        .map(|_| {
            let at = east.tunnel_address();
            let mut socket = west.edge().run(move || TcpStream::connect(at)).unwrap();
            socket.write_all(&join_hello()).unwrap();
            socket
        })
        .collect();
    east_gateway.wait_metric("isthmus_refusals_total", &["bound=\"joins\""], |sum| sum >= 3.0);
    let invited = linking::run(east, &["invite", "--output", "json"], "");
    assert_eq!(invited.code, Some(0), "{invited:?}");
    drop(silent);
    let field = |name: &str| {
        let report: serde_json::Value = serde_json::from_str(&invited.out).unwrap();
        report[name].as_str().unwrap().to_owned()
    };
    let withdrawn = linking::run(east, &["invite", "--withdraw", &field("id")], "");
    assert_eq!(withdrawn.code, Some(0), "{withdrawn:?}");
    let refused = linking::join(west, &field("token"));
    assert!(refused.code == Some(1) && refused.err.contains("no such invitation"), "{refused:?}");

    // What cannot be read is no invitation, and the log says so: nobody has to guess.
    let invited = linking::run(east, &["invite", "--output", "json"], "");
    let report: serde_json::Value = serde_json::from_str(&invited.out).unwrap();
    let file = east.identity_dir().join(format!("invites/{}.json", report["id"].as_str().unwrap()));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(linking::join(west, report["token"].as_str().unwrap()).code, Some(1));
    east_gateway.wait_log(&["an invitation cannot be read"]);

    // Both sides name the CAs, to be compared.
    let invited = linking::run(east, &["invite"], "");
    let ca = field("ca_sha256");
    let joined = linking::join(west, &invited.out);
    assert!(invited.err.contains(&ca) && joined.out.contains(&format!("CA of east, SHA-256: {ca}")), "{joined:?}");
    east_gateway.wait_log(&["linked: it came with an invitation", "ca_sha256"]);

    std::os::unix::fs::chown(east.identity_dir(), Some(65534), None).unwrap();
    for line in [&["invite"][..], &["unlink", "west"]] {
        let refused = linking::run(east, line, "");
        assert!(refused.code == Some(1) && refused.err.contains("is of the user 65534"), "{refused:?}");
    }
    std::os::unix::fs::chown(east.identity_dir(), Some(0), None).unwrap();
}

/// A whole first message of TLS 1.3 that offers to join, after which its sender could say nothing more: it has no key.
fn join_hello() -> Vec<u8> {
    let counted = |width: usize, bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[4 - width..], bytes].concat();
    let extension = |kind: u16, bytes: &[u8]| [&kind.to_be_bytes()[..], &counted(2, bytes)].concat();
    let key_share = [&[0, 0x1d][..], &counted(2, &[9; 32])].concat();
    let extensions = [
        extension(0x2b, &[2, 3, 4]),                                  // TLS 1.3
        extension(0x0a, &counted(2, &[0, 0x1d])),                     // X25519
        extension(0x0d, &counted(2, &[4, 3])),                        // ECDSA with P-256
        extension(0x33, &counted(2, &key_share)),                     // a key of X25519
        extension(0x10, &counted(2, &counted(1, b"isthmus-join/1"))), // ALPN
    ];
    let (version, random, session, suites, compression) = ([3, 3], [7; 32], [0], [0, 2, 0x13, 1], [1, 0]);
    let fixed = [&version[..], &random, &session, &suites, &compression].concat();
    let body = [fixed, counted(2, &extensions.concat())].concat();
    [vec![22, 3, 1], counted(2, &[vec![1], counted(3, &body)].concat())].concat()
}
