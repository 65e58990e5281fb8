use super::*;
use crate::{
    balance,
    status::{ChoiceReport, DialReport, LinkExtra, ListenerReport},
    tunnel::{Direction, Transport, TunnelStatus},
};
use isthmus_control_api::{Endpoint, Table};
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

const READY: Readiness = Readiness { table_applied: true, listeners_bound: true, draining: false };

fn port() -> ServicePort {
    ServicePort::tcp("shop/api".parse().unwrap(), 80)
}

fn east() -> ClusterName {
    "east".parse().unwrap()
}

fn tunnel(health: TunnelHealth, rtt_ms: u64) -> TunnelReport {
    let rtt = Some(Duration::from_millis(rtt_ms));
    let (transport, direction) = (Transport::Tls, Direction::Dialled);
    let status = TunnelStatus { transport, direction, health, rtt, streams_out: 3, streams_in: 1, peer: None };
    let cert_expiry = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(rtt_ms));
    TunnelReport { cluster: east(), status, address: "192.0.2.1:1".parse().ok(), cert_expiry, via: None }
}

fn dial(state: LinkState) -> DialReport {
    let address = "192.0.2.1:1".parse().ok();
    DialReport { cluster: east(), address, spare: false, same: None, declined: None, small: false, state }
}

fn down(error: Option<&str>) -> LinkState {
    LinkState::Down { since: Instant::now(), last_error: error.map(Arc::from) }
}

fn link(endpoints: &[&str], reports: &[Option<CoreReport>]) -> LinkStatus {
    let endpoints = endpoints.iter().map(|address| address.parse().unwrap()).collect();
    let links = [(east(), Link { endpoints, ..Link::default() })].into();
    let extra = ExtraStatus { table: Arc::new(Table { links, ..Table::default() }), ..ExtraStatus::default() };
    merge(&extra, &READY, reports).links.remove(0)
}

fn core(tunnels: Vec<TunnelReport>, dials: Vec<DialReport>) -> Option<CoreReport> {
    Some(CoreReport { tunnels, dials, ..CoreReport::default() })
}

#[test]
fn a_link_is_as_good_as_its_best_tunnel() {
    use TunnelHealth::{Closed, Draining, Live, Unresponsive};
    let state = |healths: &[TunnelHealth]| {
        let tunnels = healths.iter().map(|&health| tunnel(health, 1)).collect();
        link(&["192.0.2.1:1"], &[core(tunnels, vec![])]).state
    };
    assert_eq!(state(&[Unresponsive, Draining, Live]), LinkWord::Up);
    assert_eq!(state(&[Draining, Unresponsive]), LinkWord::Unresponsive);
    assert_eq!(state(&[Draining, Closed]), LinkWord::Draining);
    assert_eq!(state(&[Closed]), LinkWord::Dialling);
}

#[test]
fn a_link_without_tunnels_says_why() {
    let dialled =
        |states: Vec<LinkState>| link(&["192.0.2.1:1"], &[core(vec![], states.into_iter().map(dial).collect())]);
    assert_eq!(link(&[], &[core(vec![], vec![])]).state, LinkWord::Waiting);
    assert_eq!(dialled(vec![down(None)]).state, LinkWord::Dialling);
    let failed = dialled(vec![down(None), down(Some("refused"))]);
    assert_eq!((failed.state, failed.message.as_deref()), (LinkWord::Down, Some("refused")));
    let retrying = LinkState::Dialling { since: Instant::now(), last_error: Some("refused".into()) };
    assert_eq!(dialled(vec![retrying]).state, LinkWord::Down);
}

#[test]
fn what_drains_beside_what_is_live_is_counted_and_not_named() {
    let over = |transport: Transport, health| {
        let mut report = tunnel(health, 1);
        report.status.transport = transport;
        report
    };
    let named = |tunnels: Vec<TunnelReport>| {
        let link = link(&["192.0.2.1:1"], &[core(tunnels, vec![])]);
        (link.transport.unwrap(), link.tunnels, link.streams_out)
    };
    use TunnelHealth::{Draining, Live, Unresponsive};
    assert_eq!(named(vec![over(Transport::Tls, Live), over(Transport::Quic, Draining)]), ("tls".into(), 2, 6));
    assert_eq!(named(vec![over(Transport::Tls, Live), over(Transport::Quic, Live)]), ("quic+tls".into(), 2, 6));
    assert_eq!(
        named(vec![over(Transport::Tls, Unresponsive), over(Transport::Quic, Draining)]),
        ("quic+tls".into(), 2, 6)
    );
}

