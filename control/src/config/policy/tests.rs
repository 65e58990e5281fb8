use crate::config::Config;
use isthmus_control_api::{Limits, Near, Probe, ProxyProtocol, Retries, ServicePolicy, TransparentSource};
use std::{path::Path, sync::Arc, time::Duration};

/// A file with this policy of its export, and what becomes of it.
fn policy(text: &str) -> Result<Arc<ServicePolicy>, String> {
    let file = format!(
        "clusterset: demo\ncluster: west\nidentity: id\nexports:\n  - service: shop/api\n    ports: [{{port: 80}}]\n    \
         endpoints: [\"10.0.0.2:80\"]\n    policy: {text}\n"
    );
    let config = Config::parse(&file, Path::new("west.yaml")).map_err(|errors| errors.to_string())?;
    Ok(config.exports.into_values().next().unwrap().policy)
}

#[test]
fn what_is_left_out_is_as_without_a_policy() {
    assert_eq!(*policy("{}").unwrap(), ServicePolicy::default());
    assert_eq!(*policy("{retries: {}, limits: {}, timeouts: {}}").unwrap(), ServicePolicy::default());
}

/// A file with this policy of its import, and what becomes of it.
fn of_import(text: &str) -> Result<Arc<ServicePolicy>, String> {
    let file = format!(
        "clusterset: demo\ncluster: west\nidentity: id\nimports:\n  - service: shop/api\n    port: 80\n    \
         listen: \"127.0.0.1:18080\"\n    policy: {text}\n"
    );
    let config = Config::parse(&file, Path::new("west.yaml")).map_err(|errors| errors.to_string())?;
    Ok(config.imports.into_values().next().unwrap().policy)
}

