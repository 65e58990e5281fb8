//! Between tables and messages, every field checked. The first half writes, the second reads.
//!
//! Structures of the table are taken apart without `..`: whoever adds a field there has to say here how it travels.

mod access;

pub(crate) use access::{policy, source};

use crate::{Digest, Position, Reached, change::Change, history::Update, wire};
use isthmus_control_api::{
    Affinity, ClusterName, Endpoint, Export, GatewayId, Import, InvalidName, Limits, Link, Listen, Namespaces,
    Protocol, Relaying, ServicePolicy, ServicePort, TransportChoice, Weights,
};
use prost::Message as _;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// A part of an update has about so many bytes; a single entry may have more.
const PART: usize = 256 << 10;
/// Bytes that stand before an entry: its field, its length.
const FRAMING: usize = 5;
/// Linked clusters that a gateway may speak of.
const CLUSTERS: usize = 1024;
/// Gateways that it may reach of each.
const GATEWAYS: usize = 1024;
/// Characters of what the other side says in words.
const WORDS: usize = 200;

/// Why a message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// A name against the rules of its kind.
    #[error("{0}")]
    Name(#[from] InvalidName),
    /// A field that is missing or out of its range.
    #[error("{0}")]
    Field(&'static str),
}

/// The update as messages, each of bounded size: the last one says that it is.
pub(crate) fn parts(update: &Update) -> Vec<wire::Part> {
    let Change { imports, exports, links, relay, sources, policies } = &update.change;
    let mut parts = Parts { done: Vec::new(), part: wire::Part::default(), bytes: 0 };
    for (listen, value) in imports {
        let entry = import(listen, value.as_ref());
        parts.room(entry.encoded_len()).imports.push(entry);
    }
    for (service, value) in exports {
        let entry = export(service, value.as_ref());
        parts.room(entry.encoded_len()).exports.push(entry);
    }
    for (cluster, value) in links {
        let entry = link(cluster, value.as_ref());
        parts.room(entry.encoded_len()).links.push(entry);
    }
    for (cidr, value) in sources {
        let entry = source(*cidr, value.as_ref());
        parts.room(entry.encoded_len()).sources.push(entry);
    }
    for (name, value) in policies {
        let entry = policy(name, value.as_ref());
        parts.room(entry.encoded_len()).policies.push(entry);
    }
    parts.part.relay = relay.as_ref().map(relaying);
    parts.part.last = true;
    parts.done.push(parts.part);
    for part in &mut parts.done {
        part.from = update.from.map(Digest::to_bytes).unwrap_or_default();
        part.to = Some(at(&update.to));
    }
    parts.done
}

struct Parts {
    done: Vec<wire::Part>,
    part: wire::Part,
    bytes: usize,
}

impl Parts {
    /// The part that has room for one more entry of so many bytes.
    fn room(&mut self, bytes: usize) -> &mut wire::Part {
        let bytes = bytes + FRAMING;
        if self.bytes > 0 && self.bytes + bytes > PART {
            self.done.push(std::mem::take(&mut self.part));
            self.bytes = 0;
        }
        self.bytes += bytes;
        &mut self.part
    }
}

pub(crate) fn at(position: &Position) -> wire::At {
    wire::At { term: position.term, version: position.version, digest: position.digest.to_bytes() }
}

pub(crate) fn import(listen: &Listen, import: Option<&Arc<Import>>) -> wire::Import {
    let value =
        |Import { service, affinity, clusters, weights: shares, sticky, policy: rules }: &Import| wire::ImportValue {
            service: Some(service_port(service)),
            affinity: match affinity {
                Affinity::Local => wire::Affinity::Local,
                Affinity::Remote => wire::Affinity::Remote,
                Affinity::None => wire::Affinity::None,
            } as i32,
            clusters: clusters
                .iter()
                .map(|(cluster, &ready)| wire::ClusterReady { cluster: cluster.to_string(), ready })
                .collect(),
            weights: shares.as_ref().map(weights),
            sticky: *sticky,
            policy: policy_text(rules),
        };
    wire::Import { listen: listen.to_string(), value: import.map(|import| value(import)) }
}

/// As JSON, which has one form only: keys are there in their order, those with defaults as well.
fn policy_text(policy: &ServicePolicy) -> String {
    // A structure of plain values cannot fail to be written.
    if *policy == ServicePolicy::default() { String::new() } else { serde_json::to_string(policy).unwrap_or_default() }
}

fn weights(Weights { local, clusters, others }: &Weights) -> wire::Weights {
    let one = |(cluster, &weight): (&ClusterName, &u32)| wire::ClusterWeight { cluster: cluster.to_string(), weight };
    wire::Weights { local: *local, clusters: clusters.iter().map(one).collect(), others: *others }
}

pub(crate) fn export(service: &ServicePort, export: Option<&Arc<Export>>) -> wire::Export {
    let endpoint = |Endpoint { address, zone, node }: &Endpoint| wire::Endpoint {
        ip: match address.ip() {
            IpAddr::V4(ip) => ip.octets().into(),
            IpAddr::V6(ip) => ip.octets().into(),
        },
        port: address.port().into(),
        zone: zone.as_deref().unwrap_or_default().into(),
        node: node.as_deref().unwrap_or_default().into(),
    };
    let value = |Export { port_name, endpoints, policy: rules }: &Export| wire::ExportValue {
        port_name: port_name.clone().unwrap_or_default(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        policy: policy_text(rules),
    };
    wire::Export { service: Some(service_port(service)), value: export.map(|export| value(export)) }
}

pub(crate) fn link(cluster: &ClusterName, link: Option<&Link>) -> wire::Link {
    let value = |Link { endpoints, transport, relay, exports, limits }: &Link| wire::LinkValue {
        endpoints: endpoints.iter().map(ToString::to_string).collect(),
        transport: match transport {
            TransportChoice::Auto => wire::Transport::Auto,
            TransportChoice::Tls => wire::Transport::Tls,
            TransportChoice::Quic => wire::Transport::Quic,
            TransportChoice::H2 => wire::Transport::H2,
        } as i32,
        relay: relay.as_ref().map(ToString::to_string).unwrap_or_default(),
        exports: match exports {
            Namespaces::All => None,
            Namespaces::Only(these) => {
                Some(wire::Namespaces { only: these.iter().map(|name| (**name).to_owned()).collect() })
            }
        },
        limits: (!limits.is_none()).then_some(wire::Limits {
            streams: limits.streams,
            pending: limits.pending,
            opens_per_second: limits.opens_per_second,
            bytes_per_second: limits.bytes_per_second,
        }),
    };
    wire::Link { cluster: cluster.to_string(), value: link.map(value) }
}

pub(crate) fn relaying(Relaying { allow, tunnels, bytes_per_second }: &Relaying) -> wire::Relaying {
    wire::Relaying {
        allow: allow.iter().map(ToString::to_string).collect(),
        tunnels: *tunnels as u64,
        bytes_per_second: *bytes_per_second,
    }
}

pub(crate) fn reached(reached: &Reached) -> wire::ReachedAll {
    let one = |(cluster, gateways): (&ClusterName, &std::collections::BTreeSet<GatewayId>)| wire::ReachedOne {
        cluster: cluster.to_string(),
        gateways: gateways.iter().map(|gateway| gateway.0).collect(),
    };
    wire::ReachedAll { clusters: reached.iter().map(one).collect() }
}

fn service_port(ServicePort { service, port, protocol }: &ServicePort) -> wire::ServicePort {
    let protocol = match protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
    };
    wire::ServicePort { service: service.to_string(), port: (*port).into(), protocol: protocol as i32 }
}

/// What a part says: where it begins, where it leads, its entries.
pub(crate) fn read_part(part: wire::Part) -> Result<(Option<Digest>, Position, Change), Malformed> {
    let wire::Part { from, to, last: _, imports, exports, links, relay, sources, policies } = part;
    let from = match &*from {
        [] => None,
        from => Some(Digest::from_bytes(from).ok_or(Malformed::Field("a digest that is not 16 bytes"))?),
    };
    let change = Change {
        imports: read_all(imports, read_import)?,
        exports: read_all(exports, read_export)?,
        links: read_all(links, read_link)?,
        relay: relay.as_ref().map(read_relaying).transpose()?,
        sources: read_all(sources, access::read_source)?,
        policies: read_all(policies, access::read_policy)?,
    };
    Ok((from, read_at(&to.ok_or(Malformed::Field("a part without its position"))?)?, change))
}

pub(crate) fn read_at(at: &wire::At) -> Result<Position, Malformed> {
    let digest = Digest::from_bytes(&at.digest).ok_or(Malformed::Field("a digest that is not 16 bytes"))?;
    Ok(Position { term: at.term, version: at.version, digest })
}

/// What a gateway reaches.
pub(crate) fn read_reached(all: wire::ReachedAll) -> Result<Reached, Malformed> {
    if all.clusters.len() > CLUSTERS || all.clusters.iter().any(|one| one.gateways.len() > GATEWAYS) {
        return Err(Malformed::Field("more clusters or gateways reached than there can be"));
    }
    let one = |one: wire::ReachedOne| Ok((one.cluster.parse()?, one.gateways.into_iter().map(GatewayId).collect()));
    all.clusters.into_iter().map(one).collect()
}

/// What a gateway says of its links, as it may stand in a status.
pub(crate) fn read_links(links: wire::Links) -> Result<Vec<wire::LinkReport>, Malformed> {
    if links.links.len() > CLUSTERS {
        return Err(Malformed::Field("more links than there can be"));
    }
    let words = |link: wire::LinkReport| wire::LinkReport {
        cluster: one_line(&link.cluster),
        state: one_line(&link.state),
        transport: one_line(&link.transport),
        direction: one_line(&link.direction),
        message: one_line(&link.message),
        ..link
    };
    Ok(links.links.into_iter().map(words).collect())
}

/// The other side's words as they may stand in a log: one line of bounded length.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS).collect()
}

