//! ● What is installed: the chart's templates and the custom resources, which are part of this program.

use super::template::Context;
use serde_json::{Map, Value, json};

/// The chart's templates, in the order in which they are applied.
const TEMPLATES: [(&str, &str); 5] = [
    ("accounts.yaml", include_str!("../../../deploy/chart/templates/accounts.yaml")),
    ("configuration.yaml", include_str!("../../../deploy/chart/templates/configuration.yaml")),
    ("control.yaml", include_str!("../../../deploy/chart/templates/control.yaml")),
    ("gateway.yaml", include_str!("../../../deploy/chart/templates/gateway.yaml")),
    ("network.yaml", include_str!("../../../deploy/chart/templates/network.yaml")),
];

/// The values that count where none are named.
const VALUES: &str = include_str!("../../../deploy/chart/values.yaml");

const CRDS: [(&str, &str); 6] = [
    ("about.k8s.io_clusterproperties.yaml", include_str!("../../../deploy/crds/about.k8s.io_clusterproperties.yaml")),
    ("isthmus.io_accesspolicies.yaml", include_str!("../../../deploy/crds/isthmus.io_accesspolicies.yaml")),
    ("isthmus.io_clusterlinks.yaml", include_str!("../../../deploy/crds/isthmus.io_clusterlinks.yaml")),
    ("isthmus.io_servicepolicies.yaml", include_str!("../../../deploy/crds/isthmus.io_servicepolicies.yaml")),
    (
        "multicluster.x-k8s.io_serviceexports.yaml",
        include_str!("../../../deploy/crds/multicluster.x-k8s.io_serviceexports.yaml"),
    ),
    (
        "multicluster.x-k8s.io_serviceimports.yaml",
        include_str!("../../../deploy/crds/multicluster.x-k8s.io_serviceimports.yaml"),
    ),
];

/// The labels by which the namespace takes none but restricted pods.
const LEVEL: &str = "restricted";

/// The chart's own values with those of `text`, a file called `name`, in their place where it has them.
///
/// # Errors
/// The file is no YAML, or has a key that there is not.
pub(super) fn values(text: Option<(&str, &str)>) -> Result<Value, String> {
    let mut values: Value = serde_saphyr::from_str(VALUES).map_err(|e| format!("values.yaml: {e}"))?;
    if let Some((name, text)) = text {
        let named: Value = serde_saphyr::from_str(text).map_err(|e| format!("{name}: {e}"))?;
        merge(&mut values, named, "").map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(values)
}

/// Sets the value at `path`, as `image.tag`.
pub(super) fn set(values: &mut Value, path: &str, value: Value) {
    let mut at = values;
    for name in path.split('.') {
        at = at
            .as_object_mut()
            .map_or_else(|| unreachable!("a path of values.yaml"), |map| map.entry(name).or_insert(Value::Null));
    }
    *at = value;
}

/// Puts `named` in the place of what `values` has. Maps that are empty there are the user's own, and take any key.
fn merge(values: &mut Value, named: Value, path: &str) -> Result<(), String> {
    let named = match (&*values, named) {
        (Value::Object(known), Value::Object(named)) if !known.is_empty() => named,
        (_, Value::Null) => return Ok(()),
        (known, named) => {
            if std::mem::discriminant(known) != std::mem::discriminant(&named) {
                return Err(format!(
                    "{}: found {named}, expected something like {known}",
                    path.trim_start_matches('.')
                ));
            }
            *values = named;
            return Ok(());
        }
    };
    // Kubernetes says what may stand in a resource list.
    let is_open = path.ends_with(".resources") || path.contains(".resources.");
    let known = values.as_object_mut().ok_or("a mapping")?;
    for (key, value) in named {
        let path = format!("{path}.{key}");
        match known.get_mut(&key) {
            Some(known) => merge(known, value, &path)?,
            None if is_open => drop(known.insert(key, value)),
            None => {
                let keys: Vec<_> = known.keys().map(String::as_str).collect();
                return Err(format!("{}: found an unknown key, expected one of {}", &path[1..], keys.join(", ")));
            }
        }
    }
    Ok(())
}

/// The namespace, which Helm makes by itself.
pub(super) fn namespace(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    app.kubernetes.io/name: isthmus\n    \
         pod-security.kubernetes.io/enforce: {LEVEL}\n    pod-security.kubernetes.io/warn: {LEVEL}\n"
    )
}

/// The custom resources, as texts of YAML.
pub(super) fn crds() -> impl Iterator<Item = &'static str> {
    CRDS.iter().map(|(_, text)| *text)
}

