use super::*;
use crate::{Addresses, Endpoint, Port, Service};
use hickory_proto::{
    op::Query,
    rr::{Name, RData, Record},
};
use isthmus_control_api::{Protocol, ServiceName};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

const API: &str = "api.shop.svc.clusterset.local.";
const DB: &str = "db.shop.svc.clusterset.local.";

fn port(name: Option<&str>, protocol: Protocol, number: u16) -> Port {
    Port { name: name.map(str::to_owned), protocol, number }
}

fn endpoint(cluster: &str, hostname: &str, addresses: &[&str]) -> Endpoint {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Endpoint { hostname: hostname.into(), cluster: cluster.parse().unwrap(), addresses }
}

fn services() -> BTreeMap<ServiceName, Service> {
    let api = Service {
        ports: vec![
            port(Some("http"), Protocol::Tcp, 80),
            port(Some("dns"), Protocol::Udp, 53),
            port(Some("dns-tcp"), Protocol::Tcp, 53),
            port(None, Protocol::Tcp, 9000),
        ],
        addresses: Addresses::ClusterSetIp(vec!["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()]),
    };
    let db = Service {
        ports: vec![port(Some("sql"), Protocol::Tcp, 5432)],
        addresses: Addresses::Headless(vec![
            endpoint("east", "db-0", &["10.96.1.1"]),
            endpoint("east", "db-1", &["10.96.1.2"]),
            endpoint("west", "db-0", &["10.96.1.3", "fd00::3"]),
        ]),
    };
    let gone = Service { ports: db.ports.clone(), addresses: Addresses::Headless(Vec::new()) };
    let new = Service { ports: Vec::new(), addresses: Addresses::ClusterSetIp(Vec::new()) };
    let named = [("shop/api", api), ("shop/db", db), ("shop/gone", gone), ("shop/new", new)];
    named.into_iter().map(|(name, service)| (name.parse().unwrap(), service)).collect()
}

fn zone() -> Zone {
    Zone::unknown("clusterset.local").unwrap().with(Arc::new(services()))
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask_over(zone: &Zone, message: &Message, transport: Transport) -> Message {
    let answer = respond(zone, &message.to_vec().unwrap(), transport).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn ask(name: &str, kind: RecordType) -> Message {
    ask_over(&zone(), &query(name, kind), Transport::Udp)
}

/// The response code and the answers' data, as dig prints it.
fn found(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let message = ask(name, kind);
    assert_eq!(
        message.metadata.authoritative,
        matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
    );
    (message.metadata.response_code, message.answers.iter().map(|record| record.data.to_string()).collect())
}

fn records(data: &[&str]) -> (ResponseCode, Vec<String>) {
    (ResponseCode::NoError, data.iter().map(|&data| data.to_owned()).collect())
}

fn none(code: ResponseCode) -> (ResponseCode, Vec<String>) {
    (code, Vec::new())
}

use RecordType as T;

#[test]
fn a_service_has_its_addresses() {
    assert_eq!(found(API, T::A), records(&["10.96.0.7"]));
    assert_eq!(found(API, T::AAAA), records(&["fd00::7"]));
    assert_eq!(found("new.shop.svc.clusterset.local.", T::A), records(&[]), "it exists, without an address yet");
    assert_eq!(found("none.shop.svc.clusterset.local.", T::A), none(ResponseCode::NXDomain));
    assert_eq!(found("api.other.svc.clusterset.local.", T::A), none(ResponseCode::NXDomain));
}

#[test]
fn a_headless_service_has_its_ready_endpoints() {
    assert_eq!(found(DB, T::A), records(&["10.96.1.1", "10.96.1.2", "10.96.1.3"]));
    assert_eq!(found(DB, T::AAAA), records(&["fd00::3"]));
    assert_eq!(found("db-0.east.db.shop.svc.clusterset.local.", T::A), records(&["10.96.1.1"]));
    assert_eq!(found("db-0.west.db.shop.svc.clusterset.local.", T::AAAA), records(&["fd00::3"]));
    assert_eq!(found("db-1.west.db.shop.svc.clusterset.local.", T::A), none(ResponseCode::NXDomain));
    for kind in [T::A, T::SRV] {
        assert_eq!(found("gone.shop.svc.clusterset.local.", kind), none(ResponseCode::NXDomain));
    }
}

#[test]
fn a_cluster_has_no_address_of_a_service() {
    assert_eq!(found("east.api.shop.svc.clusterset.local.", T::A), none(ResponseCode::NXDomain));
    assert_eq!(found("north.db.shop.svc.clusterset.local.", T::A), none(ResponseCode::NXDomain));
    // There are names below it, and whoever keeps "no such name" keeps it of those as well (RFC 8020).
    assert_eq!(found("east.db.shop.svc.clusterset.local.", T::A), records(&[]));
}

#[test]
fn ports_that_have_names_have_srv_records() {
    assert_eq!(found(&format!("_http._tcp.{API}"), T::SRV), records(&[&format!("0 100 80 {API}")]));
    assert_eq!(found(&format!("_dns._udp.{API}"), T::SRV), records(&[&format!("0 100 53 {API}")]));
    assert_eq!(found(&format!("_dns._tcp.{API}"), T::SRV), none(ResponseCode::NXDomain));
    assert_eq!(found(&format!("_http._tcp.{API}"), T::A), records(&[]));
    assert_eq!(found(&format!("_tcp.{API}"), T::SRV), records(&[]));
    assert_eq!(found(&format!("_sctp.{API}"), T::SRV), none(ResponseCode::NXDomain));
    let sql = [
        "0 33 5432 db-0.east.db.shop.svc.clusterset.local.",
        "0 33 5432 db-1.east.db.shop.svc.clusterset.local.",
        "0 33 5432 db-0.west.db.shop.svc.clusterset.local.",
    ];
    assert_eq!(found(&format!("_sql._tcp.{DB}"), T::SRV), records(&sql));
    let additionals = ask(&format!("_http._tcp.{API}"), T::SRV).additionals;
    let additionals: Vec<_> = additionals.iter().map(|record| format!("{} {}", record.name, record.data)).collect();
    assert_eq!(additionals, [format!("{API} 10.96.0.7"), format!("{API} fd00::7")]);
}

#[test]
fn a_services_own_name_has_one_srv_record_for_each_number() {
    let ports = [53, 80, 9000].map(|port| format!("0 100 {port} {API}"));
    assert_eq!(found(API, T::SRV), records(&ports.each_ref().map(String::as_str)));
}

#[test]
fn names_in_between_exist() {
    for name in ["svc.clusterset.local.", "shop.svc.clusterset.local.", "dns.clusterset.local."] {
        assert_eq!(found(name, T::A), records(&[]), "{name}");
    }
    assert_eq!(found("other.svc.clusterset.local.", T::A), none(ResponseCode::NXDomain));
    assert_eq!(found("pod.clusterset.local.", T::A), none(ResponseCode::NXDomain));
}

#[test]
fn the_domain_tells_of_itself() {
    assert_eq!(found("dns-version.clusterset.local.", T::TXT), records(&["1.0.0"]));
    assert_eq!(found("dns-version.clusterset.local.", T::A), records(&[]));
    assert_eq!(found("clusterset.local.", T::NS), records(&["ns.dns.clusterset.local."]));
    assert_eq!(ask("clusterset.local.", T::SOA).answers.len(), 1);
    assert_eq!(found(API, T::ANY).1.len(), 1);
}

#[test]
fn what_there_is_not_says_for_how_long() {
    for (name, kind) in [(API, T::TXT), ("none.shop.svc.clusterset.local.", T::A)] {
        let authorities = ask(name, kind).authorities;
        let [Record { data: RData::SOA(soa), ttl, .. }] = authorities.as_slice() else {
            panic!("{name}: {authorities:?}")
        };
        assert_eq!((soa.minimum, *ttl), (5, 5));
    }
}

#[test]
fn nothing_is_said_before_anything_is_known() {
    let unknown = Zone::unknown("clusterset.local").unwrap();
    let code = |name| ask_over(&unknown, &query(name, T::A), Transport::Udp).metadata.response_code;
    assert_eq!(code(API), ResponseCode::ServFail);
    assert_eq!(code("x.svc.clusterset.local."), ResponseCode::ServFail);
    assert_eq!(code("clusterset.local."), ResponseCode::NoError);
}

#[test]
fn upper_and_lower_case_come_back_as_they_were_sent() {
    let name = "aPi.ShOp.SVC.clusterSET.local.";
    let answer = ask(name, T::A);
    assert_eq!(answer.queries[0].name().to_string(), name);
    assert_eq!(answer.answers[0].name.to_string(), name);
    assert_eq!(answer.answers[0].data.to_string(), "10.96.0.7");
}

#[test]
fn other_domains_and_classes_and_operations_are_refused() {
    for name in ["example.com.", "api.shop.svc.cluster.local.", "local.", "xclusterset.local."] {
        assert_eq!(found(name, T::A), none(ResponseCode::Refused), "{name}");
    }
    assert_eq!(ask("clusterset.local.", T::AXFR).metadata.response_code, ResponseCode::Refused);
    let mut chaos = query(API, T::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask_over(&zone(), &chaos, Transport::Udp).metadata.response_code, ResponseCode::Refused);
    let mut update = query(API, T::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(ask_over(&zone(), &update, Transport::Udp).metadata.response_code, ResponseCode::NotImp);
    let mut two = query(API, T::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(ask_over(&zone(), &two, Transport::Udp).metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn answers_are_not_answered() {
    let mut answer = query(API, T::A);
    answer.metadata.message_type = MessageType::Response;
    assert_eq!(respond(&zone(), &answer.to_vec().unwrap(), Transport::Udp), None);
    assert_eq!(respond(&zone(), &[0xff; 11], Transport::Udp), None);
    assert_eq!(respond(&zone(), &[0xff; 20], Transport::Udp), None, "it has the mark of an answer");
    let garbage = [&[1, 2, 0, 0, 0, 9][..], &[0xff; 20]].concat();
    let error = Message::from_vec(&respond(&zone(), &garbage, Transport::Udp).unwrap()).unwrap();
    assert_eq!((error.metadata.id, error.metadata.response_code), (0x102, ResponseCode::FormErr));
}

#[test]
fn a_newer_edns_is_named() {
    let mut newer = query(API, T::A);
    newer.set_edns(Edns::new()).edns.as_mut().unwrap().set_version(1);
    let answer = ask_over(&zone(), &newer, Transport::Udp);
    // 16 has two names: the decoder gives it the other one.
    assert_eq!((u16::from(answer.metadata.response_code), answer.answers.len()), (u16::from(ResponseCode::BADVERS), 0));
    assert_eq!(answer.edns.unwrap().version(), 0);
}

/// A headless service with so many endpoints.
fn crowd(endpoints: u32) -> Zone {
    let ip = |n: u32| std::net::Ipv4Addr::from_bits(0x0a60_0000 + n).to_string();
    let endpoints = (0..endpoints).map(|n| endpoint("east", &format!("db-{n}"), &[&ip(n)])).collect();
    let ports = vec![port(Some("sql"), Protocol::Tcp, 5432)];
    let service = Service { ports, addresses: Addresses::Headless(endpoints) };
    Zone::unknown("clusterset.local").unwrap().with(Arc::new([("shop/db".parse().unwrap(), service)].into()))
}

#[test]
fn what_does_not_fit_is_cut_and_marked() {
    let (zone, mut large) = (crowd(300), query(DB, T::A));
    let small = ask_over(&zone, &large, Transport::Udp);
    assert!(small.metadata.truncation && !small.answers.is_empty());
    large.set_edns(Edns::new()).edns.as_mut().unwrap().set_max_payload(4096);
    let middle = ask_over(&zone, &large, Transport::Udp);
    assert!(middle.metadata.truncation && middle.answers.len() > small.answers.len());
    assert!(middle.edns.is_some(), "the options are there still");
    let whole = ask_over(&zone, &large, Transport::Tcp);
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 300);
    let beyond = ask_over(&crowd(10_000), &large, Transport::Tcp);
    assert!(beyond.metadata.truncation, "64 KiB are what a message holds");
}

#[test]
fn what_nobody_asked_for_is_left_out_first() {
    let mut srv = query(&format!("_sql._tcp.{DB}"), T::SRV);
    srv.set_edns(Edns::new()).edns.as_mut().unwrap().set_max_payload(1232);
    let answer = ask_over(&crowd(16), &srv, Transport::Udp);
    assert_eq!((answer.answers.len(), answer.additionals.len(), answer.metadata.truncation), (16, 0, false));
}

#[test]
fn every_client_begins_with_another_address() {
    let zone = zone();
    let first = |id| {
        let mut asked = query(DB, T::A);
        asked.metadata.id = id;
        ask_over(&zone, &asked, Transport::Udp).answers[0].data.to_string()
    };
    assert_eq!([0, 1, 2, 3].map(first), ["10.96.1.1", "10.96.1.2", "10.96.1.3", "10.96.1.1"]);
}

#[test]
fn domains_that_are_none_are_refused() {
    for bad in ["", ".", "a..b", &"x".repeat(64), &format!("{0}.{0}", "x".repeat(40))] {
        assert!(Zone::unknown(bad).is_err(), "{bad:?}");
    }
    Zone::unknown("Clusterset.Local.").unwrap();
}

proptest! {
    #[test]
    fn any_bytes_get_a_fitting_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Some(answer) = respond(&zone(), &bytes, Transport::Udp) {
            prop_assert!(answer.len() <= usize::from(DATAGRAM));
            prop_assert_eq!(&answer[..2], &bytes[..2]);
            Message::from_vec(&answer).unwrap();
        }
    }

    #[test]
    fn every_answer_fits(endpoints in 0u32..2000, size in 0u16..5000, kind in prop_oneof![Just(T::A), Just(T::SRV)], id: u16) {
        let zone = crowd(endpoints);
        let name = if kind == T::A { DB.to_owned() } else { format!("_sql._tcp.{DB}") };
        let mut asked = query(&name, kind);
        asked.metadata.id = id;
        asked.set_edns(Edns::new()).edns.as_mut().unwrap().set_max_payload(size);
        let bytes = respond(&zone, &asked.to_vec().unwrap(), Transport::Udp).unwrap();
        prop_assert!(bytes.len() <= usize::from(size.clamp(512, 1232)));
        let answer = Message::from_vec(&bytes).unwrap();
        let whole = answer.answers.len() == endpoints as usize;
        prop_assert_eq!(answer.metadata.truncation, !whole);
    }
}
