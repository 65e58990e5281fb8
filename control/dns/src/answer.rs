//! ● What a name has.

use crate::zone::{Addresses, Endpoint, Port, Service, Zone};
use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{HINFO, NS, SOA, SRV, TXT},
};
use isthmus_control_api::{Protocol, ServiceName};
use std::net::IpAddr;

/// The version of the DNS specification that is followed.
const VERSION: &str = "1.0.0";

/// What there is of a name and a type.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is not in our domain.
    NotOurs,
    /// Nobody has said yet what there is.
    NotKnown,
    /// The name does not exist, nor any below it.
    NoSuchName,
    /// The name, or one below it, exists. There may be no record of that type.
    Records {
        /// What was asked for.
        answers: Vec<Record>,
        /// Addresses of what `answers` name.
        additionals: Vec<Record>,
    },
}

/// The answer to a query of class IN. `asked` goes into the records as it is written: some resolvers look whether upper and lower case
/// come back as they sent them.
pub(crate) fn answer(zone: &Zone, asked: &Name, kind: RecordType) -> Answer {
    if !zone.domain.zone_of(asked) {
        return Answer::NotOurs;
    }
    let depth = usize::from(asked.num_labels().saturating_sub(zone.domain.num_labels()));
    let labels: Option<Vec<String>> = asked.iter().take(depth).map(label).collect();
    let Some(mut labels) = labels else { return Answer::NoSuchName };
    labels.reverse();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let at = Asked { zone, name: asked, kind };
    match labels.as_slice() {
        [] => at.apex(),
        ["dns-version"] => at.only(RecordType::TXT, || RData::TXT(TXT::new(vec![VERSION.to_owned()]))),
        // Of the name server itself, there is the name only: it is reached by whatever a stub zone says.
        ["dns"] | ["dns", "ns"] => Answer::nothing(),
        ["svc", rest @ ..] => at.below_svc(rest),
        _ => Answer::NoSuchName,
    }
}

/// The start of authority, for answers that have nothing: it says how long they may be kept.
pub(crate) fn authority(zone: &Zone) -> Record {
    let under = |label: &str| zone.domain.prepend_label(label).unwrap_or_else(|_| zone.domain.clone());
    // The serial stands for no version: nobody transfers this zone. The last number is how long "there is none" may be kept.
    let soa = SOA::new(server(zone), under("hostmaster"), 1, 7200, 1800, 86400, zone.ttl);
    Record::from_rdata(zone.domain.clone(), zone.ttl, RData::SOA(soa))
}

fn server(zone: &Zone) -> Name {
    let dns = zone.domain.prepend_label("dns").and_then(|name| name.prepend_label("ns"));
    dns.unwrap_or_else(|_| zone.domain.clone())
}

/// A label in lower case, if it is one that a name of ours can have.
fn label(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.is_ascii().then(|| text.to_ascii_lowercase())
}

impl Answer {
    fn nothing() -> Self {
        Self::Records { answers: Vec::new(), additionals: Vec::new() }
    }
}

/// One question.
struct Asked<'a> {
    zone: &'a Zone,
    name: &'a Name,
    kind: RecordType,
}

