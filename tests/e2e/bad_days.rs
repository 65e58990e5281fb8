//! Bad days: what can go wrong between clusters and within one, and what `status` and `check` say of it then.

use isthmus_tests::{
    Cluster, Config, Endpoint, Gateway, Nginx, Papers, Pattern, Surroundings, Topology, Transport, check, client,
    endpoint, eventually, identity,
    load::Reuse,
    pair::{self, Pair},
    several::wait_message,
    stranger,
    topology::CLUSTERSET,
};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// East's clock differs by so much.
fn east_clock(clock: &str) -> Surroundings {
    Surroundings { clock: Some(clock.to_owned()), ..Surroundings::default() }
}

/// West and east, whose clock differs.
fn start<'t>(topology: &'t Topology, clock: &str) -> (Gateway<'t>, Gateway<'t>) {
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let east_config = pair::east_config(topology, Transport::Tls, &[pair::endpoint()]);
    let east = Gateway::start_in(east, &east_config, &east_clock(clock));
    (Gateway::start(west, &pair::west_config(topology, Transport::Tls)), east)
}

#[test]
fn clocks_that_differ_a_little_are_told() {
    let topology = Topology::west_and_east();
    let (west, east) = start(&topology, "+60s");
    for (gateway, peer, word) in [(&west, "east", "ahead of this one"), (&east, "west", "behind this one")] {
        let link = wait_message(gateway, peer, &["the clocks differ", " s ", word]);
        assert_eq!((&link["state"], &link["degraded"]), (&"up".into(), &true.into()), "{link}");
        let ahead = link["clock_ahead_seconds"].as_f64().unwrap();
        assert!((55.0..65.0).contains(&ahead.abs()), "{link}");
        let line = check::wait_named(gateway, &format!("link {peer}"), &["the clocks differ", word]);
        assert!(line["fix"].as_str().unwrap().contains("NTP"), "{line}");
    }
}

/// A day and two hours ahead: east makes itself an SVID that has not begun for west.
#[test]
fn a_certificate_of_the_future_is_refused_and_the_clocks_are_named() {
    let topology = Topology::west_and_east();
    let (west, east) = start(&topology, "+26h");
    let link = wait_message(&west, "east", &["not_yet_valid", "the clocks differ by as much"]);
    assert_eq!(link["state"], "down", "{link}");
    assert_eq!(east.link("west")["state"], "waiting");
    check::wait_named(&west, "link east", &["not_yet_valid", "the clocks differ"]);
    check::wait_named(&east, "link west", &["waiting"]);
}

/// An hour behind: what west shows has not begun for east, and west only hears that it was refused.
#[test]
fn whoever_is_dialled_tells_of_the_clocks_too() {
    let topology = Topology::new(&["west", "east"]);
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let clock = east_clock("-1h");
    let init = |cluster: &Cluster, clock: &Surroundings| {
        let (name, out) = (cluster.name(), cluster.identity_dir());
        let out = out.to_str().unwrap();
        clock.command(
            cluster.edge(),
            &["identity", "init", "--clusterset", CLUSTERSET, "--cluster", name, "--out", out],
        );
    };
    init(west, &Surroundings::default());
    init(east, &clock);
    for (own, peer) in [(west, east), (east, west)] {
        identity::trust(&own.identity_dir(), peer.name(), &peer.identity_dir().join("ca.pem"));
    }
    let (west, east) = start(&topology, "-1h");
    let words = ["somebody who claims to be of this cluster was refused", "not_yet_valid", "the clocks differ"];
    let link = wait_message(&east, "west", &words);
    assert_eq!(link["state"], "waiting", "{link}");
    let link = wait_message(&west, "east", &["see its log"]);
    assert_eq!(link["state"], "down", "{link}");
    check::wait_named(&east, "link west", &words);
    check::wait_named(&west, "link east", &["see its log"]);
}

