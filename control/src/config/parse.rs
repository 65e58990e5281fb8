//! From the tree to [`Config`]: every section read, and what the sections must not do to each other.

use super::{
    Config, Console, ControlAt, Dns, ExternalDns, Kubernetes, Limits, MOST_LINKS, System, Tunnel, Udp, access,
    compat::KNOWN,
    error::Position,
    fields::{Fields, Once, again, parsed},
    imports,
    node::{Node, Value},
    policy,
    schema::{ENDPOINT, HOST, NAME},
    traces,
    values::{self, EndpointText},
};
use crate::{MAX_SERVICE_PORTS, registry::DesiredLink};
use isthmus_control_api::{ClusterName, Endpoint, Export, Link, Listen, PeerAddress, Protocol, Relaying, ServicePort};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

/// Reads the whole file; `None` if something that is needed is wrong, and so noted.
pub(super) fn config(top: &Fields<'_>, path: &Path) -> Option<Config> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut listeners = Listeners::default();
    let cluster = top.value("cluster", parsed::<ClusterName>);
    let clusterset = top.value("clusterset", parsed);
    let (identity, bundles) = (top.value("identity", directory_name), top.value("bundles", directory_name));
    let tunnel = tunnel(top, &mut listeners);
    let admin = top.value("admin", values::listen);
    if let Some(admin) = admin {
        listeners.claim(Listen::tcp(admin), top, "admin");
    }
    let (limits, udp, console) = (limits(top), udp(top), console(top, directory));
    let dns = dns(top, &mut listeners);
    let control = control(top, &mut listeners);
    let links = links(top, cluster.as_ref());
    let relay = relay(top);
    let exports = exports(top);
    let imports = imports::read(top, &mut listeners, cluster.as_ref());
    let (sources, policies) = (access::sources(top), access::policies(top));
    let kubernetes = kubernetes(top, directory, &listeners);
    if dns.is_some() && kubernetes.is_none() {
        top.conflict("dns", "dns without a registry of Kubernetes".into(), "registry: kubernetes beside it");
    }
    let state = top.value("state", directory_name);
    let access_log = top.value("accessLog", values::access_log);
    let traces = traces::read(top, directory);
    let drain = top.value("drain", values::duration);
    let cores = top.value("cores", values::cores);
    let busy_poll = top.value("busyPoll", values::auto_switch);
    let shared_listener = top.value("sharedListener", values::switch);
    let transparent_sources = policy::networks(top, "transparentSources");
    let measurements = top.value("measurements", values::switch);
    let (zone, node) = (top.value("zone", values::place), top.value("node", values::place));
    let cluster = cluster?;
    let state = state.unwrap_or_else(|| format!("{cluster}-state"));
    Some(Config {
        path: path.into(),
        clusterset: clusterset?,
        identity: directory.join(identity?),
        bundles: bundles.map(|bundles| directory.join(bundles)),
        tunnel: tunnel?,
        admin: admin?,
        console: console?,
        state: directory.join(state),
        access_log: access_log?.within(directory),
        traces,
        drain: drain?,
        cores: cores?,
        busy_poll: busy_poll?,
        shared_listener: shared_listener?,
        transparent_sources,
        measurements: measurements?,
        zone,
        node,
        limits: limits?,
        udp: udp?,
        kubernetes,
        dns,
        control,
        links,
        relay: relay?,
        exports,
        imports,
        sources,
        policies,
        cluster,
    })
}

/// A path as it is written.
pub(super) fn directory_name(text: &str) -> Result<String, super::fields::Refused> {
    if text.is_empty() { Err(super::fields::Refused(None)) } else { Ok(text.into()) }
}

