use super::*;
use isthmus_control_api::{Affinity, Algorithm, Failover, Outliers, ServicePolicy};
use proptest::prelude::*;

const WEST: &str = r#"
clusterset: demo
cluster: west
identity: west-identity/
tunnel: {listen: "0.0.0.0:15008"}
links:
  - cluster: east
    endpoints: ["203.0.113.7:15008"]
exports:
  - service: shop/api
    ports: [{name: http, port: 80, protocol: TCP}]
    endpoints: ["10.0.0.2:8080"]
imports:
  - service: shop/api
    port: 80
    listen: "127.0.0.1:18080"
    affinity: local
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("etc/west.yaml")).map_err(|errors| errors.to_string())
}

/// `WEST` with one piece replaced, and what is said of it.
fn refused(piece: &str, by: &str) -> String {
    assert!(WEST.contains(piece), "{piece:?}");
    parse(&WEST.replacen(piece, by, 1)).expect_err(by)
}

#[test]
fn a_whole_file_becomes_typed_values() {
    let config = parse(WEST).unwrap();
    assert_eq!(config.cluster.as_str(), "west");
    assert_eq!(config.identity, Path::new("etc/west-identity/"));
    assert_eq!(config.state, Path::new("etc/west-state"));
    assert_eq!(config.admin, "127.0.0.1:15020".parse().unwrap());
    assert_eq!(config.drain, Duration::from_secs(30));
    assert_eq!(config.cores, None);
    assert_eq!(config.transparent_sources, [], "nobody's address is used unless that is said");
    assert_eq!(config.limits.memory, 1 << 30);
    assert_eq!(config.links.len(), 1);
    let (key, export) = config.exports.first_key_value().unwrap();
    assert_eq!(key.to_string(), "shop/api:80");
    assert_eq!(export.port_name.as_deref(), Some("http"));
    assert_eq!(export.endpoints[0].address, "10.0.0.2:8080".parse().unwrap());
    let (listen, import) = config.imports.first_key_value().unwrap();
    assert_eq!((listen.address.port(), import.affinity), (18080, Affinity::Local));
}

#[test]
fn a_policy_is_read_and_has_the_defaults_that_the_reference_names() {
    let with = |policy: &str| {
        let text = WEST.replacen("    affinity: local", &format!("    affinity: local\n    policy: {policy}"), 1);
        parse(&text).map(|config| config.imports.first_key_value().unwrap().1.policy.clone())
    };
    assert_eq!(*with("{}").unwrap(), Default::default());
    assert_eq!(*with("{outliers: {}, failover: {}}").unwrap(), Default::default());
    let policy = with(
        "{balance: roundRobin, failover: {healthy: 70%, panic: 20%, recovery: 1m}, \
         outliers: {failures: 1, resets: 2, slowerThan: 10, ejection: 2s, longestEjection: 4s, maxEjected: 30%}}",
    );
    let expected = ServicePolicy {
        balance: Algorithm::RoundRobin,
        outliers: Outliers {
            failures: 1,
            resets: 2,
            slower_than: Some(10),
            ejection: Duration::from_secs(2),
            longest_ejection: Duration::from_secs(4),
            max_ejected: 30,
        },
        failover: Failover { healthy: 70, panic: 20, recovery: Duration::from_mins(1) },
        ..ServicePolicy::default()
    };
    assert_eq!(*policy.unwrap(), expected);
    for (bad, said) in [
        (
            "{balance: maglev}",
            "imports[0].policy.balance: found \"maglev\", expected leastRequest, roundRobin, random or",
        ),
        (
            "{outliers: {maxEjected: 101%}}",
            "imports[0].policy.outliers.maxEjected: found \"101%\", expected a percentage",
        ),
        (
            "{outliers: {ejection: 5m}}",
            "longestEjection: found 60s, shorter than ejection, 300s, expected a duration that",
        ),
        ("{failover: {healthy: 50}}", "found \"50\" (a percentage ends with %), expected a percentage from 0% to 100%"),
        ("{outlier: {}}", "imports[0].policy.outlier: found an unknown key, expected \"outliers\""),
    ] {
        let errors = with(bad).expect_err(bad);
        assert!(errors.contains(said), "{bad}: {errors}");
    }
}