impl Asked<'_> {
    fn apex(&self) -> Answer {
        match self.kind {
            RecordType::SOA => Answer::Records { answers: vec![authority(self.zone)], additionals: Vec::new() },
            _ => self.only(RecordType::NS, || RData::NS(NS(server(self.zone)))),
        }
    }

    /// A name that has one record.
    fn only(&self, kind: RecordType, data: impl FnOnce() -> RData) -> Answer {
        match self.kind {
            found if found == kind => self.records([data()], []),
            RecordType::ANY => self.any(),
            _ => Answer::nothing(),
        }
    }

    fn below_svc(&self, labels: &[&str]) -> Answer {
        let Some(services) = &self.zone.services else { return Answer::NotKnown };
        let (namespace, name, rest) = match labels {
            [] => return Answer::nothing(),
            [namespace] if self.zone.namespaces.contains(*namespace) => return Answer::nothing(),
            [_] => return Answer::NoSuchName,
            [namespace, name, rest @ ..] => (namespace, name, rest),
        };
        let found = format!("{namespace}/{name}").parse().ok().and_then(|name: ServiceName| services.get(&name));
        let Some(service) = found else { return Answer::NoSuchName };
        if matches!(&service.addresses, Addresses::Headless(endpoints) if endpoints.is_empty()) {
            return Answer::NoSuchName;
        }
        match (rest, &service.addresses) {
            ([], _) => self.service(service),
            ([protocol], _) if protocol.starts_with('_') => match named(service, protocol).next() {
                Some(_) => Answer::nothing(),
                None => Answer::NoSuchName,
            },
            ([protocol, port], _) if protocol.starts_with('_') => self.port(service, protocol, port),
            ([cluster], Addresses::Headless(endpoints)) => {
                // It has no records, but names below it: RFC 8020 would have those denied, if this were.
                match endpoints.iter().any(|endpoint| endpoint.cluster.as_str() == *cluster) {
                    true => Answer::nothing(),
                    false => Answer::NoSuchName,
                }
            }
            ([cluster, hostname], Addresses::Headless(endpoints)) => {
                let is_it = |e: &&Endpoint| e.cluster.as_str() == *cluster && e.hostname.eq_ignore_ascii_case(hostname);
                let addresses = endpoints.iter().filter(is_it).flat_map(|endpoint| &endpoint.addresses);
                let addresses: Vec<IpAddr> = addresses.copied().collect();
                if addresses.is_empty() { Answer::NoSuchName } else { self.addresses(&addresses) }
            }
            _ => Answer::NoSuchName,
        }
    }

    /// The service's own name.
    fn service(&self, service: &Service) -> Answer {
        if self.kind == RecordType::SRV {
            let mut ports: Vec<&Port> = service.ports.iter().collect();
            ports.sort_by_key(|port| port.number);
            ports.dedup_by_key(|port| port.number);
            return self.srv(service, self.name, &ports);
        }
        match &service.addresses {
            Addresses::ClusterSetIp(addresses) => self.addresses(addresses),
            Addresses::Headless(endpoints) => {
                let all: Vec<IpAddr> = endpoints.iter().flat_map(|endpoint| &endpoint.addresses).copied().collect();
                self.addresses(&all)
            }
        }
    }

    /// `_port._protocol` of a service.
    fn port(&self, service: &Service, protocol: &str, port: &str) -> Answer {
        let is_it = |found: &&Port| port.strip_prefix('_').is_some_and(|name| found.name.as_deref() == Some(name));
        let ports: Vec<&Port> = named(service, protocol).filter(is_it).collect();
        match (ports.is_empty(), self.kind) {
            (true, _) => Answer::NoSuchName,
            (false, RecordType::SRV) => {
                let target = self.name.base_name().base_name();
                self.srv(service, &target, &ports)
            }
            (false, RecordType::ANY) => self.any(),
            (false, _) => Answer::nothing(),
        }
    }

    /// `service` has the name `target`.
    fn srv(&self, service: &Service, target: &Name, ports: &[&Port]) -> Answer {
        let hosts: Vec<(Name, &[IpAddr])> = match &service.addresses {
            Addresses::ClusterSetIp(addresses) => vec![(target.clone(), addresses)],
            Addresses::Headless(endpoints) => {
                let host = |endpoint: &Endpoint| {
                    target.prepend_label(endpoint.cluster.as_str())?.prepend_label(&*endpoint.hostname)
                };
                endpoints.iter().filter_map(|endpoint| Some((host(endpoint).ok()?, &*endpoint.addresses))).collect()
            }
        };
        // All alike; 100 to share, as CoreDNS does it.
        let weight = u16::try_from(100 / hosts.len().max(1)).unwrap_or(1).max(1);
        let record = |port: &Port, host: &Name| RData::SRV(SRV::new(0, weight, port.number, host.clone()));
        let answers = ports.iter().flat_map(|port| hosts.iter().map(move |(host, _)| record(port, host)));
        let additionals = hosts.iter().flat_map(|(host, addresses)| {
            addresses.iter().map(|&address| Record::from_rdata(host.clone(), self.zone.ttl, address.into()))
        });
        self.records(answers, additionals)
    }

    fn addresses(&self, all: &[IpAddr]) -> Answer {
        let fits = |address: &&IpAddr| match self.kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        };
        match self.kind {
            RecordType::ANY => self.any(),
            _ => self.records(all.iter().filter(fits).map(|&address| RData::from(address)), []),
        }
    }

    /// RFC 8482: who asks for anything gets something small.
    fn any(&self) -> Answer {
        let hinfo = HINFO::new("RFC8482".to_owned(), String::new());
        self.records([RData::HINFO(hinfo)], [])
    }

    fn records(
        &self,
        answers: impl IntoIterator<Item = RData>,
        additionals: impl IntoIterator<Item = Record>,
    ) -> Answer {
        let record = |data| Record::from_rdata(self.name.clone(), self.zone.ttl, data);
        Answer::Records {
            answers: answers.into_iter().map(record).collect(),
            additionals: additionals.into_iter().collect(),
        }
    }
}

/// The ports of a protocol that have names.
fn named<'a>(service: &'a Service, protocol: &str) -> impl Iterator<Item = &'a Port> {
    let wanted = match protocol {
        "_tcp" => Some(Protocol::Tcp),
        "_udp" => Some(Protocol::Udp),
        _ => None,
    };
    service.ports.iter().filter(move |port| Some(port.protocol) == wanted && port.name.is_some())
}
