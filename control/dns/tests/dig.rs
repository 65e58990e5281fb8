//! Asked by the `dig` that everybody has.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

use isthmus_control_dns::{Addresses, Endpoint, Port, Server, Service, Zone};
use std::{collections::BTreeMap, net::SocketAddr, process::Stdio, sync::Arc};
use tokio::{process::Command, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

struct Running {
    zone: watch::Sender<Arc<Zone>>,
    addresses: Vec<SocketAddr>,
    counts: Arc<isthmus_control_dns::Counts>,
    _tasks: JoinSet<()>,
}

fn start() -> Running {
    let unknown = Arc::new(Zone::unknown("clusterset.local").unwrap());
    let server = Server::bind(&["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]).unwrap();
    let (zone, zones) = watch::channel(unknown);
    let (addresses, counts) = (server.addresses(), server.counts());
    let tasks = JoinSet::from_iter([server.run(zones, CancellationToken::new())]);
    Running { zone, addresses, counts, _tasks: tasks }
}

impl Running {
    fn know(&self, headless: u32) {
        let endpoint = |n: u32| Endpoint {
            hostname: format!("db-{n}"),
            cluster: "east".parse().unwrap(),
            addresses: vec![std::net::Ipv4Addr::from_bits(0x0a60_0000 + n).into()],
        };
        let ports = || vec![Port { name: Some("http".into()), protocol: Default::default(), number: 80 }];
        let api = vec!["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let services = BTreeMap::from([
            ("shop/api".parse().unwrap(), Service { ports: ports(), addresses: Addresses::ClusterSetIp(api) }),
            (
                "shop/db".parse().unwrap(),
                Service { ports: ports(), addresses: Addresses::Headless((0..headless).map(endpoint).collect()) },
            ),
        ]);
        self.zone.send_modify(|zone| *zone = Arc::new(zone.with(Arc::new(services))));
    }
}

/// What `dig` prints. It warns of `.local` and of recursion, which is as it should be, and must not find anything malformed.
async fn dig(at: SocketAddr, arguments: &[&str]) -> String {
    let (server, port) = (format!("@{}", at.ip()), at.port().to_string());
    let dig =
        Command::new("dig").args([&*server, "-p", &port, "+tries=1"]).args(arguments).stdin(Stdio::null()).output();
    let output = dig.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !text.contains("malformed") && !text.contains("mismatch"), "{text}");
    text
}

#[tokio::test]
async fn dig_gets_answers_over_udp_and_tcp_and_both_families() {
    let running = start();
    let name = "api.shop.svc.clusterset.local";
    let before = dig(running.addresses[0], &[name]).await;
    assert!(before.contains("status: SERVFAIL"), "{before}");
    running.know(0);
    for &at in &running.addresses {
        for how in ["+notcp", "+tcp"] {
            assert_eq!(dig(at, &["+short", how, name, "A"]).await, "10.96.0.7\n");
            assert_eq!(dig(at, &["+short", how, name, "AAAA"]).await, "fd00::7\n");
            let srv = dig(at, &["+short", how, &format!("_http._tcp.{name}"), "SRV"]).await;
            assert_eq!(srv, format!("0 100 80 {name}.\n"));
        }
    }
    assert_eq!(dig(running.addresses[0], &["+short", "dns-version.clusterset.local", "TXT"]).await, "\"1.0.0\"\n");
    let none = dig(running.addresses[0], &["none.shop.svc.clusterset.local"]).await;
    assert!(none.contains("status: NXDOMAIN") && none.contains("flags: qr aa rd;"), "{none}");
    assert!(running.counts.tcp.load(std::sync::atomic::Ordering::Relaxed) >= 6);
}

#[tokio::test]
async fn dig_asks_again_over_tcp_for_what_was_cut() {
    let running = start();
    running.know(500);
    let name = "db.shop.svc.clusterset.local";
    let cut = dig(running.addresses[0], &["+ignore", "+noall", "+answer", "+comments", name]).await;
    assert!(cut.contains(" tc "), "{cut}");
    assert!(cut.lines().filter(|line| line.contains("10.96.")).count() > 60, "names are compressed: {cut}");
    let all = dig(running.addresses[0], &["+short", name]).await;
    assert_eq!(all.lines().count(), 500);
    let no_edns = dig(running.addresses[0], &["+noedns", "+ignore", "+noall", "+answer", "+comments", name]).await;
    assert!(no_edns.contains(" tc ") && no_edns.lines().count() > 20, "{no_edns}");
}

#[tokio::test]
async fn dig_finds_options_in_order() {
    let running = start();
    running.know(1);
    let name = "db-0.EAST.db.shop.svc.clusterset.local";
    let options = dig(running.addresses[0], &["+dnssec", "+cookie", "+nsid", name]).await;
    assert!(options.contains("status: NOERROR") && options.contains("EDNS: version: 0"), "{options}");
    let words: Vec<_> = options.split_whitespace().collect();
    assert!(
        words.windows(5).any(|w| w == ["db-0.EAST.db.shop.svc.clusterset.local.", "5", "IN", "A", "10.96.0.0"]),
        "{options}"
    );
    let version = dig(running.addresses[0], &["+edns=1", "+noednsnegotiation", name]).await;
    assert!(version.contains("status: BADVERS"), "{version}");
}

#[tokio::test]
async fn one_address_does_not_take_all_connections() {
    let running = start();
    running.know(0);
    let refused = || running.counts.refused.load(std::sync::atomic::Ordering::Relaxed);
    let mut held = Vec::new();
    while refused() == 0 {
        assert!(held.len() < 256, "there is no bound");
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        held.push(socket.connect(running.addresses[0]).await.unwrap());
        tokio::task::yield_now().await;
    }
    let answer = dig(running.addresses[0], &["+short", "+tcp", "api.shop.svc.clusterset.local", "A"]).await;
    assert_eq!(answer, "10.96.0.7\n");
}