fn read_all<W, K: Ord, V>(
    entries: Vec<W>,
    read: impl Fn(W) -> Result<(K, V), Malformed>,
) -> Result<BTreeMap<K, V>, Malformed> {
    let count = entries.len();
    let map: BTreeMap<_, _> = entries.into_iter().map(read).collect::<Result<_, _>>()?;
    if map.len() == count { Ok(map) } else { Err(Malformed::Field("an entry twice in one part")) }
}

fn read_import(import: wire::Import) -> Result<(Listen, Option<Arc<Import>>), Malformed> {
    let value = |value: wire::ImportValue| {
        let clusters = value.clusters.into_iter().map(|of| Ok((of.cluster.parse()?, of.ready)));
        Ok::<_, Malformed>(Arc::new(Import {
            service: read_service_port(value.service)?,
            affinity: match wire::Affinity::try_from(value.affinity) {
                Ok(wire::Affinity::Local) => Affinity::Local,
                Ok(wire::Affinity::Remote) => Affinity::Remote,
                Ok(wire::Affinity::None) => Affinity::None,
                Ok(wire::Affinity::Unspecified) | Err(_) => return Err(Malformed::Field("an unknown affinity")),
            },
            clusters: clusters.collect::<Result<_, Malformed>>()?,
            weights: value.weights.map(read_weights).transpose()?,
            sticky: value.sticky,
            policy: read_policy_text(&value.policy)?,
        }))
    };
    Ok((import.listen.parse()?, import.value.map(value).transpose()?))
}

