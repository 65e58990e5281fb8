//! ● ServiceImports.

use super::{
    Problem, ServicePlan, World,
    conditions::Conditions,
    derivation::is_derived,
    derived::{addresses, affinity_config, given_families},
    endpoints::family,
    here::Here,
    marks::{MANAGED_BY, MANAGER},
    merge::{MergedPort, affinity_name, policy_name},
    ports::{SCTP, protocol, sctp_number},
};
use crate::api::mcs::{
    ClusterStatus, DERIVED_SERVICE, ImportPort, ImportType, SOURCE_CLUSTER, ServiceImport, ServiceImportSpec,
    ServiceImportStatus,
};
use isthmus_control::exchange::summary::{Family, Member, Port, PortSummary, Summary, bounds::MAX_MEMBERS};
use isthmus_control_api::ClusterName;
use kube::ResourceExt as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What an import is called where it owns something.
pub(super) const KIND: &str = "ServiceImport";
/// On a derived Service that stands for one endpoint: its key.
pub(super) const MEMBER: &str = "isthmus.io/member";
/// On the same, where the key is the endpoint's host name.
pub(super) const HOSTNAME: &str = "isthmus.io/hostname";

/// The import, without its status.
pub(super) fn wanted(here: &Here<'_>) -> ServiceImport {
    let from = &here.merged.from;
    let texts = |of: &BTreeMap<Arc<str>, Arc<str>>| -> BTreeMap<String, String> {
        let others = of.iter().filter(|(key, _)| !is_reserved(key));
        others.map(|(k, v)| ((**k).to_owned(), (**v).to_owned())).collect()
    };
    let (mut labels, mut annotations) = (texts(&from.labels), texts(&from.annotations));
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    annotations.insert(DERIVED_SERVICE.into(), (*here.derived.name).to_owned());
    let port = |number: u16, protocol: &str, of: &MergedPort| ImportPort {
        name: of.name.as_deref().map(str::to_owned),
        protocol: Some(protocol.into()),
        app_protocol: of.app_protocol.as_deref().map(str::to_owned),
        port: number.into(),
    };
    let carried = here.merged.ports.iter().map(|(key, of)| port(key.number, key.protocol.as_str(), of));
    let sctp = here.merged.sctp.iter().map(|(number, of)| port(*number, SCTP, of));
    let (ips, ip_families) = ips(here);
    let spec = ServiceImportSpec {
        ports: carried.chain(sctp).collect(),
        ips,
        type_: if from.headless { ImportType::Headless } else { ImportType::ClusterSetIP },
        session_affinity: Some(affinity_name(from).into()),
        session_affinity_config: affinity_config(from),
        ip_families,
        internal_traffic_policy: Some(policy_name(from).into()),
        traffic_distribution: from.traffic_distribution.as_deref().map(str::to_owned),
    };
    let mut import = ServiceImport::new(&here.key.name, spec);
    import.metadata.namespace = Some((*here.key.namespace).to_owned());
    import.metadata.labels = Some(labels);
    import.metadata.annotations = Some(annotations);
    import
}

/// Whether a key means something to this cluster itself, or to kubectl: no other cluster is to say it here.
pub(super) fn is_reserved(key: &str) -> bool {
    key.starts_with("isthmus.io/") || key.starts_with("kubectl.kubernetes.io/")
}

/// The addresses of the derived Service, and their families; until it has any, those that the import has.
fn ips(here: &Here<'_>) -> (Vec<String>, Vec<String>) {
    let known = here.import.map(|import| &import.spec);
    let known_families = || known.map(|spec| spec.ip_families.clone()).filter(|families| !families.is_empty());
    let names = |of: &[Family]| of.iter().map(|family| family.as_str().to_owned()).collect::<Vec<_>>();
    let given = here.observed.map(given_families).filter(|families| !families.is_empty());
    let said = || Some(&here.merged.families).filter(|families| !families.is_empty()).map(|families| names(families));
    let families = given.map(|families| names(&families)).or_else(known_families).or_else(said);
    let families = families.unwrap_or_else(|| names(&[Family::V4]));
    if here.merged.from.headless {
        return (Vec::new(), families);
    }
    let ips = here.observed.map(addresses).filter(|ips| !ips.is_empty());
    (ips.or_else(|| known.map(|spec| spec.ips.clone())).unwrap_or_default(), families)
}

