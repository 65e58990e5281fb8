use super::*;
use crate::{change::tests::tables, history::History};
use isthmus_control_api::{
    HealthCheck, Limits, Probe, ProxyProtocol, Retries, ServiceLimits, Table, Timeouts, TransparentSource,
};
use proptest::prelude::*;
use std::{sync::Arc, time::Instant};

fn sent(update: &Update) -> Vec<wire::Part> {
    let sent = |part: &wire::Part| wire::Part::decode(&*part.encode_to_vec()).unwrap();
    parts(update).iter().map(sent).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(one in tables(), other in tables()) {
        let mut history = History::new(Arc::new(one.clone()), 1);
        history.publish(Arc::new(Table { version: 1, ..other }), Instant::now());
        for has in [None, Some(Digest::of(&one))] {
            let update = history.update(has);
            let [part] = sent(&update).try_into().unwrap();
            prop_assert!(part.last);
            prop_assert_eq!(read_part(part).unwrap(), (update.from, update.to, update.change));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(part) = wire::Part::decode(&*bytes) {
            let _ = read_part(part);
        }
    }
}

#[test]
fn a_large_table_goes_in_parts() {
    let export = |n: u32| {
        let endpoints = (1..=20).map(|port| Endpoint::at(([10, 0, 0, 1], port).into())).collect();
        (
            ServicePort::tcp(format!("shop/s{n}").parse().unwrap(), 80),
            Arc::new(Export { endpoints, ..Export::default() }),
        )
    };
    let table = Table { exports: (0..10_000).map(export).collect(), ..Table::default() };
    let parts = sent(&History::new(Arc::new(table.clone()), 1).update(None));
    assert!(parts.len() > 4 && parts.iter().all(|part| part.encoded_len() <= PART + (1 << 10)));
    assert!(parts.iter().rev().skip(1).all(|part| !part.last) && parts.last().unwrap().last);
    let mut change = Change::default();
    parts.into_iter().for_each(|part| change.extend(read_part(part).unwrap().2));
    assert_eq!(change.apply(&Table::default(), 0), table);
}

#[test]
fn a_policy_goes_over_whole() {
    let time = std::time::Duration::from_millis(1500);
    let some = Some(time);
    let probe = Probe::Http { path: "/well".into(), host: Some("api.example".into()), expect: 200..=204 };
    let limits = Limits { streams: Some(7), bytes_per_second: Some(1 << 30), ..Limits::default() };
    let policy = Arc::new(ServicePolicy {
        local_hop: true,
        proxy_protocol: ProxyProtocol::V2,
        accept_proxy_protocol: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
        transparent_source: vec![TransparentSource {
            cluster: "west".parse().unwrap(),
            cidrs: vec!["10.1.0.0/16".parse().unwrap()],
        }],
        health: Some(HealthCheck { probe, interval: time, timeout: time, healthy: 1, unhealthy: 9 }),
        timeouts: Timeouts { connect: some, first_byte: some, idle: some, max_age: some },
        retries: Retries { percent: 0, per_second: 1 },
        limits: ServiceLimits { all: limits, per_peer: limits, per_source: limits },
        ..ServicePolicy::default()
    });
    let service = ServicePort::tcp("shop/api".parse().unwrap(), 80);
    let written = export(&service, Some(&Arc::new(Export { policy: policy.clone(), ..Export::default() })));
    let read = read_export(wire::Export::decode(&*written.encode_to_vec()).unwrap()).unwrap();
    assert_eq!(read.1.unwrap().policy, policy);
    // What this version does not know is refused, and not left out.
    let later = wire::ExportValue { policy: "{\"later\":1}".into(), ..written.value.unwrap_or_default() };
    assert!(read_export(wire::Export { service: Some(service_port(&service)), value: Some(later) }).is_err());
}