fn read_policy_text(text: &str) -> Result<Arc<ServicePolicy>, Malformed> {
    if text.is_empty() {
        return Ok(Arc::default());
    }
    serde_json::from_str(text).map_err(|_| Malformed::Field("a policy that this version does not know"))
}

fn read_weights(wire::Weights { local, clusters, others }: wire::Weights) -> Result<Weights, Malformed> {
    let clusters = clusters.into_iter().map(|of| Ok((of.cluster.parse()?, of.weight)));
    Ok(Weights { local, clusters: clusters.collect::<Result<_, Malformed>>()?, others })
}

fn read_export(export: wire::Export) -> Result<(ServicePort, Option<Arc<Export>>), Malformed> {
    let value = |value: wire::ExportValue| {
        let port_name = Some(value.port_name).filter(|name| !name.is_empty());
        let endpoints = value.endpoints.iter().map(read_endpoint).collect::<Result<_, _>>()?;
        Ok::<_, Malformed>(Arc::new(Export { port_name, endpoints, policy: read_policy_text(&value.policy)? }))
    };
    Ok((read_service_port(export.service)?, export.value.map(value).transpose()?))
}

fn read_endpoint(endpoint: &wire::Endpoint) -> Result<Endpoint, Malformed> {
    let v4 = <[u8; 4]>::try_from(&*endpoint.ip).map(IpAddr::from);
    let ip = v4.or_else(|_| <[u8; 16]>::try_from(&*endpoint.ip).map(IpAddr::from));
    let ip = ip.map_err(|_| Malformed::Field("an IP address that is not 4 or 16 bytes"))?;
    let place = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
    let address = SocketAddr::new(ip, read_port(endpoint.port)?);
    Ok(Endpoint { address, zone: place(&endpoint.zone), node: place(&endpoint.node) })
}