fn tunnel(top: &Fields<'_>, listeners: &mut Listeners) -> Option<Tunnel> {
    let fields = top.mapping_or_empty("tunnel")?;
    let listen = fields.value("listen", values::listen)?;
    listeners.claim_both(listen, &fields, "listen");
    let advertise = fields.scalars("advertise", 0..=16, "host:port", parsed);
    Some(Tunnel { listen, advertise: advertise.into_iter().map(|address| address.value).collect() })
}

fn limits(top: &Fields<'_>) -> Option<Limits> {
    let fields = top.mapping_or_empty("limits")?;
    // Each is read before the first that is wrong ends this: all that is wrong is to be noted.
    let (memory, connections) = (fields.value("memory", values::size), fields.value("connections", values::count));
    let (streams, handshakes) =
        (fields.value("streamsPerPeer", values::count), fields.value("handshakes", values::count));
    let handshake_timeout = fields.value("handshakeTimeout", values::duration);
    let connect_timeout = fields.value("connectTimeout", values::duration);
    let udp_flows = fields.value("udpFlows", values::count);
    Some(Limits {
        memory: memory?,
        connections: connections?,
        streams_per_peer: streams?,
        handshakes: handshakes?,
        handshake_timeout: handshake_timeout?,
        connect_timeout: connect_timeout?,
        udp_flows: udp_flows?,
    })
}

fn console(top: &Fields<'_>, directory: &Path) -> Option<Console> {
    let fields = top.mapping_or_empty("console")?;
    let token_file = fields.value("tokenFile", directory_name);
    Some(Console { token_file: token_file.map(|file| directory.join(file)) })
}

fn udp(top: &Fields<'_>) -> Option<Udp> {
    let fields = top.mapping_or_empty("udp")?;
    Some(Udp { idle_timeout: fields.value("idleTimeout", values::duration)? })
}

/// `None` where there is to be none, or where something is wrong with it.
fn dns(top: &Fields<'_>, listeners: &mut Listeners) -> Option<Dns> {
    if !top.has("dns") {
        return None;
    }
    let fields = top.mapping_or_empty("dns")?;
    let listen = fields.value("listen", values::listen);
    if let Some(listen) = listen {
        listeners.claim_both(listen, &fields, "listen");
    }
    let (domain, ttl) = (fields.value("domain", values::domain), fields.value("ttl", values::duration));
    Some(Dns { listen: listen?, domain: domain?, ttl: ttl? })
}

/// `None` where the file is the registry, or where something is wrong with it.
fn kubernetes(top: &Fields<'_>, directory: &Path, listeners: &Listeners) -> Option<Kubernetes> {
    let fields = if top.has_mapping("registry") {
        top.mapping_or_empty("registry")?.mapping_of("kubernetes", "registry.kubernetes")?
    } else {
        let is_kubernetes = top.value("registry", values::registry)?;
        is_kubernetes.then(|| top.empty("registry", "registry.kubernetes"))?
    };
    if top.has_items("exports") {
        top.conflict("exports", "exports beside registry: kubernetes".into(), "ServiceExports in the cluster itself");
    }
    let ports = fields.value("ports", values::ports);
    if let Some((port, by)) = ports.clone().and_then(|ports| listeners.within(&ports)) {
        fields.conflict("ports", format!("a range with {port}, which {by} has"), "ports that nothing else listens on");
    }
    if fields.has("context") && !fields.has("kubeconfig") {
        fields.conflict("context", "a context without kubeconfig".into(), "the kubeconfig that has it");
    }
    Some(Kubernetes {
        kubeconfig: fields.value("kubeconfig", directory_name).map(|path| directory.join(path)),
        context: fields.value("context", values::short),
        namespace: fields.value("namespace", parsed::<ClusterName>)?.into(),
        gateway_selector: fields.value("gatewaySelector", values::short)?,
        ports: ports?,
        ports_per_cluster: fields.value("portsPerCluster", values::count)?,
        addresses_per_cluster: fields.value("addressesPerCluster", values::count)?,
        ca_secret: fields.value("caSecret", values::short),
        pod_identity: fields.value("podIdentity", parsed::<bool>)?,
        compat: fields.scalars("compat", 1..=System::ALL.len(), KNOWN, parsed).into_iter().map(|at| at.value).collect(),
        external_dns: if fields.has("externalDns") { external_dns(&fields) } else { None },
    })
}

