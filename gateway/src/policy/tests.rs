//! Against a naive reading of docs/policy.md: rule by rule, policy by policy.

use super::*;
use isthmus_control_api::{
    Protocol,
    access::{self, RuleName},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

type Table = BTreeMap<PolicyName, Arc<AccessPolicy>>;

/// What the rules say.
fn naive(table: &Table, caller: &Caller<'_>, service: &ServicePort, with_dry_runs: bool) -> (bool, Option<String>) {
    let selecting: Vec<_> =
        table.iter().filter(|(_, policy)| (with_dry_runs || !policy.dry_run) && policy.selects(service)).collect();
    let Some((first, _)) = selecting.first() else { return (true, None) };
    for action in [Action::Deny, Action::Allow] {
        for (name, policy) in &selecting {
            let rule = policy.rules.iter().find(|rule| rule.action == action && is_for(rule, caller));
            if let Some(rule) = rule {
                return (action == Action::Allow, Some(format!("{name}:{}", rule.name)));
            }
        }
    }
    (false, Some(format!("{first}:default")))
}

fn is_for(rule: &access::Rule, caller: &Caller<'_>) -> bool {
    let account = caller.account.map(|account| {
        let name = account.path.rsplit('/').next().unwrap();
        (account.namespace, format!("{}/{name}", account.namespace))
    });
    let fits = |from: &SourceMatch| {
        (from.clusters.is_empty() || from.clusters.contains(caller.cluster))
            && (from.namespaces.is_empty()
                || account.as_ref().is_some_and(|(namespace, _)| from.namespaces.iter().any(|of| &**of == *namespace)))
            && (from.service_accounts.is_empty()
                || account.as_ref().is_some_and(|(_, name)| from.service_accounts.iter().any(|of| of.as_str() == name)))
            && (from.cidrs.is_empty()
                || caller.address.is_some_and(|address| from.cidrs.iter().any(|cidr| cidr.contains(address))))
    };
    rule.from.is_empty() || rule.from.iter().any(fits)
}

fn texts<T: std::str::FromStr + Ord + std::fmt::Debug>(
    of: &'static [&'static str],
) -> impl Strategy<Value = BTreeSet<T>>
where
    T::Err: std::fmt::Debug,
{
    prop_oneof![2 => Just(Vec::new()), 3 => vec(select(of), 1..3)]
        .prop_map(|texts| texts.into_iter().map(|text| text.parse().unwrap()).collect())
}

fn choices() -> impl Strategy<Value = SourceMatch> {
    let namespaces = texts::<ClusterName>(&["shop", "bank"]);
    let networks = texts(&["10.0.0.0/8", "10.0.1.0/24", "10.0.1.9", "2001:db8::/32", "0.0.0.0/0"]);
    (texts(&["west", "east", "north"]), namespaces, texts(&["shop/web", "shop/job", "bank/web"]), networks).prop_map(
        |(clusters, namespaces, service_accounts, cidrs)| SourceMatch {
            clusters,
            namespaces: namespaces.iter().map(|name| name.as_str().into()).collect(),
            service_accounts,
            cidrs,
        },
    )
}

fn policies() -> impl Strategy<Value = Arc<AccessPolicy>> {
    let rule = (any::<bool>(), vec(choices().prop_filter("something", |from| !from.is_empty()), 0..3));
    let services = vec(select(&["*", "shop/*", "shop/api", "bank/api"][..]), 1..3);
    (services, texts(&["80", "53", "53/udp", "80/tcp"]), any::<bool>(), vec(rule, 0..5)).prop_map(
        |(services, ports, dry_run, rules)| {
            let rules = rules.into_iter().enumerate().map(|(number, (allows, from))| access::Rule {
                name: format!("r{number}").parse::<RuleName>().unwrap(),
                action: if allows { Action::Allow } else { Action::Deny },
                from,
            });
            let services = services.into_iter().map(|text| text.parse().unwrap()).collect();
            Arc::new(AccessPolicy { services, ports, dry_run, rules: rules.collect() })
        },
    )
}

