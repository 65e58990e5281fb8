use crate::config::Config;
use isthmus_control_api::{PodName, Protocol, ServicePort, access::Action};
use serde_json::json;
use std::path::Path;

const HEAD: &str = "clusterset: demo\ncluster: east\nidentity: id\n";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(&format!("{HEAD}{text}"), Path::new("east.yaml")).map_err(|errors| errors.to_string())
}

#[test]
fn a_policy_becomes_typed_values() {
    let text = r"
accessPolicies:
- name: shop-callers
  services: [shop/api, bank/*]
  ports: [80, 53/udp]
  dryRun: true
  rules:
  - name: web
    from:
    - {clusters: [west], serviceAccounts: [shop/web]}
    - {cidrs: [10.0.1.0/24]}
  - {name: nobody, action: deny, from: [{namespaces: [evil]}]}
- {name: closed, services: ['*']}
";
    let config = parse(text).unwrap();
    let policy = &config.policies[&"shop-callers".parse().unwrap()];
    assert!(policy.dry_run && policy.rules[0].from.len() == 2 && policy.rules[1].action == Action::Deny);
    let dns = ServicePort { protocol: Protocol::Udp, ..ServicePort::tcp("bank/dns".parse().unwrap(), 53) };
    assert!(policy.selects(&dns) && !policy.selects(&ServicePort { protocol: Protocol::Tcp, ..dns }));
    assert!(config.policies[&"closed".parse().unwrap()].rules.is_empty());
}

#[test]
fn sources_are_networks_of_workloads() {
    let text = r"
sources:
- {cidrs: [10.0.1.0/24, 10.0.2.9], namespace: shop, serviceAccount: web.v2, pod: web-0}
- {cidrs: [10.0.0.0/8], namespace: other, serviceAccount: default}
";
    let config = parse(text).unwrap();
    assert_eq!(config.sources.len(), 3);
    let web = &config.sources[&"10.0.2.9/32".parse().unwrap()];
    assert_eq!((web.account.as_str(), web.pod.as_ref().map(PodName::as_str)), ("shop/web.v2", Some("web-0")));
}

#[test]
fn what_is_wrong_is_named() {
    for (text, why) in [
        (
            "sources: [{cidrs: [10.0.0.1/8], namespace: a, serviceAccount: b}]",
            "sources[0].cidrs[0]: found \"10.0.0.1/8\", expected",
        ),
        (
            "sources:\n- {cidrs: [10.0.0.1], namespace: a, serviceAccount: b}\n- {cidrs: [10.0.0.1/32], namespace: a, serviceAccount: c}",
            "sources[1].cidrs[0]: found \"10.0.0.1/32\" a second time (first on line 5)",
        ),
        ("accessPolicies: [{services: ['*']}]", "accessPolicies[0].name: found nothing"),
        ("accessPolicies: [{name: a}]", "accessPolicies[0].services: found nothing"),
        ("accessPolicies: [{name: a, services: [shop]}]", "accessPolicies[0].services[0]: found \"shop\", expected"),
        ("accessPolicies: [{name: a, services: ['*'], ports: [http]}]", "accessPolicies[0].ports[0]: found \"http\""),
        ("accessPolicies: [{name: a, services: ['*'], dryRun: yes}]", "dryRun: found \"yes\", expected true or false"),
        (
            "accessPolicies: [{name: a, services: ['*']}, {name: a, services: ['*']}]",
            "accessPolicies[1].name: found \"a\" a second time",
        ),
        (
            "accessPolicies: [{name: a, services: ['*'], rules: [{name: default}]}]",
            "rules[0].name: found \"default\", expected a DNS label other than default",
        ),
        (
            "accessPolicies: [{name: a, services: ['*'], rules: [{name: b}, {name: b}]}]",
            "rules[1].name: found \"b\" a second time",
        ),
        // What looks like nobody must not be everybody.
        ("accessPolicies: [{name: a, services: ['*'], rules: [{name: b, from: []}]}]", "from: found an empty list"),
        (
            "accessPolicies: [{name: a, services: ['*'], rules: [{name: b, from: [{}]}]}]",
            "rules[0].from[0]: found nothing that it is for, expected clusters",
        ),
        (
            "accessPolicies: [{name: a, services: ['*'], rules: [{name: b, from: [{clusters: []}]}]}]",
            "from[0].clusters: found an empty list",
        ),
        (
            "accessPolicies: [{name: a, services: ['*'], rules: [{name: b, from: [{namespace: [c]}]}]}]",
            "from[0].namespace: found an unknown key, expected \"namespaces\"",
        ),
    ] {
        let refused = parse(text).expect_err(text);
        assert!(refused.contains(why), "{text}: {refused}");
    }
}

#[test]
fn a_tree_of_json_is_read_as_the_file_is() {
    let spec = json!({"services": ["shop/*"], "ports": [80], "dryRun": true,
        "rules": [{"name": "web", "action": "deny", "from": [{"clusters": ["west"]}]}]});
    let (name, policy) = super::from_json("shop/callers", &spec).unwrap();
    let text = "accessPolicies: [{name: shop/callers, services: [shop/*], ports: [80], dryRun: true,
        rules: [{name: web, action: deny, from: [{clusters: [west]}]}]}]";
    assert_eq!(*parse(text).unwrap().policies[&name], policy);
    for (spec, why) in [
        (json!({"services": "shop"}), "services: found \"shop\", expected a list"),
        (
            json!({"services": ["*"], "rules": [{"name": "web", "form": 1}]}),
            "rules[0].form: found an unknown key, expected \"from\"",
        ),
        (json!([]), "found an empty list, expected a mapping"),
    ] {
        let errors = super::from_json("a", &spec).unwrap_err();
        assert!(errors[0].to_string().starts_with(why), "{errors:?}");
    }
}
