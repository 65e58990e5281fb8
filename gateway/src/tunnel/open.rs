//! What OPEN and OPENED carry on our own transports (docs/wire.md, "OPEN").

use super::{OpenRequest, Refusal, RefusalReason, Source};
use isthmus_control_api::{Protocol, ServicePort};
use prost::Message;

/// OPEN's payload, as Protocol Buffers have it.
#[derive(Clone, PartialEq, Message)]
struct Open {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(string, tag = "3")]
    source_id: String,
    #[prost(string, optional, tag = "4")]
    source_address: Option<String>,
    #[prost(string, optional, tag = "5")]
    traceparent: Option<String>,
    /// In place of `port`, so that a gateway that knows no UDP refuses the stream.
    #[prost(uint32, tag = "6")]
    udp_port: u32,
    #[prost(bool, tag = "7")]
    sticky: bool,
    #[prost(string, optional, tag = "8")]
    source_pod: Option<String>,
    #[prost(bool, tag = "9")]
    elsewhere: bool,
}

/// A request that cannot be read: it is refused, the tunnel goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad OPEN: {0}")]
pub struct BadOpen(String);

/// A request's wire form.
pub fn encode(request: &OpenRequest) -> Vec<u8> {
    let number = u32::from(request.service.port);
    let (port, udp_port) = match request.service.protocol {
        Protocol::Tcp => (number, 0),
        Protocol::Udp => (0, number),
    };
    let open = Open {
        service: request.service.service.as_str().into(),
        port,
        udp_port,
        source_id: request.source.id.as_str().into(),
        source_address: request.source.address.map(|address| address.to_string()),
        traceparent: request.traceparent.clone(),
        sticky: request.sticky,
        source_pod: request.source.pod.as_ref().map(ToString::to_string),
        elsewhere: request.elsewhere,
    };
    open.encode_to_vec()
}

/// Reads a request.
///
/// # Errors
/// It is no Protocol Buffers message, or a field is missing or not as it must be.
pub fn decode(payload: &[u8]) -> Result<OpenRequest, BadOpen> {
    let open = Open::decode(payload).map_err(|e| BadOpen(e.to_string()))?;
    let bad = |e: &dyn std::error::Error| BadOpen(e.to_string());
    let (number, protocol) = match (open.port, open.udp_port) {
        (tcp, 0) => (tcp, Protocol::Tcp),
        (0, udp) => (udp, Protocol::Udp),
        (tcp, udp) => return Err(BadOpen(format!("port {tcp} and UDP port {udp} at once"))),
    };
    let port = u16::try_from(number).ok().filter(|&port| port != 0);
    Ok(OpenRequest {
        service: ServicePort {
            service: open.service.parse().map_err(|e| bad(&e))?,
            port: port.ok_or_else(|| BadOpen(format!("port {number} is not 1 to 65535")))?,
            protocol,
        },
        source: Source {
            id: open.source_id.parse().map_err(|e| bad(&e))?,
            // For people only: what is no pod's name is none.
            pod: open.source_pod.and_then(|pod| pod.parse().ok()),
            address: open.source_address.map(|address| address.parse()).transpose().map_err(|e| bad(&e))?,
        },
        sticky: open.sticky,
        elsewhere: open.elsewhere,
        traceparent: open.traceparent.filter(|text| text.len() <= 128),
    })
}

/// OPENED's status for a refusal; 0 is accepted.
pub fn status_of(reason: RefusalReason) -> u8 {
    match reason {
        RefusalReason::Denied => 1,
        RefusalReason::NoSuchExport => 2,
        RefusalReason::NoEndpoint => 3,
        RefusalReason::Timeout => 4,
        RefusalReason::Limit => 5,
        RefusalReason::Draining => 6,
        RefusalReason::TunnelLost => 7,
        RefusalReason::Source => 8,
    }
}

/// What an OPENED says. Statuses of later versions count as "no endpoint".
pub fn answer(status: u8, retry: bool, message: &[u8]) -> Result<(), Refusal> {
    let reason = match status {
        0 => return Ok(()),
        1 => RefusalReason::Denied,
        2 => RefusalReason::NoSuchExport,
        4 => RefusalReason::Timeout,
        5 => RefusalReason::Limit,
        6 => RefusalReason::Draining,
        7 => RefusalReason::TunnelLost,
        8 => RefusalReason::Source,
        _ => RefusalReason::NoEndpoint,
    };
    // The peer's text goes to logs: nothing in it may end a line or colour a terminal.
    let message = String::from_utf8_lossy(message).chars().filter(|c| !c.is_control()).collect();
    Err(Refusal { reason, message, retry })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = OpenRequest {
            service: ServicePort::tcp("shop/api".parse().unwrap(), 80),
            source: Source {
                id: "spiffe://west.demo/ns/isthmus-system/sa/gateway".parse().unwrap(),
                pod: Some("web-0".parse().unwrap()),
                address: Some("10.0.0.9:4711".parse().unwrap()),
            },
            sticky: true,
            elsewhere: true,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        };
        assert_eq!(decode(&encode(&request)), Ok(request.clone()));
        let service = ServicePort { protocol: Protocol::Udp, ..request.service.clone() };
        let udp = OpenRequest { service, ..request };
        assert_eq!(decode(&encode(&udp)), Ok(udp));
    }

    #[test]
    fn a_gateway_that_knows_no_udp_sees_no_port() {
        let service = ServicePort { service: "shop/dns".parse().unwrap(), port: 53, protocol: Protocol::Udp };
        let source = Source { id: "spiffe://west.demo/ns/a/sa/b".parse().unwrap(), pod: None, address: None };
        let bytes = encode(&OpenRequest { service, source, sticky: false, elsewhere: false, traceparent: None });
        assert_eq!(Open::decode(&*bytes).unwrap().port, 0);
        let both = Open { port: 53, ..Open::decode(&*bytes).unwrap() };
        assert!(decode(&both.encode_to_vec()).is_err());
    }

    /// What older gateways send, and what they make of ours.
    #[test]
    fn a_gateway_that_knows_less_is_asked_for_less() {
        let service = ServicePort::tcp("shop/api".parse().unwrap(), 80);
        let source = Source { id: "spiffe://west.demo/ns/a/sa/b".parse().unwrap(), pod: None, address: None };
        let request = OpenRequest { service, source, sticky: false, elsewhere: false, traceparent: None };
        let (without, with) = (encode(&request), encode(&OpenRequest { sticky: true, ..request.clone() }));
        assert_eq!(decode(&without), Ok(request));
        assert!(with.starts_with(&without) && with[without.len()..] == [7 << 3, 1], "one field more");
        let elsewhere = encode(&OpenRequest { elsewhere: true, ..decode(&without).unwrap() });
        assert!(elsewhere.starts_with(&without) && elsewhere[without.len()..] == [9 << 3, 1], "one field more");
    }

    proptest! {
        #[test]
        fn no_payload_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_refusal_stays_on_one_line(status in 1u8.., retry: bool, message in prop::collection::vec(any::<u8>(), 0..200)) {
            let refusal = answer(status, retry, &message).unwrap_err();
            prop_assert!(!refusal.message.contains(['\n', '\r', '\x1b']));
        }
    }
}
