//! ● Summaries to and from what is on the wire.

use super::{
    DecodeError,
    summary::{
        Family, Member, Port, PortSummary, Services, Summary,
        bounds::{MAX_LACKING, is_label},
    },
    wire,
};
use crate::MAX_SERVICE_PORTS;
use isthmus_control_api::{Protocol, ServiceName};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Services whose every value is within its bounds. A port of a protocol that this side does not know is left out.
pub(super) fn services(listed: Vec<wire::ServiceSummary>) -> Result<Services, DecodeError> {
    if listed.len() > MAX_SERVICE_PORTS {
        return Err(DecodeError::TooMany);
    }
    let mut services = Services::new();
    for of in listed {
        let name: ServiceName = of.service.parse()?;
        if services.insert(name, Arc::new(summary(of)?)).is_some() {
            return Err(DecodeError::Field("a service twice"));
        }
    }
    Ok(services)
}

/// The names of services that are no longer exported.
pub(super) fn names(listed: &[String]) -> Result<Vec<ServiceName>, DecodeError> {
    listed.iter().map(|name| Ok(name.parse()?)).collect()
}

/// Namespaces.
pub(super) fn namespaces(listed: Vec<String>) -> Result<BTreeSet<Arc<str>>, DecodeError> {
    if listed.len() > MAX_LACKING {
        return Err(DecodeError::Field("more than 1000 namespaces that it has not"));
    }
    if !listed.iter().all(|namespace| is_label(namespace)) {
        return Err(DecodeError::Field("a namespace that is no DNS label"));
    }
    Ok(listed.into_iter().map(Arc::from).collect())
}

fn summary(of: wire::ServiceSummary) -> Result<Summary, DecodeError> {
    let families = of.families.iter().map(|&family| match wire::Family::try_from(family) {
        Ok(wire::Family::Ipv4) => Ok(Family::V4),
        Ok(wire::Family::Ipv6) => Ok(Family::V6),
        Ok(wire::Family::Unspecified) | Err(_) => Err(DecodeError::Field("a family that is neither IPv4 nor IPv6")),
    });
    let member = |wire::Member { key, is_hostname }| Member { key: key.into(), is_hostname };
    let (ports, sctp) = ports(of.ports)?;
    let mut summary = Summary {
        since: of.since_ms,
        headless: of.headless,
        ports,
        sctp,
        zones: of.zones.into_iter().map(|(zone, ready)| (zone.into(), ready)).collect(),
        affinity: some(of.affinity_seconds),
        node_local: of.node_local,
        traffic_distribution: some(of.traffic_distribution).map(Arc::from),
        families: families.take(3).collect::<Result<_, _>>()?,
        labels: texts(of.labels),
        annotations: texts(of.annotations),
        members: of.members.into_iter().map(member).collect(),
    };
    match summary.fit().first() {
        Some(beyond) => Err(DecodeError::Field(beyond)),
        None => Ok(summary),
    }
}

/// The ports that are carried, and those of SCTP.
type Ports = (BTreeMap<Port, PortSummary>, BTreeMap<u16, PortSummary>);

fn ports(listed: Vec<wire::PortSummary>) -> Result<Ports, DecodeError> {
    let (mut ports, mut sctp) = Ports::default();
    for wire::PortSummary { number, protocol, name, app_protocol, ready } in listed {
        let number = u16::try_from(number).ok().filter(|&number| number != 0);
        let number = number.ok_or(DecodeError::Field("a port that is not 1 to 65535"))?;
        let protocol = match wire::Protocol::try_from(protocol) {
            Ok(wire::Protocol::Tcp) => Some(Protocol::Tcp),
            Ok(wire::Protocol::Udp) => Some(Protocol::Udp),
            Ok(wire::Protocol::Sctp) => None,
            Ok(wire::Protocol::Unspecified) | Err(_) => continue,
        };
        let port =
            PortSummary { name: some(name).map(Arc::from), app_protocol: some(app_protocol).map(Arc::from), ready };
        let before = match protocol {
            Some(protocol) => ports.insert(Port { number, protocol }, port),
            None => sctp.insert(number, PortSummary { ready: 0, ..port }),
        };
        if before.is_some() {
            return Err(DecodeError::Field("a port twice"));
        }
    }
    Ok((ports, sctp))
}

fn texts(of: BTreeMap<String, String>) -> BTreeMap<Arc<str>, Arc<str>> {
    of.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

/// What is there: the wire has no other way to say that nothing is.
fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}

pub(super) fn to_wire(services: &Services) -> Vec<wire::ServiceSummary> {
    services.iter().map(|(name, summary)| one_to_wire(name, summary)).collect()
}

fn one_to_wire(name: &ServiceName, of: &Summary) -> wire::ServiceSummary {
    let texts =
        |of: &BTreeMap<Arc<str>, Arc<str>>| of.iter().map(|(k, v)| ((**k).to_owned(), (**v).to_owned())).collect();
    let text = |of: &Option<Arc<str>>| of.as_deref().unwrap_or_default().to_owned();
    let port = |number: u16, protocol: wire::Protocol, port: &PortSummary| wire::PortSummary {
        number: number.into(),
        protocol: protocol as i32,
        name: text(&port.name),
        app_protocol: text(&port.app_protocol),
        ready: port.ready,
    };
    let carried = of.ports.iter().map(|(key, of)| match key.protocol {
        Protocol::Tcp => port(key.number, wire::Protocol::Tcp, of),
        Protocol::Udp => port(key.number, wire::Protocol::Udp, of),
    });
    let sctp = of.sctp.iter().map(|(number, of)| port(*number, wire::Protocol::Sctp, of));
    let family = |family: &Family| match family {
        Family::V4 => wire::Family::Ipv4 as i32,
        Family::V6 => wire::Family::Ipv6 as i32,
    };
    let member = |member: &Member| wire::Member { key: (*member.key).to_owned(), is_hostname: member.is_hostname };
    wire::ServiceSummary {
        service: name.as_str().to_owned(),
        since_ms: of.since,
        headless: of.headless,
        ports: carried.chain(sctp).collect(),
        affinity_seconds: of.affinity.unwrap_or_default(),
        node_local: of.node_local,
        traffic_distribution: text(&of.traffic_distribution),
        families: of.families.iter().map(family).collect(),
        zones: of.zones.iter().map(|(zone, ready)| ((**zone).to_owned(), *ready)).collect(),
        labels: texts(&of.labels),
        annotations: texts(&of.annotations),
        members: of.members.iter().map(member).collect(),
    }
}