fn read_link(link: wire::Link) -> Result<(ClusterName, Option<Link>), Malformed> {
    let value = |value: wire::LinkValue| {
        Ok::<_, Malformed>(Link {
            endpoints: value.endpoints.iter().map(|endpoint| endpoint.parse()).collect::<Result<_, _>>()?,
            transport: match wire::Transport::try_from(value.transport) {
                Ok(wire::Transport::Auto) => TransportChoice::Auto,
                Ok(wire::Transport::Tls) => TransportChoice::Tls,
                Ok(wire::Transport::Quic) => TransportChoice::Quic,
                Ok(wire::Transport::H2) => TransportChoice::H2,
                Ok(wire::Transport::Unspecified) | Err(_) => return Err(Malformed::Field("an unknown transport")),
            },
            relay: Some(value.relay).filter(|relay| !relay.is_empty()).map(|relay| relay.parse()).transpose()?,
            exports: match value.exports {
                None => Namespaces::All,
                Some(these) => Namespaces::Only(these.only.iter().map(|name| name.as_str().into()).collect()),
            },
            limits: value.limits.map(read_limits).unwrap_or_default(),
        })
    };
    Ok((link.cluster.parse()?, link.value.map(value).transpose()?))
}

fn read_limits(limits: wire::Limits) -> Limits {
    Limits {
        streams: limits.streams,
        pending: limits.pending,
        opens_per_second: limits.opens_per_second,
        bytes_per_second: limits.bytes_per_second,
    }
}

fn read_relaying(relay: &wire::Relaying) -> Result<Relaying, Malformed> {
    let allow = relay.allow.iter().map(|cluster| cluster.parse()).collect::<Result<_, InvalidName>>()?;
    let tunnels = usize::try_from(relay.tunnels).unwrap_or(usize::MAX);
    Ok(Relaying { allow, tunnels, bytes_per_second: relay.bytes_per_second })
}

fn read_service_port(of: Option<wire::ServicePort>) -> Result<ServicePort, Malformed> {
    let of = of.ok_or(Malformed::Field("an entry without its service"))?;
    let protocol = match wire::Protocol::try_from(of.protocol) {
        Ok(wire::Protocol::Tcp) => Protocol::Tcp,
        Ok(wire::Protocol::Udp) => Protocol::Udp,
        Ok(wire::Protocol::Unspecified) | Err(_) => return Err(Malformed::Field("an unknown protocol")),
    };
    Ok(ServicePort { service: of.service.parse()?, port: read_port(of.port)?, protocol })
}

fn read_port(port: u32) -> Result<u16, Malformed> {
    u16::try_from(port).ok().filter(|&port| port != 0).ok_or(Malformed::Field("a port that is not 1 to 65535"))
}

#[cfg(test)]
mod tests;
