//! Texts of the configuration as values: addresses, durations, sizes, words.

use super::{AccessLog, fields::Refused, fields::parsed};
use isthmus_control_api::{
    Affinity, ClusterName, ClustersetName, PeerAddress, Protocol, ServiceName, ServicePort, TransportChoice,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

/// The namespace of what gateways say among themselves.
const RESERVED: &str = "isthmus-system";

/// An endpoint as it is written: the port is the address's own, or the port's `targetPort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum EndpointText {
    Whole(SocketAddr),
    Bare(IpAddr),
}

pub(super) fn port(text: &str) -> Result<u16, Refused> {
    parsed(text).and_then(|port| if port == 0 { Err(Refused(None)) } else { Ok(port) })
}

/// A service that one may export and import: not one of our own, which tunnels carry by themselves.
pub(super) fn service(text: &str) -> Result<ServiceName, Refused> {
    let service: ServiceName = parsed(text)?;
    if service.namespace() == RESERVED {
        return Err(Refused(Some("a reserved namespace")));
    }
    Ok(service)
}

pub(super) fn service_port(text: &str) -> Result<ServicePort, Refused> {
    let (name, number) = text.rsplit_once(':').ok_or(Refused(None))?;
    Ok(ServicePort::tcp(service(name)?, port(number)?))
}

/// A domain that leaves room for all that is put in front of it.
pub(super) fn domain(text: &str) -> Result<ClustersetName, Refused> {
    if text.len() > 61 { Err(Refused(None)) } else { parsed(text) }
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, Refused> {
    let address: SocketAddr = parsed(text)?;
    if address.port() == 0 {
        return Err(Refused(Some("port 0 would be another at every start")));
    }
    if address.ip().is_multicast() {
        return Err(Refused(Some("a multicast address")));
    }
    Ok(address)
}

pub(super) fn endpoint(text: &str) -> Result<EndpointText, Refused> {
    let endpoint = match text.parse() {
        Ok(address) => EndpointText::Whole(address),
        Err(_) => EndpointText::Bare(parsed(text)?),
    };
    let (ip, port) = match endpoint {
        EndpointText::Whole(address) => (address.ip(), address.port()),
        EndpointText::Bare(ip) => (ip, 1),
    };
    if port == 0 {
        return Err(Refused(Some("port 0 is no port")));
    }
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(Refused(Some("not the address of one host")));
    }
    Ok(endpoint)
}

pub(super) fn protocol(text: &str) -> Result<Protocol, Refused> {
    match text {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        _ => Err(Refused(None)),
    }
}

pub(super) fn transport(text: &str) -> Result<TransportChoice, Refused> {
    match text {
        "auto" => Ok(TransportChoice::Auto),
        "tls" => Ok(TransportChoice::Tls),
        "quic" => Ok(TransportChoice::Quic),
        "h2" => Ok(TransportChoice::H2),
        _ => Err(Refused(None)),
    }
}

pub(super) fn affinity(text: &str) -> Result<Affinity, Refused> {
    match text {
        "local" => Ok(Affinity::Local),
        "remote" => Ok(Affinity::Remote),
        "none" => Ok(Affinity::None),
        _ => Err(Refused(None)),
    }
}

/// Clusters' shares, as `east=80,west=20`.
pub(super) fn weights(text: &str) -> Result<BTreeMap<ClusterName, u32>, Refused> {
    let mut weights = BTreeMap::new();
    for item in text.split(',') {
        let (cluster, share) = item.trim().split_once('=').ok_or(Refused(None))?;
        let share = parsed(share).and_then(|n| if n <= 1_000_000 { Ok(n) } else { Err(Refused(None)) })?;
        if weights.insert(parsed(cluster)?, share).is_some() {
            return Err(Refused(Some("a cluster twice")));
        }
    }
    if weights.values().all(|&share| share == 0) { Err(Refused(Some("no share above 0"))) } else { Ok(weights) }
}

/// Whether a client stays with its endpoint.
pub(super) fn session_affinity(text: &str) -> Result<bool, Refused> {
    match text {
        "clientIP" => Ok(true),
        "none" => Ok(false),
        _ => Err(Refused(None)),
    }
}

/// The file's path as it is written.
pub(super) fn access_log(text: &str) -> Result<AccessLog, Refused> {
    match text {
        "" => Err(Refused(None)),
        "off" => Ok(AccessLog::Off),
        "stdout" => Ok(AccessLog::Stdout),
        path => Ok(AccessLog::File(path.into())),
    }
}

/// `None`: all of them.
pub(super) fn cores(text: &str) -> Result<Option<NonZeroUsize>, Refused> {
    if text == "all" {
        return Ok(None);
    }
    let cores: NonZeroUsize = parsed(text)?;
    if cores.get() > 1024 { Err(Refused(None)) } else { Ok(Some(cores)) }
}