fn external_dns(fields: &Fields<'_>) -> Option<ExternalDns> {
    let fields = fields.mapping_of("externalDns", "registry.kubernetes.externalDns")?;
    let addresses = fields.scalars("addresses", 1..=64, HOST, values::host);
    Some(ExternalDns {
        service: fields.value("service", parsed::<ClusterName>)?.into(),
        addresses: addresses.into_iter().map(|at| at.value).collect(),
    })
}

fn control(top: &Fields<'_>, listeners: &mut Listeners) -> Option<ControlAt> {
    let fields = top.mapping_or_empty("control")?;
    let listen = fields.value("listen", values::listen);
    let address = fields.value("address", parsed::<PeerAddress>);
    if let (true, true) = (fields.has("listen"), fields.has("address")) {
        fields.conflict("address", "an address beside listen".into(), "listen for a control, or address for a gateway");
    }
    if let Some(listen) = listen {
        listeners.claim(Listen::tcp(listen), &fields, "listen");
        let joins = fields.value("joins", values::listen);
        if let Some(joins) = joins {
            listeners.claim(Listen::tcp(joins), &fields, "joins");
        }
        return Some(ControlAt::Listen { gateways: listen, joins });
    }
    let joins = fields.value("joins", parsed::<PeerAddress>);
    // What a gateway is told by control it cannot have from its own file, too.
    if fields.has("address") {
        for key in ["links", "relay", "registry", "dns", "exports", "imports", "sources", "accessPolicies"]
            .into_iter()
            .filter(|key| top.has(key))
        {
            let found = format!("{key} of a gateway that has control.address");
            top.conflict(key, found, "them in the configuration of its control, which tells its gateways");
        }
    }
    address.map(|control| ControlAt::Address { control, joins })
}

fn links(top: &Fields<'_>, own: Option<&ClusterName>) -> BTreeMap<ClusterName, DesiredLink> {
    let mut once = Once::new();
    let mut links = BTreeMap::new();
    for fields in top.mappings("links", "links[]", 0..=MOST_LINKS) {
        let Some((cluster, link)) = link(&fields) else { continue };
        if let Some(own) = own.filter(|own| link.link.relay.as_ref() == Some(*own)) {
            fields.conflict("relay", format!("\"{own}\", which is this cluster"), "a third cluster's id");
        }
        if Some(&cluster) == own {
            fields.conflict("cluster", format!("\"{cluster}\", which is this cluster"), "another cluster's id");
        } else if let Some(first) = once.seen_before(cluster.clone(), fields.at_of("cluster")) {
            fields.conflict("cluster", again(&cluster, first), "one link a cluster");
        } else {
            links.insert(cluster, link);
        }
    }
    links
}

/// Reads one link; `None` if something that is needed is wrong, and so noted.
pub(super) fn link(fields: &Fields<'_>) -> Option<(ClusterName, DesiredLink)> {
    let cluster = fields.value("cluster", parsed::<ClusterName>);
    let endpoints = fields.scalars("endpoints", 1..=16, "host:port, port 1 to 65535", parsed::<PeerAddress>);
    let endpoints = endpoints.into_iter().map(|endpoint| endpoint.value).collect();
    let transport = fields.value("transport", values::transport);
    let relay = fields.value("relay", parsed::<ClusterName>);
    if relay.is_some() && relay == cluster {
        fields.conflict(
            "relay",
            format!("\"{}\", which is the peer itself", cluster.as_ref()?),
            "a third cluster's id",
        );
    }
    let services = fields.scalars("services", 1..=1000, "namespace/name:port", values::service_port);
    let services = services.into_iter().map(|service| service.value).collect();
    Some((
        cluster?,
        DesiredLink {
            link: Link {
                endpoints,
                transport: transport?,
                relay,
                limits: policy::limits_of_link(fields),
                ..Link::default()
            },
            services: Arc::new(services),
            ..DesiredLink::default()
        },
    ))
}

