//! Peers that show the wrong papers: each is refused, with a reason in the log and in a metric, and nobody else notices.

use isthmus_tests::{
    Config, Gateway, Nginx, Papers, Topology, Transport, check,
    load::Reuse,
    pair::{self, Pair},
    stranger::{self, Authority, Validity, gateway_id},
};
use std::path::Path;

const REFUSED: &str = "isthmus_handshakes_refused_total";

/// One wrong peer, and the reason that has to be given.
struct Case {
    name: &'static str,
    papers: Option<Papers>,
    openssl: &'static [&'static str],
    reason: &'static str,
}

fn case(name: &'static str, reason: &'static str, papers: Papers) -> Case {
    Case { name, papers: Some(papers), openssl: &["-alpn", "isthmus/1"], reason }
}

/// What is wrong with papers whichever side shows them. `cluster` is whose they pretend to be.
fn wrong_papers(topology: &Topology, cluster: &str) -> Vec<Case> {
    let dir = topology.dir();
    let own = Authority::of(&topology.cluster(cluster).identity_dir());
    let north = Authority::of(&topology.cluster("north").identity_dir());
    let id = gateway_id(&format!("{cluster}.e2e"));
    let foreign = format!("{cluster}.other");
    vec![
        case("expired", "expired", own.sign(dir, &id, Validity::Over)),
        case("not yet valid", "not_yet_valid", own.sign(dir, &id, Validity::Later)),
        case("self-signed", "unknown_issuer", Papers::self_signed(dir, &id)),
        case("of an unknown CA", "unknown_issuer", Authority::unknown("west.e2e").sign(dir, &id, Validity::Now)),
        case("of a CA that is right for another cluster", "unknown_issuer", north.sign(dir, &id, Validity::Now)),
        case(
            "of another clusterset",
            "wrong_trust_domain",
            Authority::unknown(&foreign).sign(dir, &gateway_id(&foreign), Validity::Now),
        ),
        case(
            "of the right CA, but not a gateway's",
            "bad_svid",
            own.sign(dir, &format!("spiffe://{cluster}.e2e/ns/shop/sa/web"), Validity::Now),
        ),
    ]
}

#[test]
fn wrong_peers_that_dial_are_refused_with_a_reason() {
    let topology = three_clusters();
    let [west, east] = ["west", "east"].map(|name| topology.cluster(name));
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let west_config = pair::west_config(&topology, Transport::Tls);
    let east_config =
        pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]).is_dialled_by(topology.cluster("north"));
    let pair = Pair::start_with(&topology, &west_config, &east_config);
    let load = pair.load(4, Reuse::ConnectionPerRequest, "served");
    let right = Some(Papers::of(&west.identity_dir()));
    let mut cases = wrong_papers(&topology, "west");
    let own = Authority::of(&west.identity_dir());
    let unlinked = Authority::unknown("south.e2e").sign(topology.dir(), &gateway_id("south.e2e"), Validity::Now);
    cases.extend([
        case("of a cluster that is not linked", "not_linked", unlinked),
        case(
            "for another linked cluster",
            "unknown_issuer",
            own.sign(topology.dir(), &gateway_id("north.e2e"), Validity::Now),
        ),
        Case { name: "no certificate", papers: None, openssl: &["-alpn", "isthmus/1"], reason: "no_certificate" },
        Case {
            name: "TLS 1.2",
            papers: right.clone(),
            openssl: &["-tls1_2", "-alpn", "isthmus/1"],
            reason: "tls_version",
        },
        Case { name: "another protocol", papers: right.clone(), openssl: &["-alpn", "http/1.1"], reason: "alpn" },
        Case { name: "no protocol", papers: right, openssl: &[], reason: "alpn" },
    ]);
    for Case { name, papers, openssl, reason } in cases {
        let label = format!("reason=\"{reason}\"");
        let before = pair.east.metrics().sum(REFUSED, &[&label]);
        let all_before = pair.east.metrics().sum(REFUSED, &[]);
        let logged_before = refusals_in_log(&pair.east, reason);
        let said = stranger::dial(west.edge(), east.tunnel_address(), papers.as_ref(), openssl, Path::new("/dev/null"));
        pair.east.wait_metric(REFUSED, &[], |sum| sum == all_before + 1.0);
        let after = pair.east.metrics();
        assert_eq!(after.sum(REFUSED, &[&label]), before + 1.0, "{name}: another reason was given: {after:?}\n{said}");
        assert!(refusals_in_log(&pair.east, reason) > logged_before, "{name}: the log does not say {reason}");
    }
    let outcome = load.stop();
    outcome.assert_no_failure();
    assert_eq!(pair.east.metrics().sum("isthmus_handshakes_refused_total", &["reason=\"other\""]), 0.0);
}

#[test]
fn wrong_peers_that_are_dialled_are_refused_with_a_reason() {
    let topology = three_clusters();
    let [west, east, north] = ["west", "east", "north"].map(|name| topology.cluster(name));
    let right = Some(Papers::of(&east.identity_dir()));
    let mut cases = wrong_papers(&topology, "east");
    cases.extend([
        case("of the linked cluster that is elsewhere", "wrong_trust_domain", Papers::of(&north.identity_dir())),
        Case {
            name: "TLS 1.2",
            papers: right.clone(),
            openssl: &["-tls1_2", "-alpn", "isthmus/1"],
            reason: "tls_version",
        },
        Case { name: "another protocol", papers: right, openssl: &["-alpn", "http/1.1"], reason: "alpn" },
    ]);
    for Case { name, papers, openssl, reason } in cases {
        let log = topology.dir().join("s_server.log");
        let papers = papers.unwrap();
        let _impostor = stranger::serve(east.edge(), &log, east.tunnel_address(), &papers, openssl);
        let config = Config::new(west).dials(east, Transport::Tls).dials(north, Transport::Tls);
        let gateway = Gateway::start(west, &config.imports(pair::SERVICE, pair::import()));
        let label = format!("reason=\"{reason}\"");
        gateway.wait_metric(REFUSED, &[&label], |sum| sum >= 1.0);
        assert!(refusals_in_log(&gateway, reason) > 0, "{name}: the log does not say {reason}");
        assert_ne!(gateway.link("east")["state"], "up", "{name}");
        check::wait_named(&gateway, "link east", &[if reason == "alpn" { "does not speak isthmus/1" } else { reason }]);
    }
}

fn three_clusters() -> Topology {
    let topology = Topology::new(&["west", "east", "north"]);
    topology.make_identities();
    topology
}

fn refusals_in_log(gateway: &Gateway<'_>, reason: &str) -> usize {
    gateway.log().lines().filter(|line| line.contains("refused") && line.contains(reason)).count()
}