/// Whether it is Kubernetes.
pub(super) fn registry(text: &str) -> Result<bool, Refused> {
    match text {
        "file" => Ok(false),
        "kubernetes" => Ok(true),
        _ => Err(Refused(None)),
    }
}

/// Ports from the first to the last, as `20000-29999`.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, Refused> {
    let (first, last) = text.split_once('-').ok_or(Refused(None))?;
    let (first, last): (u16, u16) = (parsed(first.trim())?, parsed(last.trim())?);
    if first < 1024 {
        return Err(Refused(Some("ports below 1024 are others'")));
    }
    if first > last {
        return Err(Refused(Some("the first is behind the last")));
    }
    Ok(first..=last)
}

/// An IP address or a DNS name.
pub(super) fn host(text: &str) -> Result<String, Refused> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return if ip.is_unspecified() {
            Err(Refused(Some("not the address of one host")))
        } else {
            Ok(ip.to_string())
        };
    }
    let address: PeerAddress = parsed(&format!("{text}:1"))?;
    Ok(address.host)
}

/// A text that is not empty, of at most 512 bytes.
pub(super) fn short(text: &str) -> Result<String, Refused> {
    if (1..=512).contains(&text.len()) { Ok(text.into()) } else { Err(Refused(None)) }
}

/// A zone, or a node.
pub(super) fn place(text: &str) -> Result<Arc<str>, Refused> {
    let fits = (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.into()) } else { Err(Refused(None)) }
}

pub(super) fn switch(text: &str) -> Result<bool, Refused> {
    match text {
        "off" => Ok(false),
        "on" => Ok(true),
        _ => Err(Refused(None)),
    }
}

/// `None`: it depends.
pub(super) fn auto_switch(text: &str) -> Result<Option<bool>, Refused> {
    match text {
        "auto" => Ok(None),
        "on" => Ok(Some(true)),
        "off" => Ok(Some(false)),
        _ => Err(Refused(None)),
    }
}

pub(super) fn count(text: &str) -> Result<usize, Refused> {
    parsed(text).and_then(|count| if (1..=10_000_000).contains(&count) { Ok(count) } else { Err(Refused(None)) })
}

pub(super) fn duration(text: &str) -> Result<Duration, Refused> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let millis = scaled(text, &units).filter(|millis| (100..=3_600_000).contains(millis));
    millis.map(Duration::from_millis).ok_or(Refused(None))
}

/// For what may last: a second to thirty days.
pub(super) fn long_duration(text: &str) -> Result<Duration, Refused> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let millis = scaled(text, &units).filter(|millis| (1_000..=30 * 24 * 3_600_000).contains(millis));
    millis.map(Duration::from_millis).ok_or(Refused(None))
}

pub(super) fn size(text: &str) -> Result<u64, Refused> {
    scaled(text, &SIZES).filter(|bytes| ((16 << 20)..=(1 << 40)).contains(bytes)).ok_or(Refused(None))
}

/// Bytes a second: a size, of a range of its own.
pub(super) fn rate(text: &str) -> Result<u64, Refused> {
    scaled(text, &SIZES).filter(|bytes| ((64 << 10)..=(1 << 40)).contains(bytes)).ok_or(Refused(None))
}

const SIZES: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A whole number and its unit, with nothing between them but perhaps a space.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units_and_ranges() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(size("2 GiB").unwrap(), 2 << 30);
        for bad in ["", "5", "s", "-1s", "1.5s", "99ms", "2h", "18446744073709551615h", "5 s s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(rate("64KiB").unwrap(), 64 << 10);
        assert!(rate("63KiB").is_err());
        assert_eq!(ports("20000-29999").unwrap(), 20000..=29999);
        for bad in ["", "20000", "1023-2000", "2-1", "3000-2000", "1024-65536"] {
            assert!(ports(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "1", "1GB", "15MiB", "2TiB"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn weights_name_each_cluster_once() {
        let read = weights("east=80, west=20").unwrap();
        assert_eq!(read, [("east", 80), ("west", 20)].map(|(name, share)| (name.parse().unwrap(), share)).into());
        for bad in ["", "east", "east=", "east=-1", "east=1,east=2", "east=0,west=0", "east=1000001", "e st=1"] {
            assert!(weights(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn endpoints_are_addresses_of_one_host() {
        assert_eq!(endpoint("10.0.0.2:80").unwrap(), EndpointText::Whole("10.0.0.2:80".parse().unwrap()));
        assert_eq!(endpoint("::1").unwrap(), EndpointText::Bare("::1".parse().unwrap()));
        for bad in ["", "host:80", "0.0.0.0:80", "10.0.0.2:0", "224.0.0.1:1", "10.0.0.2:99999", "10.0.0"] {
            assert!(endpoint(bad).is_err(), "{bad:?}");
        }
    }
}