fn relay(top: &Fields<'_>) -> Option<Relaying> {
    let fields = top.mapping_or_empty("relay")?;
    let allow = fields.scalars("allow", 2..=MOST_LINKS, NAME, parsed::<ClusterName>);
    let tunnels = fields.value("tunnels", values::count);
    let bytes_per_second = fields.value("bytesPerSecond", values::rate);
    let allow = allow.into_iter().map(|cluster| cluster.value).collect();
    Some(Relaying { allow, tunnels: tunnels?, bytes_per_second })
}

fn exports(top: &Fields<'_>) -> BTreeMap<ServicePort, Export> {
    let mut once = Once::new();
    let mut exports = BTreeMap::new();
    for fields in top.mappings("exports", "exports[]", 0..=MAX_SERVICE_PORTS) {
        let service = fields.value("service", values::service);
        let ports = ports(&fields);
        let endpoints = endpoints(&fields, &ports);
        let policy = policy::read(&fields, policy::Of::Export);
        if !ports.is_empty() && ports.iter().all(|port| !port.protocol.is_tcp()) {
            policy::check_datagrams(&fields, &policy);
        }
        let Some(service) = service else { continue };
        if let Some(first) = once.seen_before(service.clone(), fields.at_of("service")) {
            fields.conflict("service", again(&service, first), "one entry a service");
        }
        for port in ports {
            let endpoints = endpoints.iter().map(|endpoint| port.endpoint(endpoint)).collect();
            let key = ServicePort { service: service.clone(), port: port.port, protocol: port.protocol };
            exports.insert(key, Export { port_name: port.name, endpoints, policy: policy.clone() });
        }
    }
    if exports.len() > MAX_SERVICE_PORTS {
        let found = format!("{} service ports", exports.len());
        top.conflict("exports", found, "at most 10000 ports of all services together");
    }
    exports
}

/// One port of an export.
struct Port {
    name: Option<String>,
    port: u16,
    protocol: Protocol,
    target: Option<u16>,
}

impl Port {
    fn endpoint(&self, listed: &Listed) -> Endpoint {
        let address = match listed.address {
            EndpointText::Whole(address) => address,
            EndpointText::Bare(ip) => SocketAddr::new(ip, self.target.unwrap_or(self.port)),
        };
        Endpoint { address, zone: listed.zone.clone(), node: listed.node.clone() }
    }
}

/// One endpoint of an export.
struct Listed {
    at: Position,
    address: EndpointText,
    zone: Option<Arc<str>>,
    node: Option<Arc<str>>,
}

impl Listed {
    /// An address alone, or a mapping that says where it is as well.
    fn read<'a>(export: &Fields<'a>, item: (usize, &'a Node)) -> Option<Self> {
        const NAME: &str = "endpoints";
        let at = item.1.at;
        if !matches!(item.1.value, Value::Map(_)) {
            let address = export.scalar_in(NAME, item, ENDPOINT, values::endpoint)?;
            return Some(Self { at, address, zone: None, node: None });
        }
        let fields = export.mapping_in(NAME, item, "exports[].endpoints[]")?;
        let (zone, node) = (fields.value("zone", values::place), fields.value("node", values::place));
        Some(Self { at, address: fields.value("address", values::endpoint)?, zone, node })
    }
}