#[test]
fn proxies_are_of_imports() {
    let read = of_import("{acceptProxyProtocol: [10.0.0.0/8, \"::1\"]}").unwrap();
    let networks = read.accept_proxy_protocol.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
    for (text, field, expected) in [
        ("{acceptProxyProtocol: [10.0.0.1/8]}", "policy.acceptProxyProtocol[0]", "a CIDR"),
        ("{acceptProxyProtocol: true}", "policy.acceptProxyProtocol", "a list of 1 to 64"),
    ] {
        let error = of_import(text).expect_err(text);
        assert!(error.contains(&format!("imports[0].{field}: ")) && error.contains(expected), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_only_the_other_side_heeds_is_refused() {
    let refused = policy("{acceptProxyProtocol: [10.0.0.0/8]}").unwrap_err();
    assert!(
        refused.contains("exports[0].policy.acceptProxyProtocol: found it at an export, expected it at an import"),
        "{refused}"
    );
    let keys = [
        ("near", "zone"),
        ("slowStart", "10s"),
        ("health", "{check: tcp}"),
        ("proxyProtocol", "v2"),
        ("limits", "{perPeer: {streams: 1}}"),
    ];
    for (key, value) in keys {
        let text = format!("{{{key}: {value}}}");
        assert!(policy(&text).is_ok(), "{text}");
        let refused = of_import(&text).unwrap_err();
        assert!(
            refused.contains(&format!("imports[0].policy.{key}: found ")) && refused.contains(" at an export"),
            "{refused}"
        );
    }
}

#[test]
fn all_keys_are_read() {
    let read = policy(
        "{localHop: on, proxyProtocol: v2, near: zone, slowStart: 10s, \
         health: {check: http, path: /well, host: api.example, expect: 200-204, interval: 2s}, \
         timeouts: {connect: 1s, firstByte: 2s, idle: 5m, maxAge: 24h}, retries: {budget: 50%, perSecond: 0}, \
         limits: {streams: 1, pending: 2, opensPerSecond: 3, bytesPerSecond: 1MiB, perSource: {streams: 4}}}",
    )
    .unwrap();
    assert!(read.local_hop);
    assert_eq!(read.proxy_protocol, ProxyProtocol::V2);
    assert_eq!((read.near, read.slow_start), (Near::Zone, Some(Duration::from_secs(10))));
    let health = read.health.as_ref().unwrap();
    let (path, host) = ("/well".to_owned(), Some("api.example".to_owned()));
    assert_eq!(health.probe, Probe::Http { path, host, expect: 200..=204 });
    assert_eq!((health.interval, health.unhealthy), (Duration::from_secs(2), 3));
    assert_eq!(read.timeouts.max_age, Some(Duration::from_secs(24 * 3600)));
    assert_eq!(read.retries, Retries { percent: 50, per_second: 0 });
    let all = Limits { streams: Some(1), pending: Some(2), opens_per_second: Some(3), bytes_per_second: Some(1 << 20) };
    assert_eq!(read.limits.all, all);
    assert_eq!(read.limits.per_source, Limits { streams: Some(4), ..Limits::default() });
    assert!(read.limits.per_peer.is_none());
}

#[test]
fn addresses_are_kept_by_cluster() {
    let text = "{transparentSource: [{cluster: west, cidrs: [10.1.0.0/16]}, {cluster: north, cidrs: [10.2.0.0/16, 10.3.0.1]}, \
                {cluster: west, cidrs: [10.1.0.0/24]}]}";
    let read = policy(text).unwrap();
    let of = |TransparentSource { cluster, cidrs }: &TransparentSource| (cluster.to_string(), cidrs.len());
    let expected = [("west".to_owned(), 1), ("north".to_owned(), 2), ("west".to_owned(), 1)];
    assert_eq!(read.transparent_source.iter().map(of).collect::<Vec<_>>(), expected);
    assert!(read.keeps_source(&"north".parse().unwrap(), [10, 3, 0, 1].into()));
}

#[test]
fn what_is_wrong_is_named() {
    for (text, field, expected) in [
        ("{localHop: always}", "policy.localHop", "off or on"),
        ("{proxyProtocol: v1}", "policy.proxyProtocol", "off or v2"),
        ("{transparentSource: west}", "policy.transparentSource", "a list of 1 to 64 mappings"),
        ("{transparentSource: [{cluster: west}]}", "policy.transparentSource[0].cidrs", "a list of 1 to 64"),
        ("{transparentSource: [{cidrs: [10.0.0.0/8]}]}", "policy.transparentSource[0].cluster", "a DNS label"),
        (
            "{transparentSource: [{cluster: west, cidrs: [10.1.0.0/16]}, {cluster: north, cidrs: [fd00::/8, 10.0.0.0/8]}]}",
            "policy.transparentSource[1].cidrs[1]",
            "networks that no other cluster",
        ),
        (
            "{localHop: on, transparentSource: [{cluster: west, cidrs: [\"::1\"]}]}",
            "policy.transparentSource",
            "one of the two",
        ),
        ("{health: {}}", "policy.health.check", "tcp, tls, http or grpc"),
        ("{health: {check: tcp, path: /}}", "policy.health.path", "it beside http only"),
        ("{health: {check: http, expect: 300-200}}", "policy.health.expect", "a status"),
        ("{health: {check: http, path: well}}", "policy.health.path", "begins with '/'"),
        ("{health: {check: tcp, unhealthy: 0}}", "policy.health.unhealthy", "1 to 100"),
        ("{timeouts: {idle: 0s}}", "policy.timeouts.idle", "a duration"),
        ("{retries: {budget: 20}}", "policy.retries.budget", "percent"),
        ("{retries: {budget: 101%}}", "policy.retries.budget", "percent"),
        ("{limits: {streams: 0}}", "policy.limits.streams", "a number from 1"),
        ("{limits: {perPeer: {bytesPerSecond: 1KiB}}}", "policy.limits.perPeer.bytesPerSecond", "64KiB"),
        ("{limits: {perPort: {}}}", "policy.limits.perPort", "perPeer"),
    ] {
        let error = policy(text).expect_err(text);
        assert!(error.contains(&format!("exports[0].{field}: ")) && error.contains(expected), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