#[test]
fn a_peer_that_is_waited_for_in_vain_is_said_to_lack_its_bundle() {
    let of = |trusts: &[&str]| {
        let links = [(east(), Link::default())].into();
        let identity = IdentityReport {
            id: Some("spiffe://west.demo/ns/isthmus-system/sa/gateway".into()),
            trusts: trusts.iter().map(ToString::to_string).collect(),
            bundles: Some("/etc/west/bundles".into()),
            ..IdentityReport::default()
        };
        let table = Arc::new(Table { links, ..Table::default() });
        let link = merge(&ExtraStatus { table, identity, ..ExtraStatus::default() }, &READY, &[]).links.remove(0);
        (link.state, link.message)
    };
    let message = "it is not trusted: found no CA certificates of east, expected them in /etc/west/bundles/east.pem";
    assert_eq!(of(&["north"]), (LinkWord::Waiting, Some(message.to_owned())));
    assert_eq!(of(&["east"]), (LinkWord::Waiting, None));
}

#[test]
fn what_new_streams_take_is_that_of_all_cores() {
    let chosen = |transport, reason: &str| {
        let choices = vec![ChoiceReport { cluster: east(), transport, reason: reason.into(), via: None }];
        Some(CoreReport { choices, ..CoreReport::default() })
    };
    let same = link(&[], &[chosen(Transport::Tls, "a"), chosen(Transport::Tls, "b"), core(vec![], vec![])]);
    assert_eq!((same.chosen.as_deref(), same.chosen_because.as_deref()), (Some("tls"), Some("a")));
    assert_eq!(
        link(&[], &[chosen(Transport::Tls, "a"), chosen(Transport::Quic, "b")]).chosen.as_deref(),
        Some("quic+tls")
    );
    assert_eq!(link(&[], &[core(vec![], vec![])]).chosen, None);
}

#[test]
fn a_relay_that_only_some_cores_need_is_said_to_be_so() {
    let core = |via: Option<&str>| {
        let (via, reason) = (via.map(|hub| hub.parse().unwrap()), via.map_or("a", |_| "through hub").to_owned());
        let choices = vec![ChoiceReport { cluster: east(), transport: Transport::Tls, reason, via }];
        Some(CoreReport { choices, ..CoreReport::default() })
    };
    let said = |cores: [Option<&str>; 2]| {
        let link = link(&[], &cores.map(core));
        (link.via, link.chosen_because.unwrap())
    };
    let via = |because: &str| (Some("hub".to_owned()), because.to_owned());
    assert_eq!(said([Some("hub"); 2]), via("through hub"));
    assert_eq!(said([None, Some("hub")]), via("through hub, on some cores"));
    assert_eq!(said([None; 2]), (None, "a".to_owned()));
}

#[test]
fn tunnels_of_all_cores_are_summed() {
    let accepted = |mut report: TunnelReport| {
        (report.status.direction, report.address) = (Direction::Accepted, None);
        report
    };
    let reports = [
        core(vec![tunnel(TunnelHealth::Live, 7), tunnel(TunnelHealth::Closed, 1)], vec![dial(down(Some("old")))]),
        None,
        core(vec![accepted(tunnel(TunnelHealth::Live, 5))], vec![]),
    ];
    let link = link(&["192.0.2.1:1"], &reports);
    assert_eq!((link.tunnels, link.streams_in, link.streams_out), (2, 2, 6));
    assert_eq!((link.transport.as_deref(), link.direction.as_deref()), (Some("tls"), Some("accepted+dialled")));
    assert_eq!((link.rtt_ms, link.message), (Some(5.0), None));
    assert_eq!(link.cert_expiry.map(|at| at.to_string()).as_deref(), Some("1970-01-01T00:00:05Z"));
}