fn ports(export: &Fields<'_>) -> Vec<Port> {
    let (mut numbers, mut names) = (Once::new(), Once::new());
    let mut ports = Vec::new();
    for fields in export.mappings("ports", "exports[].ports[]", 1..=64) {
        // A port's name has the form of a cluster's: a DNS label.
        let name = fields.value("name", parsed::<ClusterName>).map(String::from);
        let number = fields.value("port", values::port);
        let protocol = fields.value("protocol", values::protocol);
        let target = fields.value("targetPort", values::port);
        if let Some(first) = name.clone().and_then(|name| names.seen_before(name, fields.at_of("name"))) {
            fields.conflict("name", again(name.as_deref().unwrap_or(""), first), "each name once in a service");
        }
        let (Some(port), Some(protocol)) = (number, protocol) else { continue };
        if let Some(first) = numbers.seen_before((port, protocol), fields.at_of("port")) {
            fields.conflict("port", again(port, first), "each port once in a service and protocol");
        }
        ports.push(Port { name, port, protocol, target });
    }
    ports
}

fn endpoints(export: &Fields<'_>, ports: &[Port]) -> Vec<Listed> {
    let mut once = Once::new();
    let items = export.items("endpoints", 1..=1000).iter().enumerate();
    let listed: Vec<Listed> = items.filter_map(|item| Listed::read(export, item)).collect();
    for (index, endpoint) in listed.iter().enumerate() {
        let name = format!("endpoints[{index}]");
        let note = |found: String, expected: &str| export.note(endpoint.at, &name, found, expected);
        let text = match endpoint.address {
            EndpointText::Whole(address) => address.to_string(),
            EndpointText::Bare(ip) => ip.to_string(),
        };
        if let EndpointText::Whole(_) = endpoint.address {
            match ports {
                [Port { target: Some(_), .. }] => {
                    note(format!("{text:?}"), "ip alone, since the port has a targetPort");
                }
                [_, _, ..] => {
                    note(format!("{text:?}"), "ip alone, since the service has several ports (see targetPort)");
                }
                _ => {}
            }
        }
        if let Some(first) = once.seen_before(endpoint.address, endpoint.at) {
            note(again(text, first), "each endpoint once");
        }
    }
    listed
}

/// Who listens where. An address and the wildcard on the same port are refused too: with SO_REUSEPORT both binds would succeed, and
/// one would silently take the other's connections.
#[derive(Default)]
pub(super) struct Listeners(HashMap<(u16, Protocol), Vec<Claim>>);

/// An address, the key that has it, and where that stands, if it does.
type Claim = (SocketAddr, String, Option<Position>);

impl Listeners {
    /// A port of the range that is taken, and by what.
    fn within(&self, ports: &std::ops::RangeInclusive<u16>) -> Option<(u16, &str)> {
        let taken = self.0.iter().filter(|((port, _), _)| ports.contains(port));
        taken.filter_map(|((port, _), claims)| Some((*port, claims.first()?.1.as_str()))).min()
    }

    /// For TCP and UDP.
    fn claim_both(&mut self, address: SocketAddr, fields: &Fields<'_>, name: &str) {
        if self.claim(Listen::tcp(address), fields, name) {
            self.claim(Listen::udp(address), fields, name);
        }
    }

    /// Whether it is free.
    pub(super) fn claim(&mut self, Listen { address, protocol, .. }: Listen, fields: &Fields<'_>, name: &str) -> bool {
        let ip = address.ip();
        let overlaps = |other: &SocketAddr| ip == other.ip() || ip.is_unspecified() || other.ip().is_unspecified();
        let taken = self.0.entry((address.port(), protocol)).or_default();
        let other = taken.iter().find(|(other, ..)| overlaps(other));
        if let Some((other, by, at)) = other {
            let place = at.map_or_else(|| by.clone(), |at| format!("{by} on line {}", at.line));
            fields.conflict(
                name,
                format!("\"{address}\", which {place} has with \"{other}\""),
                "an address of its own",
            );
        }
        let is_free = other.is_none();
        taken.push((address, fields.path_of(name), fields.has(name).then(|| fields.at_of(name))));
        is_free
    }
}
