//! The keys of whose addresses are whose, and of who may use what.

use super::{
    CIDRS, Key,
    LeftOut::{Required, Rule, Text},
    NAMESPACE, SUBDOMAIN, key,
};

pub(super) const KEYS: &[Key] = &[
    key(("sources[]", "cidrs"), CIDRS, Required, "[10.0.1.0/24]", "The addresses. Each network once."),
    key(("sources[]", "namespace"), NAMESPACE, Required, "shop", "The namespace of what has them."),
    key(("sources[]", "serviceAccount"), SUBDOMAIN, Required, "web", "The service account that it acts as."),
    key(("sources[]", "pod"), SUBDOMAIN, Rule("not told"), "web-0", "Which pod it is, for access records."),
    key(
        ("accessPolicies[]", "name"),
        "a DNS subdomain, alone or behind a namespace and /",
        Required,
        "shop-callers",
        "Its name, unique: access records and metrics have it.",
    ),
    key(
        ("accessPolicies[]", "services"),
        "a list of 1 to 1000 of *, namespace/* and namespace/name",
        Required,
        "[shop/api]",
        "What it selects. Of what any policy selects, only what a rule allows may be used.",
    ),
    key(
        ("accessPolicies[]", "ports"),
        "a list of 1 to 1000 ports, each alone or with /tcp or /udp behind it",
        Rule("all ports"),
        "[80, 53/udp]",
        "Which of these services' ports. A number alone is of both protocols.",
    ),
    key(
        ("accessPolicies[]", "dryRun"),
        "true or false",
        Text("false"),
        "true",
        "Whether it only says, in access records and metrics, what it would do.",
    ),
    key(
        ("accessPolicies[]", "rules"),
        "a list of at most 10000 mappings",
        Rule("none: nobody may use what it selects"),
        "[{name: web}]",
        "Whom it allows and denies. What denies counts more than what allows, of all policies together.",
    ),
    key(
        ("accessPolicies[].rules[]", "name"),
        "a DNS label other than default",
        Required,
        "web",
        "Its name, unique in the policy: access records and metrics have `shop-callers:web`.",
    ),
    key(
        ("accessPolicies[].rules[]", "action"),
        "allow or deny",
        Text("allow"),
        "deny",
        "What becomes of streams that it is for.",
    ),
    key(
        ("accessPolicies[].rules[]", "from"),
        "a list of 1 to 100 mappings",
        Rule("everybody"),
        "[{clusters: [west]}]",
        "Which sources it is for: those that any of these fits. What one of these states has to fit as a whole.",
    ),
    key(
        ("accessPolicies[].rules[].from[]", "clusters"),
        "a list of 1 to 1000 cluster ids",
        Rule("any"),
        "[west]",
        "The clusters that they come from; this cluster's own id is for its own clients.",
    ),
    key(
        ("accessPolicies[].rules[].from[]", "namespaces"),
        "a list of 1 to 1000 namespaces",
        Rule("any, or none known"),
        "[shop]",
        "Their namespaces.",
    ),
    key(
        ("accessPolicies[].rules[].from[]", "serviceAccounts"),
        "a list of 1 to 1000 namespace/name",
        Rule("any, or none known"),
        "[shop/web]",
        "Their service accounts.",
    ),
    key(
        ("accessPolicies[].rules[].from[]", "cidrs"),
        CIDRS,
        Rule("any, or none known"),
        "[10.0.1.0/24]",
        "Networks of their addresses, as their own gateway sees them. Clusters may have the same addresses: name them beside it.",
    ),
];