#[test]
fn control_adds_what_it_knows_of_a_link() {
    let extra = LinkExtra {
        sync_age: Some(Duration::from_secs(2)),
        message: Some("old protocol".into()),
        ..LinkExtra::default()
    };
    let table = Arc::new(Table { links: [(east(), Link::default())].into(), ..Table::default() });
    let extra = ExtraStatus { table, links: [(east(), extra)].into(), ..ExtraStatus::default() };
    let status = merge(&extra, &READY, &[core(vec![tunnel(TunnelHealth::Live, 1)], vec![])]);
    assert_eq!(status.links[0].sync_age_seconds, Some(2.0));
    assert_eq!(status.links[0].message.as_deref(), Some("old protocol"));
}

#[test]
fn endpoints_show_the_worst_that_a_core_thinks() {
    let [used, unused] = ["10.0.0.2:8080", "10.0.0.3:8080"].map(|address| Endpoint::at(address.parse().unwrap()));
    let export = Export { endpoints: vec![used.clone(), unused], ..Export::default() };
    let known = |health, in_flight, millis| {
        let connect_time = Some(Duration::from_millis(millis));
        let status = balance::EndpointStatus {
            in_flight,
            connect_time,
            failures: in_flight,
            health,
            ..balance::EndpointStatus::unused(used.address)
        };
        let endpoints = vec![EndpointReport { service: port(), status }];
        Some(CoreReport { endpoints, ..CoreReport::default() })
    };
    let table = Arc::new(Table { exports: [(port(), Arc::new(export))].into(), ..Table::default() });
    let extra = ExtraStatus { table, ..ExtraStatus::default() };
    let ejected = HealthStatus::Ejected(Duration::from_secs(1));
    let status = merge(&extra, &READY, &[known(ejected, 1, 9), known(HealthStatus::Healthy, 4, 2)]);
    let [used, unused] = &status.services[0].endpoints[..] else { panic!("two endpoints") };
    assert_eq!((used.health.as_str(), used.inflight, used.ewma_ms, used.failures), ("ejected", 5, Some(9.0), 4));
    assert_eq!((unused.health.as_str(), unused.ewma_ms), ("unused", None));
}

#[test]
fn imports_say_where_they_lead_and_what_keeps_them() {
    let listen: Listen = "127.0.0.1:18080".parse().unwrap();
    let import = |ready| Import {
        service: port(),
        affinity: Default::default(),
        clusters: [(east(), ready)].into(),
        weights: None,
        sticky: false,
        policy: Default::default(),
    };
    let status = |ready, error: Option<&str>| {
        let table = Arc::new(Table { imports: [(listen.clone(), Arc::new(import(ready)))].into(), ..Table::default() });
        let extra = ExtraStatus { table, ..ExtraStatus::default() };
        let listeners = vec![ListenerReport { listen: listen.clone(), error: error.map(str::to_owned) }];
        merge(&extra, &READY, &[Some(CoreReport { listeners, ..CoreReport::default() })]).services.remove(0)
    };
    let works = status(2, None);
    assert_eq!((works.listen.as_deref(), works.message), (Some("127.0.0.1:18080"), None));
    assert_eq!(works.clusters["east"], 2);
    assert_eq!(status(0, None).message.as_deref(), Some("no cluster has a ready endpoint"));
    assert_eq!(status(2, Some("address in use")).message.as_deref(), Some("address in use"));
}

#[test]
fn cores_that_are_silent_are_named_and_readiness_says_why_not() {
    let status = merge(&ExtraStatus::default(), &Readiness::default(), &[None, core(vec![], vec![]), None]);
    assert_eq!(status.silent_cores, [0, 2]);
    assert_eq!(
        (status.ready, status.not_ready.as_deref()),
        (false, Some("the first endpoint table has not been applied"))
    );
    assert!(merge(&ExtraStatus::default(), &READY, &[]).ready);
}

#[test]
fn its_json_can_be_read_again() {
    let status = merge(&ExtraStatus::default(), &READY, &[core(vec![], vec![])]);
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
}