/// The CA's key is lost: the SVID cannot be renewed, and nobody else does.
#[test]
fn a_certificate_that_nobody_renews_is_told_before_and_after_its_end() {
    let topology = Topology::new(&["west", "east"]);
    topology.make_identities_that_live("20s");
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let key = east.identity_dir().join("ca.key");
    fs::rename(&key, key.with_extension("lost")).unwrap();
    let identity = |words: &str| {
        eventually(&format!("east says {words}"), || {
            let identity = &pair.east.status()["identity"];
            let message = identity["message"].as_str().unwrap_or_default().to_owned();
            if message.contains(words) { Ok(message) } else { Err(identity.to_string()) }
        })
    };
    assert!(identity("renewal is overdue").contains("nobody has replaced it"));
    assert!(pair.east.metrics().has("isthmus_identity_expiry_timestamp_seconds"));
    // Certificates are valid to the end of their last second.
    assert!(identity("the SVID ended 2 s ago").contains("peers refuse new tunnels"));
    let line = check::wait_named(&pair.east, "gateway of east", &["the SVID ended"]);
    assert!(line["fix"].as_str().unwrap().contains("ca.key"), "{line}");
    check::wait_named(&pair.west, "link east", &["expired"]);
    // The tunnels that are there go on; new ones are refused, and the other side says why.
    pair.wait_echo();
    let mut west = pair.west;
    west.restart();
    let link = wait_message(&west, "east", &["expired: found a certificate that ended"]);
    assert_eq!(link["state"], "down", "{link}");
    check::wait_named(&west, "link east", &["expired: found a certificate that ended"]);
    fs::rename(key.with_extension("lost"), &key).unwrap();
    west.wait_link("east", &["up"]);
    eventually("east's certificate is in order", || {
        let identity = pair.east.status()["identity"].clone();
        if identity["message"].is_null() { Ok(()) } else { Err(identity.to_string()) }
    });
}

/// What a NAT does that has just forgotten all TCP connections: it drops their packets without a word, and lets new ones be made.
fn forget(topology: &Topology, generation: u32) {
    let rules = format!(
        "add table ip nat; add chain ip nat passing {{ type filter hook forward priority 0; }}; flush chain ip nat passing; \
         add rule ip nat passing tcp flags & (syn | ack) == syn ct state new ct mark set {generation} accept; \
         add rule ip nat passing ct mark {generation} accept; \
         add rule ip nat passing ip protocol tcp drop"
    );
    topology.wan().exec("nft", &[&rules]);
}

/// From either side, a stream on a tunnel that only looks alive finds another one; and both say what happened.
#[test]
fn half_open_connections_are_noticed_and_replaced() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let [_in_east, _in_west] =
        [east, west].map(|at| Endpoint::serve(at.pods(), at.tasks(), pair::endpoint(), endpoint::echo));
    let both = |config: Config| config.exports(pair::SERVICE, &[pair::endpoint()]).with_affinity("remote");
    let west_config = both(pair::west_config(&topology, Transport::Tls));
    let east_config = both(Config::new(east).is_dialled_by(west).imports(pair::SERVICE, pair::import()));
    forget(&topology, 1);
    let (east_gateway, west_gateway) = (Gateway::start(east, &east_config), Gateway::start(west, &west_config));
    for (generation, gateway, peer) in [(2, &west_gateway, "east"), (3, &east_gateway, "west")] {
        gateway.wait_imported(pair::SERVICE, &["east", "west"]);
        forget(&topology, generation);
        topology.block_on(async {
            let mut stream = client::connect(gateway.cluster().pods(), pair::import()).await.unwrap();
            client::exchange(&mut stream, b"is anybody there?").await.unwrap();
        });
        wait_message(gateway, peer, &["broke within 10 min", "the peer does not answer"]);
        // The stream may have gone to the own cluster meanwhile: the link is up again a moment later.
        eventually(&format!("the link with {peer} is up, and degraded"), || {
            let link = gateway.link(peer);
            if link["degraded"] == true { Ok(()) } else { Err(link.to_string()) }
        });
        check::wait_named(gateway, &format!("link {peer}"), &["broke within 10 min", "the peer does not answer"]);
    }
}

/// Ends those who come again and again, however the test ends.
struct Seen<'a>(&'a AtomicBool);

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A peer of the first revision: it says HELLO, and nothing of itself.
#[test]
fn a_peer_of_an_older_revision_is_up_and_called_old() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let gateway = Gateway::start(east, &Config::new(east).is_dialled_by(west));
    let hello = topology.dir().join("hello");
    // A frame of type 9 and 12 bytes: a window of 65,536, 100 streams, one core.
    let frame = [9, 0, 0, 12, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 100, 0, 1, 0, 0];
    fs::write(&hello, frame).unwrap();
    let papers = Papers::of(&west.identity_dir());
    let seen = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // It answers nothing but HELLO, and is given up after some seconds: it comes again.
        scope.spawn(|| {
            while !seen.load(Ordering::Relaxed) {
                stranger::dial(west.edge(), east.tunnel_address(), Some(&papers), &["-alpn", "isthmus/1"], &hello);
            }
        });
        let _seen = Seen(&seen);
        let words = ["the peer speaks revision 0 of isthmus/1, this gateway revision 1", "older"];
        wait_message(&gateway, "west", &words);
        check::wait_line(&gateway, "link west", None, &words);
    });
}