fn ids() -> impl Strategy<Value = SpiffeId> {
    let paths = [
        "/ns/shop/sa/web",
        "/ns/shop/sa/job",
        "/ns/bank/sa/web",
        "/ns/other/sa/web",
        "/ns/isthmus-system/sa/gateway",
        "/ns/shop",
        "/ns/shop/sa/web/more",
        "/something/else",
    ];
    select(paths.to_vec()).prop_map(|path| format!("spiffe://west.demo{path}").parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_decision_is_what_the_rules_say(
        table in vec(policies(), 0..6),
        (cluster, id) in (select(&["west", "east", "north", "south"][..]), ids()),
        address in option::of(select(&["10.0.1.9", "10.0.1.8", "10.9.0.1", "192.0.2.1", "::ffff:10.0.1.9", "2001:db8::1"][..])),
        shares: bool,
        (name, port, udp) in (select(&["shop/api", "shop/db", "bank/api"][..]), select(&[80u16, 53][..]), any::<bool>()),
    ) {
        let table: Table = table.into_iter().enumerate().map(|(n, policy)| (format!("p{n}").parse().unwrap(), policy)).collect();
        let policies = Policies::sharing(&table, if shares { 1 } else { SHARED });
        let cluster = cluster.parse().unwrap();
        let caller = Caller::new(&cluster, &id, address.map(|address| address.parse().unwrap()));
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let service = ServicePort { service: name.parse().unwrap(), port, protocol };
        let decision = policies.decide(&caller, &service);
        let (allowed, by) = naive(&table, &caller, &service, false);
        let (would, who) = naive(&table, &caller, &service, true);
        prop_assert_eq!((decision.allowed, decision.by.map(ToString::to_string)), (allowed, by));
        prop_assert_eq!(decision.otherwise.map(ToString::to_string), who.filter(|_| would != allowed));
    }
}

fn table(policies: &[(&str, AccessPolicy)]) -> Table {
    policies.iter().map(|(name, policy)| (name.parse().unwrap(), Arc::new(policy.clone()))).collect()
}

fn rule(name: &str, action: Action, from: &[SourceMatch]) -> access::Rule {
    access::Rule { name: name.parse().unwrap(), action, from: from.to_vec() }
}

fn policy(services: &str, rules: &[access::Rule]) -> AccessPolicy {
    AccessPolicy { services: [services.parse().unwrap()].into(), rules: rules.to_vec(), ..AccessPolicy::default() }
}

fn decided(table: &Table, id: &str) -> (bool, Option<String>, Option<String>) {
    let (policies, cluster) = (Policies::new(table), "west".parse().unwrap());
    let id = id.parse().unwrap();
    let decision =
        policies.decide(&Caller::new(&cluster, &id, None), &ServicePort::tcp("shop/api".parse().unwrap(), 80));
    (decision.allowed, decision.by.map(ToString::to_string), decision.otherwise.map(ToString::to_string))
}

const WEB: &str = "spiffe://west.demo/ns/shop/sa/web";
const UNKNOWN: &str = "spiffe://west.demo/ns/isthmus-system/sa/gateway";

#[test]
fn what_nothing_selects_is_open_and_what_something_selects_is_closed() {
    assert_eq!(decided(&table(&[]), WEB), (true, None, None));
    assert_eq!(decided(&table(&[("a", policy("shop/db", &[]))]), WEB), (true, None, None));
    assert_eq!(decided(&table(&[("a", policy("shop/*", &[]))]), WEB), (false, Some("a:default".into()), None));
}

#[test]
fn one_that_denies_counts_more_than_one_that_allows() {
    let web = SourceMatch { service_accounts: ["shop/web".parse().unwrap()].into(), ..SourceMatch::default() };
    let all = table(&[
        ("a", policy("shop/api", &[rule("all", Action::Allow, &[])])),
        ("b", policy("*", &[rule("web", Action::Deny, &[web])])),
    ]);
    assert_eq!(decided(&all, WEB), (false, Some("b:web".into()), None));
    assert_eq!(decided(&all, "spiffe://west.demo/ns/shop/sa/job"), (true, Some("a:all".into()), None));
}

#[test]
fn a_dry_run_says_what_it_would_do() {
    let dry = AccessPolicy { dry_run: true, ..policy("shop/api", &[]) };
    assert_eq!(decided(&table(&[("a", dry)]), WEB), (true, None, Some("a:default".into())));
}

#[test]
fn a_gateway_that_knows_nothing_of_its_client_is_in_no_namespace() {
    let system = SourceMatch { namespaces: ["isthmus-system".into()].into(), ..SourceMatch::default() };
    let all = table(&[("a", policy("*", &[rule("system", Action::Allow, &[system])]))]);
    assert_eq!(decided(&all, UNKNOWN), (false, Some("a:default".into()), None));
}

#[test]
fn many_rules_for_many_services_are_kept_once() {
    let rules: Vec<_> = (0..100)
        .map(|n| {
            let accounts = [format!("shop/a{n}").parse().unwrap()].into();
            rule(
                &format!("r{n}"),
                Action::Allow,
                &[SourceMatch { service_accounts: accounts, ..SourceMatch::default() }],
            )
        })
        .collect();
    let services =
        (0..100).map(|n| format!("shop/s{n}").parse().unwrap()).chain(["shop/api".parse().unwrap()]).collect();
    let wide = AccessPolicy { services, rules, ..AccessPolicy::default() };
    let all = table(&[("wide", wide), ("z", policy("shop/api", &[rule("all", Action::Allow, &[])]))]);
    assert_eq!(Policies::new(&all).groups.len(), 2);
    assert_eq!(decided(&all, "spiffe://west.demo/ns/shop/sa/a7"), (true, Some("wide:r7".into()), None));
    assert_eq!(decided(&all, WEB), (true, Some("z:all".into()), None));
}