/// The import's status. `given` are the ports that have one of the gateway's.
pub(super) fn status(
    here: &Here<'_>,
    import: &ServiceImport,
    given: &BTreeMap<Port, u16>,
    plan: &ServicePlan,
) -> ServiceImportStatus {
    let status = here.import.and_then(|import| import.status.as_ref());
    let known = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let generation = here.import.and_then(|import| import.metadata.generation);
    let make = Conditions { known, generation, now: here.cx.now };
    let lacks = |is: fn(&Problem) -> bool| -> Option<String> {
        let said: Vec<_> = plan.problems.iter().filter(|problem| is(problem)).map(ToString::to_string).collect();
        (!said.is_empty()).then(|| said.join("; "))
    };
    let not_carried = match here.merged.sctp.keys().copied().collect::<Vec<_>>() {
        ports if ports.is_empty() => String::new(),
        ports => Problem::NotCarried { ports }.to_string(),
    };
    let ready = if let Some(said) = lacks(|problem| matches!(problem, Problem::NoPort { .. })) {
        make.make("Ready", false, "NoGatewayPort", said)
    } else if let Some(said) = lacks(|problem| matches!(problem, Problem::OverQuota { .. })) {
        make.make("Ready", false, "QuotaExceeded", said)
    } else if here.merged.ports.is_empty() && !here.merged.sctp.is_empty() {
        make.make("Ready", false, "NotCarried", not_carried)
    } else if here.merged.from.headless || !import.spec.ips.is_empty() && !given.is_empty() {
        make.make("Ready", true, "Ready", not_carried)
    } else {
        make.make("Ready", false, "Pending", "it has no address yet")
    };
    let clusters = here.constituents.keys().map(|cluster| ClusterStatus { cluster: cluster.to_string() }).collect();
    let slices = if plan.slices.is_empty() { "Absent" } else { "Present" };
    ServiceImportStatus { endpoint_slice_objects: Some(slices.into()), clusters, conditions: vec![ready] }
}

/// What an import says, as if one of its clusters said it: older than what any other says.
pub(super) fn as_summary(world: &World, import: &ServiceImport, cluster: &ClusterName) -> Summary {
    let ServiceImportSpec { ports, type_, session_affinity_config, ip_families, .. } = &import.spec;
    let text = |text: &Option<String>| text.as_deref().map(Arc::from);
    let said =
        |port: &ImportPort| PortSummary { name: text(&port.name), app_protocol: text(&port.app_protocol), ready: 0 };
    let port = |port: &ImportPort| {
        let key = Port { number: u16::try_from(port.port).ok()?, protocol: protocol(port.protocol.as_deref())? };
        Some((key, said(port)))
    };
    let sctp = |port: &ImportPort| Some((sctp_number(port.port, port.protocol.as_deref())?, said(port)));
    let client_ip = session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = client_ip.and_then(|config| config.timeout_seconds).and_then(|seconds| u32::try_from(seconds).ok());
    let texts = |of: &BTreeMap<String, String>, ours: &str| -> BTreeMap<Arc<str>, Arc<str>> {
        let others = of.iter().filter(|(key, _)| *key != ours);
        others.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
    };
    Summary {
        since: 0,
        headless: *type_ == ImportType::Headless,
        ports: ports.iter().filter_map(port).collect(),
        sctp: ports.iter().filter_map(sctp).collect(),
        zones: BTreeMap::new(),
        affinity: seconds.filter(|_| import.spec.session_affinity.as_deref() == Some("ClientIP")),
        node_local: import.spec.internal_traffic_policy.as_deref() == Some("Local"),
        traffic_distribution: text(&import.spec.traffic_distribution),
        families: ip_families.iter().filter_map(|name| family(name)).collect(),
        labels: texts(import.labels(), MANAGED_BY),
        annotations: texts(import.annotations(), DERIVED_SERVICE),
        members: members(world, import, cluster),
    }
}

/// The endpoints of a headless service that a cluster had, by the Services that stand for them.
fn members(world: &World, import: &ServiceImport, cluster: &ClusterName) -> BTreeSet<Member> {
    let key = super::ObjectKey::of(import);
    let services = world.services.of_service(&key).map(|(_, service)| service);
    let of = services.filter(|service| service.labels().get(SOURCE_CLUSTER).is_some_and(|of| of == cluster.as_str()));
    let member = |key: &String, labels: &BTreeMap<String, String>| Member {
        key: key.as_str().into(),
        is_hostname: labels.get(HOSTNAME).is_some_and(|is| is == "true"),
    };
    let members = of.filter(|service| is_derived(world, service));
    members
        .filter_map(|service| Some(member(service.labels().get(MEMBER)?, service.labels())))
        .take(MAX_MEMBERS)
        .collect()
}