/// A peer of another version of the protocol altogether: there is no tunnel, and both sides say why.
#[test]
fn a_peer_of_another_version_is_refused_with_both_versions() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let papers = Papers::of(&east.identity_dir());
    let log = topology.dir().join("s_server.log");
    let _newer = stranger::serve(east.edge(), &log, east.tunnel_address(), &papers, &["-alpn", "isthmus/2"]);
    let gateway = Gateway::start(west, &pair::west_config(&topology, Transport::Tls));
    let link = wait_message(&gateway, "east", &["does not speak isthmus/1", "newer or older"]);
    assert_eq!(link["state"], "down", "{link}");
    let line = check::wait_named(&gateway, "link east", &["does not speak isthmus/1"]);
    assert!(line["fix"].as_str().unwrap().contains("upgrade the older"), "{line}");
}

#[test]
fn loss_in_one_direction_is_told_by_both_sides() {
    for transport in [Transport::Tls, Transport::Quic] {
        let topology = Topology::west_and_east_over("20ms");
        let east = topology.cluster("east");
        let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
        let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
        topology.emulator().set("east", "west", "20ms,8%".parse().unwrap()).unwrap();
        let load = pair.load(8, Reuse::ConnectionPerRequest, "served");
        let [out, back] = ["loss_out_percent", "loss_in_percent"];
        for (gateway, peer, lossy, clean) in [(&pair.west, "east", back, out), (&pair.east, "west", out, back)] {
            let link = wait_message(gateway, peer, &["the path loses", "of what goes there", "of what comes back"]);
            assert_eq!((&link["state"], &link["degraded"]), (&"up".into(), &true.into()), "{link}");
            let [lossy, clean] = [lossy, clean].map(|field| link[field].as_f64().unwrap_or_default());
            assert!(lossy >= 1.0 && lossy > 2.0 * clean, "{link}");
            check::wait_named(gateway, &format!("link {peer}"), &["the path loses", "of what comes back"]);
        }
        load.wait_for(200);
        load.stop().assert_no_failure();
    }
}

/// Large packets have always vanished: TLS comes up with small ones, and says so; QUIC finds out by itself.
#[test]
fn a_black_hole_for_large_packets_is_got_through_and_told() {
    for transport in [Transport::Tls, Transport::Quic] {
        let topology = Topology::west_and_east_over("10ms,silent-mtu=1300");
        let east = topology.cluster("east");
        let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
        let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
        if transport == Transport::Tls {
            let link = wait_message(&pair.west, "east", &["large packets vanish", "1280 bytes"]);
            assert_eq!((&link["state"], &link["degraded"]), (&"up".into(), &true.into()), "{link}");
            check::wait_named(&pair.west, "link east", &["large packets vanish"]);
        }
        topology.block_on(async {
            let mut stream = pair.connect().await.unwrap();
            client::exchange(&mut stream, &Pattern::new(5).take(300_000)).await.unwrap();
        });
    }
}

/// They begin to vanish under way. New streams get through again by themselves.
#[test]
fn a_black_hole_that_opens_under_way_is_left_behind() {
    let topology = Topology::west_and_east_over("10ms");
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    for transport in [Transport::Tls, Transport::Quic] {
        topology.emulator().set_all("10ms".parse().unwrap()).unwrap();
        let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
        pair.wait_echo();
        topology.emulator().set_all("10ms,silent-mtu=1300".parse().unwrap()).unwrap();
        eventually("a large exchange gets through", || {
            topology
                .block_on(async {
                    let mut stream = pair.connect().await?;
                    let bytes = Pattern::new(6).take(300_000);
                    let exchanged = client::exchange(&mut stream, &bytes);
                    let bounded = tokio::time::timeout(Duration::from_secs(20), exchanged).await;
                    bounded.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
                })
                .map_err(|e| e.to_string())
        });
        if transport == Transport::Tls {
            wait_message(&pair.west, "east", &["large packets vanish", "1280 bytes"]);
        }
    }
}
