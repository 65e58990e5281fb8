//! ● Who a stream is opened for, in the headers that HBONE uses: `forwarded` (RFC 7239) and `baggage` (W3C).
//!
//! ztunnel sends `forwarded: for="10.0.0.9:4711"` and a baggage of `k8s.cluster.name`, `k8s.namespace.name`,
//! `k8s.<workload type>.name`, `service.name` and `service.version`. None of these is an identity, so between isthmus gateways one
//! more key carries the source's SPIFFE id. The pod is told, and read, as ztunnel tells of one without a workload above it.

use crate::tunnel::Source;
use isthmus_certs::SpiffeId;
use isthmus_control_api::PodName;
use std::{fmt::Write, net::SocketAddr};

/// Our own key of the baggage.
const SOURCE_ID: &str = "isthmus.source.id";
/// The pod's.
const POD: &str = "k8s.pod.name";

/// What a baggage says of a source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    /// Its id, if it is there and is one.
    pub id: Option<SpiffeId>,
    /// Its pod, if it is there and can be one.
    pub pod: Option<PodName>,
}

/// The `forwarded` header's value for a client's address.
pub fn format_forwarded(address: SocketAddr) -> String {
    format!("for=\"{address}\"")
}

/// The client's address in a `forwarded` header: that of the first element, which is the one nearest to the client. Names that hide
/// the address (`unknown`, `_hidden`) and addresses without a port count as none.
pub fn parse_forwarded(value: &str) -> Option<SocketAddr> {
    let nearest = value.split(',').next()?;
    nearest.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let bare = |value: &str| value.strip_prefix('"')?.strip_suffix('"').map(str::to_owned);
        let value = value.trim();
        key.trim().eq_ignore_ascii_case("for").then(|| bare(value).unwrap_or_else(|| value.into()).parse().ok())?
    })
}

/// The `baggage` header's value for a source. Its cluster and namespace are repeated under ztunnel's keys, for others to read.
pub fn format_baggage(Source { id, pod, .. }: &Source) -> String {
    let cluster = id.trust_domain().split('.').next().unwrap_or_default();
    let mut baggage = format!("k8s.cluster.name={cluster}");
    let mut path = id.path().split('/').skip(1);
    if let (Some("ns"), Some(namespace)) = (path.next(), path.next()) {
        // Writing to a String cannot fail.
        let _ = write!(baggage, ",k8s.namespace.name={namespace}");
    }
    // Of what pods' names and SPIFFE ids are made of, baggage allows everything as it is.
    if let Some(pod) = pod {
        let _ = write!(baggage, ",{POD}={pod}");
    }
    let _ = write!(baggage, ",{SOURCE_ID}={id}");
    baggage
}

/// What a `baggage` header says of the source; of members with the same key, what the first says.
pub fn parse_baggage(value: &str) -> Baggage {
    let mut baggage = Baggage::default();
    for member in value.split(',') {
        // Properties may follow a value.
        let Some((key, value)) = member.split(';').next().and_then(|member| member.split_once('=')) else { continue };
        match key.trim() {
            SOURCE_ID if baggage.id.is_none() => baggage.id = value.trim().parse().ok(),
            POD if baggage.pod.is_none() => baggage.pod = value.trim().parse().ok(),
            _ => {}
        }
    }
    baggage
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forwarded_as_others_write_it() {
        let v4 = Some("10.0.0.9:4711".parse().unwrap());
        assert_eq!(parse_forwarded("for=\"10.0.0.9:4711\""), v4);
        assert_eq!(parse_forwarded("for=10.0.0.9:4711"), v4);
        assert_eq!(parse_forwarded("proto=http; FOR=\"10.0.0.9:4711\" ;host=a, for=192.0.2.1:1"), v4);
        assert_eq!(parse_forwarded("for=\"[2001:db8::1]:4711\""), Some("[2001:db8::1]:4711".parse().unwrap()));
        for none in
            ["", "for", "for=", "for=unknown", "for=\"_hidden\"", "for=10.0.0.9", "by=10.0.0.9:1", "for=\"1.2.3.4:5"]
        {
            assert_eq!(parse_forwarded(none), None, "{none:?}");
        }
    }

    #[test]
    fn baggage_as_others_write_it() {
        let id: SpiffeId = "spiffe://west.demo/ns/shop/sa/web".parse().unwrap();
        let source = |pod| Source { id: id.clone(), pod, address: None };
        let pod = Some("web-0".parse().unwrap());
        assert_eq!(parse_baggage(&format_baggage(&source(pod.clone()))), Baggage { id: Some(id.clone()), pod });
        let written = format_baggage(&source(None));
        let expected =
            "k8s.cluster.name=west,k8s.namespace.name=shop,isthmus.source.id=spiffe://west.demo/ns/shop/sa/web";
        assert_eq!(written, expected);
        assert_eq!(parse_baggage(" isthmus.source.id = spiffe://west.demo/ns/shop/sa/web ; p=1,x=y").id, Some(id));
        let ztunnel = "k8s.cluster.name=c,k8s.namespace.name=n,k8s.deployment.name=d,service.name=s,service.version=v1";
        for none in ["", "=", "isthmus.source.id", "isthmus.source.id=x", ztunnel] {
            assert_eq!(parse_baggage(none), Baggage::default(), "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(address: SocketAddr, path in "(/[a-zA-Z0-9_-]{1,9}){0,5}", domain in "[a-z0-9.]{1,20}") {
            // Zone and flow label are not part of the text form.
            let address = SocketAddr::new(address.ip(), address.port());
            prop_assert_eq!(parse_forwarded(&format_forwarded(address)), Some(address));
            let id: SpiffeId = format!("spiffe://{domain}{path}").parse().unwrap();
            let source = Source { id, pod: None, address: None };
            prop_assert_eq!(parse_baggage(&format_baggage(&source)).id, Some(source.id));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}|(for|isthmus.source.id|[;,=\" ]){0,20}") {
            let _ = parse_forwarded(&text);
            let _ = parse_baggage(&text);
        }
    }
}