#[test]
fn endpoints_may_say_where_they_are() {
    let text =
        WEST.replacen("[\"10.0.0.2:8080\"]", "[{address: \"10.0.0.2:8080\", zone: a, node: n1}, \"10.0.0.3:8080\"]", 1);
    let config = parse(&format!("{text}zone: a\nnode: n1\n")).unwrap();
    let endpoints = &config.exports.first_key_value().unwrap().1.endpoints;
    assert_eq!((endpoints[0].zone.as_deref(), endpoints[0].node.as_deref()), (Some("a"), Some("n1")));
    assert_eq!(endpoints[1], isthmus_control_api::Endpoint::at("10.0.0.3:8080".parse().unwrap()));
    assert_eq!((config.zone.as_deref(), config.node.as_deref()), (Some("a"), Some("n1")));
    let errors = refused("[\"10.0.0.2:8080\"]", "[{zone: a}]");
    assert!(errors.contains("exports[0].endpoints[0].address: found nothing"), "{errors}");
}

#[test]
fn control_and_gateway_say_where_they_meet() {
    assert_eq!(parse(WEST).unwrap().control, None);
    let control = parse(&format!("{WEST}control: {{listen: \"0.0.0.0:15010\"}}\n")).unwrap().control;
    assert_eq!(control, Some(ControlAt::Listen { gateways: "0.0.0.0:15010".parse().unwrap(), joins: None }));
    let gateway = "clusterset: demo\ncluster: west\nidentity: id\ncontrol: {address: \"control.west:15010\"}\n";
    let control = "control.west:15010".parse().unwrap();
    assert_eq!(parse(gateway).unwrap().control, Some(ControlAt::Address { control, joins: None }));
    let both = gateway.replace("15010\"}", "15010\", joins: \"control.west:15011\"}");
    let Some(ControlAt::Address { joins, .. }) = parse(&both).unwrap().control else { panic!("a gateway's") };
    assert_eq!(joins.map(|joins| joins.port), Some(15011));
    for (more, why) in [
        (
            "links: []",
            "5:8: links: found links of a gateway that has control.address, expected them in the configuration of its control",
        ),
        ("exports: []", "exports: found exports of a gateway"),
        ("imports: []", "imports: found imports of a gateway"),
        ("relay: {}", "relay: found relay of a gateway"),
    ] {
        let refused = parse(&format!("{gateway}{more}\n")).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    for (bad, why) in [
        ("{address: \"a:1\", listen: \"0.0.0.0:15010\"}", "control.address: found an address beside listen"),
        (
            "{listen: \"0.0.0.0:15010\", joins: \"0.0.0.0:15010\"}",
            "control.joins: found \"0.0.0.0:15010\", which control.listen",
        ),
        ("{listen: \"0.0.0.0:15008\"}", "control.listen: found \"0.0.0.0:15008\", which tunnel.listen"),
        ("{listen: \"15010\"}", "control.listen: found \"15010\", expected ip:port"),
        ("{adress: \"a:1\"}", "expected \"address\""),
    ] {
        let refused = parse(&format!("{WEST}control: {bad}\n")).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn access_records_go_where_the_file_says() {
    let log = |text: &str| parse(&format!("{WEST}accessLog: {text}\n")).unwrap().access_log;
    assert_eq!(parse(WEST).unwrap().access_log, AccessLog::Off);
    assert_eq!(log("off"), AccessLog::Off);
    assert_eq!(log("stdout"), AccessLog::Stdout);
    assert_eq!(log("access.log"), AccessLog::File("etc/access.log".into()));
    assert_eq!(log("/var/log/access.log"), AccessLog::File("/var/log/access.log".into()));
    assert!(parse(&format!("{WEST}accessLog: \"\"\n")).unwrap_err().contains("accessLog"));
}

#[test]
fn traces_are_off_unless_there_is_a_collector() {
    assert_eq!(parse(WEST).unwrap().traces, None);
    let read = |text: &str| parse(&format!("{WEST}traces: {text}\n")).map(|config| config.traces.unwrap());
    let traces = read("{endpoint: \"http://127.0.0.1:4317\"}").unwrap();
    assert_eq!(traces, Traces { endpoint: "http://127.0.0.1:4317".into(), ca_file: None, per_million: 10_000 });
    let traces = read("{endpoint: \"https://c:4317\", ratio: 1, caFile: ca.pem}").unwrap();
    assert_eq!((traces.ca_file, traces.per_million), (Some("etc/ca.pem".into()), 1_000_000));
    for (bad, why) in [
        ("{}", "traces.endpoint: found nothing, expected http:// or https://, host:port"),
        ("{endpoint: \"127.0.0.1:4317\"}", "traces.endpoint: found \"127.0.0.1:4317\", expected http:// or https://"),
        ("{endpoint: \"http://a:4318/v1/traces\"}", "(gRPC has a path of its own)"),
        ("{endpoint: \"http://a:1\", ratio: 1%}", "traces.ratio: found \"1%\", expected a number from 0 to 1"),
        ("{endpoint: \"http://a:1\", caFile: ca.pem}", "traces.caFile: found a caFile beside an endpoint without TLS"),
        ("{endpoint: \"http://a:1\", sample: 1}", "traces.sample: found an unknown key"),
    ] {
        let refused = read(bad).unwrap_err();
        assert!(refused.contains(why), "{bad}: {refused}");
    }
}

#[test]
fn a_bare_endpoint_takes_each_ports_target() {
    let text = WEST
        .replace("[{name: http, port: 80, protocol: TCP}]", "[{port: 80, targetPort: 8080}, {port: 443}]")
        .replace("10.0.0.2:8080", "10.0.0.2");
    let ports: Vec<u16> = parse(&text).unwrap().exports.values().map(|e| e.endpoints[0].address.port()).collect();
    assert_eq!(ports, [8080, 443]);
}

#[test]
fn one_number_may_be_a_tcp_and_a_udp_port() {
    let both = WEST
        .replace("[{name: http, port: 80, protocol: TCP}]", "[{port: 53}, {port: 53, protocol: UDP}]")
        .replace("10.0.0.2:8080", "10.0.0.2")
        .replace(
            "    affinity: local\n",
            "  - {service: shop/api, port: 80, protocol: UDP, listen: \"127.0.0.1:18080\"}\n",
        );
    let config = parse(&both).unwrap();
    let exports: Vec<_> = config.exports.keys().map(ToString::to_string).collect();
    let imports: Vec<_> =
        config.imports.iter().map(|(listen, import)| format!("{listen} {}", import.service)).collect();
    assert_eq!(exports, ["shop/api:53", "shop/api:53/udp"]);
    assert_eq!(imports, ["127.0.0.1:18080 shop/api:80", "127.0.0.1:18080/udp shop/api:80/udp"]);

    let twice = both.replace("{port: 53}, ", "{port: 53, protocol: UDP}, ");
    assert!(parse(&twice).unwrap_err().contains("expected each port once in a service and protocol"));
    let quic = both.replace("UDP, listen: \"127.0.0.1:18080\"", "UDP, listen: \"127.0.0.1:15008\"");
    assert!(parse(&quic).unwrap_err().contains("which tunnel.listen on line 5 has"));
}

#[test]
fn a_link_states_what_its_peer_cannot_tell() {
    let text =
        WEST.replace("  - cluster: east\n", "  - cluster: east\n    services: [\"shop/api:80\", \"shop/db:5432\"]\n");
    let services = parse(&text).unwrap().links.into_values().next().unwrap().services;
    assert_eq!(services.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop/api:80", "shop/db:5432"]);
    let said = parse(&text.replace("shop/api:80", "shop/api")).unwrap_err();
    assert!(said.contains(r#"links[0].services[0]: found "shop/api", expected namespace/name:port"#), "{said}");
}

#[test]
fn what_a_peer_may_take_is_bounded_by_its_link() {
    let with = |limits: &str| {
        parse(&WEST.replace("  - cluster: east\n", &format!("  - cluster: east\n    limits: {limits}\n")))
    };
    let config = with("{streams: 500, opensPerSecond: 20, bytesPerSecond: 1MiB}").unwrap();
    let limits = config.links.into_values().next().unwrap().link.limits;
    assert_eq!((limits.streams, limits.pending), (Some(500), None));
    assert_eq!((limits.opens_per_second, limits.bytes_per_second), (Some(20), Some(1 << 20)));
    for (limits, why) in [
        ("{streams: 0}", r#"links[0].limits.streams: found "0", expected a number from 1 to 10000000"#),
        ("{bytesPerSecond: 1KiB}", r#"links[0].limits.bytesPerSecond: found "1KiB", expected a size from 64KiB"#),
        ("{perPeer: {streams: 1}}", "links[0].limits.perPeer: found an unknown key"),
        ("500", "links[0].limits: found \"500\", expected a mapping"),
    ] {
        let said = with(limits).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn who_relays_and_for_whom_is_read() {
    let text = WEST.replace("  - cluster: east\n", "  - cluster: east\n    relay: hub\n");
    let config = parse(&text).unwrap();
    assert_eq!(config.links.into_values().next().unwrap().link.relay, Some("hub".parse().unwrap()));
    assert_eq!(config.relay.allow.len(), 0);

    let relaying = parse(&format!("{WEST}relay: {{allow: [north, south], bytesPerSecond: 1MiB}}\n")).unwrap().relay;
    let [north, south, east] = ["north", "south", "east"].map(|name| name.parse().unwrap());
    assert!(relaying.allows(&north, &south) && relaying.allows(&south, &north));
    assert!(!relaying.allows(&north, &east) && !relaying.allows(&north, &north));
    assert_eq!((relaying.tunnels, relaying.bytes_per_second), (256, Some(1 << 20)));

    for (by, why) in [
        ("relay: west", r#"links[0].relay: found "west", which is this cluster, expected a third cluster's id"#),
        ("relay: east", r#"links[0].relay: found "east", which is the peer itself, expected a third cluster's id"#),
        ("relay: Hub!", r#"links[0].relay: found "Hub!", expected a DNS label"#),
    ] {
        let said = refused("- cluster: east\n", &format!("- cluster: east\n    {by}\n"));
        assert!(said.contains(why), "{said}");
    }
    for (relay, why) in [
        ("{allow: [north]}", "relay.allow: found a list of 1, expected a list of 2 to 256 cluster ids"),
        ("{allow: [north, south], bytesPerSecond: 1}", "relay.bytesPerSecond: found \"1\", expected a size from 64KiB"),
        ("{tunnels: 0}", "relay.tunnels: found \"0\", expected a number"),
    ] {
        let said = parse(&format!("{WEST}relay: {relay}\n")).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn addresses_that_a_gateway_may_use_are_read() {
    let config = parse(&format!("{WEST}transparentSources: [10.1.0.0/16, \"fd00:1::/64\"]\n")).unwrap();
    let read: Vec<_> = config.transparent_sources.iter().map(ToString::to_string).collect();
    assert_eq!(read, ["10.1.0.0/16", "fd00:1::/64"]);
    let said = parse(&format!("{WEST}transparentSources: [all]\n")).unwrap_err();
    assert!(said.contains(r#"transparentSources[0]: found "all", expected a CIDR"#), "{said}");
}

#[test]
fn measurements_are_served_unless_they_are_off() {
    assert!(parse(WEST).unwrap().measurements);
    assert!(!parse(&format!("{WEST}measurements: off\n")).unwrap().measurements);
    let said = parse(&format!("{WEST}measurements: never\n")).unwrap_err();
    assert!(said.contains(r#"measurements: found "never", expected on or off"#), "{said}");
}

#[test]
fn each_mistake_is_named_with_its_place() {
    let cases = [
        ("protocol: TCP", "protocol: TPC", r#"11:46: exports[0].ports[0].protocol: found "TPC", expected TCP or UDP"#),
        ("affinity: local", "protocol: udp", r#"17:15: imports[0].protocol: found "udp", expected TCP or UDP"#),
        ("links:", "linkss:", r#"6:1: linkss: found an unknown key, expected "links""#),
        ("    port: 80", "    prot: 80", r#"15:5: imports[0].prot: found an unknown key, expected "port""#),
        ("port: 80,", "port: 0,", r#"11:32: exports[0].ports[0].port: found "0", expected a port number, 1 to 65535"#),
        (
            "- cluster: east",
            "- cluster: west",
            r#"7:14: links[0].cluster: found "west", which is this cluster, expected another cluster's id"#,
        ),
        (
            r#"["10.0.0.2:8080"]"#,
            "[]",
            r#"12:16: exports[0].endpoints: found an empty list, expected a list of 1 to 1000 of ip:port, ip, or mappings"#,
        ),
        (
            "10.0.0.2:8080",
            "api.local:8080",
            r#"12:17: exports[0].endpoints[0]: found "api.local:8080", expected ip:port or ip"#,
        ),
        (
            "shop/api\n    ports",
            "shop\n    ports",
            r#"10:14: exports[0].service: found "shop", expected namespace/name, each a DNS label"#,
        ),
        (
            "shop/api\n    ports",
            "isthmus-system/exchange\n    ports",
            r#"10:14: exports[0].service: found "isthmus-system/exchange" (a reserved namespace), expected namespace/name, each a DNS label"#,
        ),
        (
            "clusterset: demo\n",
            "",
            r#"2:1: clusterset: found nothing, expected DNS labels joined by dots, at most 189 bytes"#,
        ),
        (
            "affinity: local",
            "affinity:",
            r#"17:13: imports[0].affinity: found nothing, expected local, remote or none"#,
        ),
        (
            "cluster: west\n",
            "cluster: west\ncluster: west\n",
            r#"4:1: cluster: found the key a second time (first on line 3), expected each key once"#,
        ),
        ("cluster: west\n", "cluster: &a west\n", r#"3:10: found an anchor, expected a value without one"#),
    ];
    for (piece, by, said) in cases {
        assert_eq!(refused(piece, by), format!("etc/west.yaml:{said}"), "{by:?}");
    }
}

#[test]
fn listeners_do_not_take_each_others_connections() {
    let said = refused("127.0.0.1:18080", "127.0.0.1:15008");
    assert!(said.contains(r#"imports[0].listen: found "127.0.0.1:15008", which tunnel.listen on line 5"#), "{said}");
    let said = refused("127.0.0.1:18080", "127.0.0.1:15020");
    assert!(said.contains("admin"), "{said}");
}

#[test]
fn the_consoles_token_is_a_file_beside_this_one() {
    assert_eq!(parse(WEST).unwrap().console.token_file, None);
    let config = parse(&format!("{WEST}console: {{tokenFile: console-token}}\n")).unwrap();
    assert_eq!(config.console.token_file.as_deref(), Some(Path::new("etc/console-token")));
    let error = parse(&format!("{WEST}console: {{token: secret}}\n")).expect_err("a token in the file");
    assert!(error.to_string().contains("console.token"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn repeated_services_links_and_endpoints_are_refused() {
    let link = "  - cluster: east\n    endpoints: [\"203.0.113.7:15008\"]\n";
    let said = refused(link, &format!("{link}{link}"));
    assert!(
        said.contains(r#"9:14: links[1].cluster: found "east" a second time (first on line 7), expected one link"#),
        "{said}"
    );
    let said = refused("imports:", "  - {service: shop/api, ports: [{port: 1}], endpoints: [10.0.0.2]}\nimports:");
    assert!(said.contains(r#"exports[1].service: found "shop/api" a second time"#), "{said}");
    let said = refused(r#"["10.0.0.2:8080"]"#, r#"["10.0.0.2:8080", "10.0.0.2:8080"]"#);
    assert!(said.contains("each endpoint once"), "{said}");
}

#[test]
fn one_pass_finds_every_mistake_in_the_files_order() {
    let text = WEST
        .replace("cluster: east", "cluster: East")
        .replace("port: 80,", "port: http,")
        .replace("affinity: local", "affinity: near")
        + "extra: 1\ndrain: 1y\n";
    let said = parse(&text).unwrap_err();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    for (line, field) in
        lines.iter().zip(["links[0].cluster", "exports[0].ports[0].port", "imports[0].affinity", "extra", "drain"])
    {
        assert!(line.contains(&format!(": {field}: found ")), "{line}");
    }
}

#[test]
fn what_is_no_configuration_is_refused() {
    for (text, said) in [
        ("", "found nothing"),
        ("[]", "expected a mapping"),
        ("a: [1, 2", "expected YAML"),
        ("a: 1\n---\nb: 2\n", "a second document"),
        ("a: *b", "expected YAML"),
        ("? [a]\n: b", "a collection for a key"),
        (&"[".repeat(40), "deeper nesting"),
    ] {
        let errors = parse(text).unwrap_err();
        assert!(errors.contains(said), "{text:?}: {errors}");
    }
}

#[test]
fn a_missing_and_an_oversized_file_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("west.yaml");
    assert!(Config::load(&path).unwrap_err().to_string().contains("cannot be read"));
    std::fs::write(&path, vec![b'#'; (MAX_FILE + 1) as usize]).unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("more than 1 MiB"));
    std::fs::write(&path, WEST).unwrap();
    let config = Config::load(&path).unwrap();
    assert!(config.check_files().unwrap_err().to_string().contains("isthmus identity init"));
}

#[test]
fn many_mistakes_are_counted_and_cut() {
    let text: String = (0..150).map(|n| format!("unknown{n}: 1\n")).collect();
    let errors = Config::parse(&text, Path::new("x")).unwrap_err();
    assert_eq!((errors.errors.len(), errors.more), (100, 53), "three keys are missing besides");
}

/// The reference in docs/ is what the schema says: `UPDATE_DOCS=1 cargo test -p isthmus-control` rewrites it.
#[test]
fn the_reference_is_what_the_schema_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- keys -->\n", "<!-- /keys -->");
    let (before, rest) = text.split_once(begin).expect("the opening marker");
    let (keys, after) = rest.split_once(end).expect("the closing marker");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{}{end}{after}", schema::reference())).unwrap();
    } else {
        assert_eq!(keys, schema::reference(), "run it again with UPDATE_DOCS=1");
    }
    let example = before.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    parse(example).unwrap();
}

proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]{}:,&*!|>'\"%@`#~ \\n\\t?a-z0-9-]{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_damage_panics(at in 0..WEST.len(), by in "\\PC{0,3}|\n *") {
        let mut text = WEST.to_owned();
        text.replace_range(at..at + 1, &by);
        let _ = parse(&text);
    }
}

#[test]
fn kubernetes_as_a_registry_has_defaults_and_takes_no_exports_of_the_file() {
    const BARE: &str = "clusterset: demo\ncluster: west\nidentity: id\n";
    let registry = |text: &str| parse(&format!("{BARE}{text}\n"));
    assert_eq!(registry("registry: file").unwrap().kubernetes, None);
    let plain = registry("registry: kubernetes").unwrap().kubernetes.unwrap();
    assert_eq!((plain.namespace.as_str(), plain.ports, plain.kubeconfig), ("isthmus-system", 20000..=29999, None));
    let text = "registry: {kubernetes: {kubeconfig: kube.yaml, context: east, namespace: mesh, gatewaySelector: app=gw, ports: 30000-30010, caSecret: ca}}";
    let all = registry(text).unwrap().kubernetes.unwrap();
    assert_eq!((all.kubeconfig, all.context), (Some("etc/kube.yaml".into()), Some("east".into())));
    assert_eq!((all.gateway_selector.as_str(), all.ports), ("app=gw", 30000..=30010));
    assert_eq!((plain.ports_per_cluster, plain.addresses_per_cluster), (2500, 2500));
    assert!(all.compat.is_empty() && all.external_dns.is_none());
    let text =
        "registry: {kubernetes: {compat: [linkerd, cilium], externalDns: {addresses: [203.0.113.7, gw.example]}}}";
    let more = registry(text).unwrap().kubernetes.unwrap();
    assert!(more.compat.into_iter().eq([System::Cilium, System::Linkerd]));
    let dns = more.external_dns.unwrap();
    assert_eq!(
        (dns.service.as_str(), dns.addresses),
        ("isthmus-gateway", vec!["203.0.113.7".into(), "gw.example".into()])
    );
    // Where gateways listen beside what the cluster imports.
    let text = "registry: kubernetes\nimports: [{service: shop/api, port: 80, listen: \"127.0.0.1:18080\"}]";
    assert_eq!(registry(text).unwrap().imports.len(), 1);
    for (text, error) in [
        ("registry: consul", "registry: found \"consul\", expected file, kubernetes, or {kubernetes: a mapping}"),
        ("registry: {consul: {}}", "registry.consul: found an unknown key"),
        (
            "registry: kubernetes\nexports: [{service: shop/api, ports: [{port: 80}], endpoints: [\"10.0.0.2:80\"]}]",
            "exports: found exports beside registry: kubernetes, expected ServiceExports",
        ),
        (
            "registry: kubernetes\nimports: [{service: shop/api, port: 80, listen: \"127.0.0.1:20007\"}]",
            "ports: found a range with 20007, which imports[0].listen has",
        ),
        (
            "registry: {kubernetes: {compat: [cilium, consul]}}",
            "registry.kubernetes.compat[1]: found \"consul\", expected cilium, gke, istio, linkerd, skupper or submariner",
        ),
        (
            "registry: {kubernetes: {externalDns: {addresses: [0.0.0.0]}}}",
            "registry.kubernetes.externalDns.addresses[0]: found \"0.0.0.0\"",
        ),
        ("registry: {kubernetes: {context: east}}", "registry.kubernetes.context: found a context without kubeconfig"),
        (
            "registry: {kubernetes: {ports: 15000-16000}}",
            "registry.kubernetes.ports: found a range with 15008, which tunnel.listen has",
        ),
        ("registry: {kubernetes: {ports: 20000}}", "registry.kubernetes.ports: found \"20000\", expected first-last"),
    ] {
        let found = registry(text).unwrap_err();
        assert!(found.contains(error), "{text}: {found}");
    }
}

#[test]
fn names_are_served_beside_kubernetes_only() {
    const BARE: &str = "clusterset: demo\ncluster: west\nidentity: id\n";
    let dns = |text: &str| parse(&format!("{BARE}{text}\n")).map(|config| config.dns);
    assert_eq!(dns("registry: kubernetes").unwrap(), None);
    let all = dns("registry: kubernetes\ndns: {listen: \"[::]:5353\", domain: Multi.test, ttl: 30s}");
    assert!(all.unwrap_err().contains("dns.domain: found \"Multi.test\""));
    let all = dns("registry: kubernetes\ndns: {listen: \"[::]:5353\", domain: multi.test, ttl: 30s}").unwrap().unwrap();
    assert_eq!((all.listen.port(), all.domain.as_str(), all.ttl.as_secs()), (5353, "multi.test", 30));
    let plain = dns("registry: kubernetes\ndns: {}").unwrap().unwrap();
    assert_eq!((plain.listen.port(), plain.domain.as_str(), plain.ttl.as_secs()), (53, "clusterset.local", 5));
    let long = format!("registry: kubernetes\ndns: {{domain: {}.local}}", "x".repeat(60));
    for (text, error) in [
        ("dns: {}", "dns: found dns without a registry of Kubernetes, expected registry: kubernetes beside it"),
        ("registry: kubernetes\ndns: {listen: \"0.0.0.0:15008\"}", "which tunnel.listen has"),
        ("registry: kubernetes\ndns: {listen: \"0.0.0.0:20001\"}", "found a range with 20001, which dns.listen has"),
        (&long, "dns.domain"),
    ] {
        let found = dns(text).unwrap_err();
        assert!(found.contains(error), "{text}: {found}");
    }
}