/// Everything else in `namespace`, as texts of YAML of several documents each.
///
/// # Errors
/// A template is wrong.
pub(super) fn rendered(values: &Value, namespace: &str) -> Result<Vec<String>, String> {
    let root = json!({"Values": values, "Release": {"Namespace": namespace}});
    let context = Context { root: &root };
    let render = |(name, text): &(&str, &str)| context.render(text).map_err(|e| format!("{name}: {e}"));
    TEMPLATES.iter().map(render).collect()
}

/// Objects of every kind that may be installed in `namespace`: those without any values.
///
/// # Errors
/// A template is wrong.
pub(super) fn known(namespace: &str) -> Result<Vec<Value>, String> {
    objects(rendered(&values(None)?, namespace)?.iter().map(String::as_str))
}

/// The objects of texts of YAML, in order.
///
/// # Errors
/// One is no YAML, or no object.
pub(super) fn objects<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for text in texts {
        let documents: Vec<Option<Map<String, Value>>> =
            serde_saphyr::from_multiple(text).map_err(|e| format!("a manifest: {e}"))?;
        objects.extend(documents.into_iter().flatten().map(Value::Object));
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    fn deploy(directory: &str) -> BTreeSet<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(directory);
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".yaml")).collect()
    }

    fn kinds(values: &Value) -> Vec<String> {
        let texts = rendered(values, "isthmus-system").unwrap();
        let objects = objects(texts.iter().map(String::as_str)).unwrap();
        let name = |object: &Value| {
            format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
        };
        objects.iter().map(name).collect()
    }

    #[test]
    fn every_file_that_is_shipped_is_part_of_the_program() {
        let names = |list: &[(&str, &str)]| list.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(names(&TEMPLATES), deploy("chart/templates"));
        assert_eq!(names(&CRDS), deploy("crds"));
        assert_eq!(deploy("chart/crds"), deploy("crds"), "the chart's are the same files");
    }

    #[test]
    fn what_can_be_left_out_is_left_out() {
        let all = kinds(&values(None).unwrap());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
        let off = "networkPolicy: {enabled: false}\npodDisruptionBudget: {enabled: false}\ndns: {enabled: false}\n\
                   rbac: {namespaces: [shop, web], invitations: false}";
        let less = kinds(&values(Some(("mine", off))).unwrap());
        let gone: Vec<_> = all.iter().filter(|kind| !less.contains(kind)).map(String::as_str).collect();
        assert_eq!(
            gone,
            [
                "ClusterRoleBinding isthmus-imports",
                "PodDisruptionBudget isthmus-control",
                "Service isthmus-dns",
                "PodDisruptionBudget isthmus-gateway",
                "NetworkPolicy isthmus-gateway",
                "NetworkPolicy isthmus-control"
            ]
        );
        assert_eq!(less.iter().filter(|kind| *kind == "RoleBinding isthmus-imports").count(), 2);
        // What is taken out again when values change is found by its kind.
        let kind = |name: &String| name.split(' ').next().unwrap().to_owned();
        let known: BTreeSet<_> = all.iter().map(kind).collect();
        assert!(less.iter().all(|name| known.contains(&kind(name))), "{less:?}");
    }

    #[test]
    fn values_that_there_are_not_are_refused() {
        let refused = |text: &str| values(Some(("mine.yaml", text))).unwrap_err();
        let error = refused("gateway: {replica: 3}");
        assert!(error.starts_with("mine.yaml: gateway.replica: found an unknown key, expected one of "), "{error}");
        let error = refused("gateway: {replicas: three}");
        assert_eq!(error, "mine.yaml: gateway.replicas: found \"three\", expected something like 2");
        let own =
            "gateway: {nodeSelector: {edge: \"yes\"}, resources: {limits: {cpu: 2}}, service: {annotations: {a: b}}}";
        let values = values(Some(("mine.yaml", own))).unwrap();
        assert_eq!(values["gateway"]["nodeSelector"]["edge"], "yes");
        assert_eq!(values["gateway"]["resources"]["limits"], json!({"cpu": 2, "memory": "1536Mi"}));
    }

    #[test]
    fn the_configurations_are_ones() {
        let mut values = values(None).unwrap();
        set(&mut values, "cluster", json!("west"));
        set(&mut values, "clusterset", json!("demo"));
        let texts = rendered(&values, "mesh").unwrap();
        let objects = objects(texts.iter().map(String::as_str)).unwrap();
        let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        for file in ["control.yaml", "gateway.yaml"] {
            let text = map["data"][file].as_str().unwrap();
            let config =
                isthmus_control::Config::parse(text, Path::new(file)).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(config.cluster.as_str(), "west");
            assert!(config.control.is_some());
        }
    }

    #[test]
    fn gateways_send_spans_where_a_collector_is_named() {
        let traces = |own: &str| gateway_config(own).traces;
        assert_eq!(traces(""), None);
        let found = traces(", traces: {endpoint: \"http://collector.monitoring.svc:4317\", ratio: \"0.5\"}").unwrap();
        assert_eq!(found.endpoint, "http://collector.monitoring.svc:4317");
        assert_eq!(found.per_million, 500_000);
    }

    /// What gateways read, with these values besides.
    fn gateway_config(own: &str) -> isthmus_control::Config {
        let own = format!("{{cluster: west, clusterset: demo{own}}}");
        let texts = rendered(&values(Some(("mine", &own))).unwrap(), "mesh").unwrap();
        let objects = objects(texts.iter().map(String::as_str)).unwrap();
        let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        let text = map["data"]["gateway.yaml"].as_str().unwrap();
        let config = isthmus_control::Config::parse(text, Path::new("gateway.yaml"));
        config.unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    #[test]
    fn gateways_are_measured_unless_that_is_refused() {
        assert!(gateway_config("").measurements);
        assert!(!gateway_config(", gateway: {refuseMeasurements: true}").measurements);
    }

    #[test]
    fn pods_of_gateways_are_replaced_for_other_traces() {
        let template = |traces: &str| {
            let own = format!("{{cluster: west, clusterset: demo, traces: {{{traces}}}}}");
            let texts = rendered(&values(Some(("mine", &own))).unwrap(), "mesh").unwrap();
            let objects = objects(texts.iter().map(String::as_str)).unwrap();
            let is_it =
                |object: &&Value| object["kind"] == "Deployment" && object["metadata"]["name"] == "isthmus-gateway";
            objects.iter().find(is_it).unwrap()["spec"]["template"].clone()
        };
        let some = ["", "endpoint: \"http://a.b.svc:4317\"", "endpoint: \"http://a.b.svc:4317\", ratio: \"0.5\""];
        let [off, on, more] = some.map(template);
        assert_ne!(off, on);
        assert_ne!(on, more);
    }

    #[test]
    fn other_systems_and_external_dns_are_asked_for_together_with_their_rights() {
        let own = "{cluster: west, clusterset: demo, compat: [linkerd, skupper], externalDns: {enabled: true}}";
        let texts = rendered(&values(Some(("mine", own))).unwrap(), "mesh").unwrap();
        let objects = objects(texts.iter().map(String::as_str)).unwrap();
        let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        let text = map["data"]["control.yaml"].as_str().unwrap();
        let config = isthmus_control::Config::parse(text, Path::new("control.yaml")).unwrap_or_else(|e| panic!("{e}"));
        let kubernetes = config.kubernetes.unwrap();
        assert_eq!(kubernetes.compat.len(), 2);
        assert_eq!(kubernetes.external_dns.unwrap().service, "isthmus-gateway");
        let plain = rights(&rendered(&values(None).unwrap(), "mesh").unwrap()[0]);
        let more: BTreeSet<_> = rights(&texts[0]).difference(&plain).cloned().collect();
        assert_eq!(more, rights(include_str!("../../../deploy/rbac-compat.yaml")));
    }

    #[test]
    fn pods_are_watched_where_that_is_asked_for() {
        let own = "{cluster: west, clusterset: demo, podIdentity: true}";
        let texts = rendered(&values(Some(("mine", own))).unwrap(), "mesh").unwrap();
        let objects = objects(texts.iter().map(String::as_str)).unwrap();
        let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        let text = map["data"]["control.yaml"].as_str().unwrap();
        let config = isthmus_control::Config::parse(text, Path::new("control.yaml")).unwrap_or_else(|e| panic!("{e}"));
        assert!(config.kubernetes.unwrap().pod_identity);
        let plain = rights(&rendered(&values(None).unwrap(), "mesh").unwrap()[0]);
        let more: BTreeSet<_> = rights(&texts[0]).difference(&plain).cloned().collect();
        assert_eq!(more, rights(include_str!("../../../deploy/rbac-pods.yaml")));
    }

    #[test]
    fn gateways_are_privileged_only_where_something_in_the_kernel_is_asked_for() {
        let container = |own: &str| {
            let texts = rendered(&values(Some(("mine", own))).unwrap(), "mesh").unwrap();
            let objects = objects(texts.iter().map(String::as_str)).unwrap();
            let is_it =
                |object: &&Value| object["kind"] == "Deployment" && object["metadata"]["name"] == "isthmus-gateway";
            let gateway = objects.iter().find(is_it).unwrap().clone();
            gateway["spec"]["template"]["spec"].clone()
        };
        let plain = container("{cluster: west, clusterset: demo}");
        let drops_all = serde_json::json!({"drop": ["ALL"]});
        assert_eq!(plain["containers"][0]["securityContext"]["capabilities"], drops_all);
        assert!(!plain.to_string().contains("hostPath"));
        let hop = container("{cluster: west, clusterset: demo, gateway: {localHop: true}}");
        let context = &hop["containers"][0]["securityContext"];
        assert_eq!(context["capabilities"]["add"], serde_json::json!(["BPF", "NET_ADMIN", "PERFMON"]));
        assert_eq!((&context["runAsUser"], &context["allowPrivilegeEscalation"]), (&0.into(), &false.into()));
        assert!(hop["volumes"].to_string().contains("/sys/fs/cgroup"));
        let shared = container("{cluster: west, clusterset: demo, gateway: {sharedListener: true}}");
        let context = &shared["containers"][0]["securityContext"];
        assert_eq!(context["capabilities"]["add"], serde_json::json!(["BPF", "NET_ADMIN"]));
        assert_eq!((&context["runAsUser"], &context["allowPrivilegeEscalation"]), (&0.into(), &false.into()));
        assert!(!shared.to_string().contains("hostPath"));
    }

    /// A gateway waits for its SVID, and for no revocation list.
    #[test]
    fn gateways_mount_what_their_ca_has_revoked_once_it_has() {
        let own = "{cluster: west, clusterset: demo}";
        let texts = rendered(&values(Some(("mine", own))).unwrap(), "mesh").unwrap();
        let objects = objects(texts.iter().map(String::as_str)).unwrap();
        let is_it = |object: &&Value| object["kind"] == "Deployment" && object["metadata"]["name"] == "isthmus-gateway";
        let volumes = &objects.iter().find(is_it).unwrap()["spec"]["template"]["spec"]["volumes"];
        let identity = volumes.as_array().unwrap().iter().find(|volume| volume["name"] == "identity").unwrap();
        let keys = |wanted: bool| -> Vec<_> {
            let sources = identity["projected"]["sources"].as_array().unwrap().iter().map(|source| &source["secret"]);
            let sources = sources.filter(|secret| secret["optional"].as_bool().unwrap_or(false) != wanted);
            let items = sources.flat_map(|secret| secret["items"].as_array().unwrap());
            items.map(|item| (item["key"].as_str().unwrap(), item["path"].as_str().unwrap())).collect()
        };
        assert_eq!(keys(true), ["ca.pem", "svid.pem", "svid.key"].map(|key| (key, key)));
        assert_eq!(keys(false), [("crl.pem", "crl.pem")]);
    }

    /// Every right that roles and cluster roles of `text` give: where, what and what of it.
    fn rights(text: &str) -> BTreeSet<[String; 5]> {
        let mut rights = BTreeSet::new();
        for object in objects([text]).unwrap() {
            let list = |value: &Value| -> Vec<String> {
                value.as_array().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
            };
            for rule in object["rules"].as_array().into_iter().flatten() {
                let names = list(&rule["resourceNames"]).join(" ");
                for (group, resource) in list(&rule["apiGroups"]).iter().flat_map(|group| {
                    list(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource))
                }) {
                    let kind = object["kind"].as_str().unwrap().to_owned();
                    let right = |verb| [kind.clone(), group.clone(), resource.clone(), verb, names.clone()];
                    rights.extend(list(&rule["verbs"]).into_iter().map(right));
                }
            }
        }
        rights
    }

    #[test]
    fn one_process_may_do_the_same_but_for_secrets_and_links() {
        let texts = rendered(&values(None).unwrap(), "isthmus-system").unwrap();
        let (installed, alone) = (rights(&texts[0]), rights(include_str!("../../../deploy/rbac.yaml")));
        let missing: Vec<_> = alone.difference(&installed).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let more = installed.difference(&alone).filter(|[_, _, resource, ..]| resource != "secrets");
        let more: Vec<_> = more.map(|right| right[2..4].join(" ")).collect();
        assert_eq!(more, ["clusterlinks create", "clusterlinks patch"]);
    }
}
