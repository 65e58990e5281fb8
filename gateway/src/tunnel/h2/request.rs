//! ● A stream's request as an HTTP/2 CONNECT and back (docs/hbone.md).

use super::{authority, refusal, source};
use crate::tunnel::{OpenRequest, PeerIdentity, Refusal, RefusalReason, Source};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header::FORWARDED};

const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// There if the client is to stay with an endpoint.
const STICKY: HeaderName = HeaderName::from_static("isthmus-sticky");
/// There if another cluster may serve the stream.
const ELSEWHERE: HeaderName = HeaderName::from_static("isthmus-elsewhere");

/// The `:authority` of a request, as `http` has it; to be kept for other streams to the same service.
///
/// # Errors
/// `http` does not take it. It takes all that there are.
pub fn uri(request: &OpenRequest) -> Result<Uri, http::Error> {
    Ok(Uri::try_from(authority::format(&request.service))?)
}

/// The CONNECT that asks for `request`.
///
/// # Errors
/// A value cannot be a header: a `traceparent` with control characters.
pub fn encode(uri: Uri, request: &OpenRequest) -> Result<Request<()>, http::Error> {
    let mut connect = Request::new(());
    *connect.method_mut() = Method::CONNECT;
    *connect.uri_mut() = uri;
    let headers = connect.headers_mut();
    headers.insert(BAGGAGE, HeaderValue::try_from(source::format_baggage(&request.source))?);
    if let Some(address) = request.source.address {
        headers.insert(FORWARDED, HeaderValue::try_from(source::format_forwarded(address))?);
    }
    if request.sticky {
        headers.insert(STICKY, HeaderValue::from_static("true"));
    }
    if request.elsewhere {
        headers.insert(ELSEWHERE, HeaderValue::from_static("true"));
    }
    if let Some(traceparent) = &request.traceparent {
        headers.insert(TRACEPARENT, HeaderValue::try_from(traceparent)?);
    }
    Ok(connect)
}

/// What a CONNECT of `peer` asks for. One that does not say for whom is for the peer itself.
///
/// # Errors
/// What to refuse it with.
pub fn decode<B>(connect: &Request<B>, peer: &PeerIdentity) -> Result<OpenRequest, Refusal> {
    let unknown = |message| Refusal { reason: RefusalReason::NoSuchExport, message, retry: false };
    if connect.method() != Method::CONNECT {
        return Err(unknown(format!("method {} is not CONNECT", connect.method())));
    }
    let authority = connect.uri().authority().ok_or_else(|| unknown("there is no authority".into()))?;
    let service = authority::parse(authority.as_str()).map_err(|e| unknown(e.to_string()))?;
    let headers = connect.headers();
    let baggage = text(headers, &BAGGAGE).map(source::parse_baggage).unwrap_or_default();
    let id = baggage.id.unwrap_or_else(|| peer.id.clone());
    let address = text(headers, &FORWARDED).and_then(source::parse_forwarded);
    let traceparent = text(headers, &TRACEPARENT).filter(|text| text.len() <= 128).map(str::to_owned);
    Ok(OpenRequest {
        service,
        source: Source { id, pod: baggage.pod, address },
        sticky: headers.contains_key(STICKY),
        elsewhere: headers.contains_key(ELSEWHERE),
        traceparent,
    })
}

/// The answer that accepts.
pub fn accepted() -> Response<()> {
    Response::new(())
}

/// The answer that refuses.
pub fn refused(refusal: &Refusal) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = refusal::status(refusal.reason);
    response.headers_mut().insert(refusal::REASON, refusal::format(refusal));
    response
}

/// What an answer says. Every success is one, as RFC 9110 section 9.3.6 has it.
///
/// # Errors
/// It was refused.
pub fn answer<B>(response: &Response<B>) -> Result<(), Refusal> {
    if response.status().is_success() { Ok(()) } else { Err(refusal::parse(response.status(), response.headers())) }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::ServicePort;
    use proptest::prelude::*;

    fn peer() -> PeerIdentity {
        let id = "spiffe://west.demo/ns/isthmus-system/sa/gateway".parse().unwrap();
        PeerIdentity { cluster: "west".parse().unwrap(), id, gateway: Default::default() }
    }

    fn request() -> OpenRequest {
        OpenRequest {
            service: ServicePort::tcp("shop/api".parse().unwrap(), 80),
            source: Source {
                id: "spiffe://west.demo/ns/shop/sa/web".parse().unwrap(),
                pod: Some("web-0".parse().unwrap()),
                address: Some("[2001:db8::1]:4711".parse().unwrap()),
            },
            sticky: true,
            elsewhere: true,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let request = request();
        let connect = encode(uri(&request).unwrap(), &request).unwrap();
        assert_eq!(connect.uri().authority().unwrap(), "api.shop.svc.clusterset.local:80");
        assert_eq!(decode(&connect, &peer()), Ok(request));
    }

    #[test]
    fn a_peer_that_says_nothing_speaks_for_itself() {
        let mut connect = Request::new(());
        *connect.method_mut() = Method::CONNECT;
        *connect.uri_mut() = Uri::from_static("api.shop.svc.clusterset.local:80");
        let read = decode(&connect, &peer()).unwrap();
        assert_eq!(read.source, Source { id: peer().id, pod: None, address: None });
    }

    #[test]
    fn only_connect_to_a_service_will_do() {
        for (method, uri) in [
            (Method::GET, "http://api.shop.svc.clusterset.local:80/"),
            (Method::CONNECT, "10.0.0.1:80"),
            (Method::CONNECT, "/"),
        ] {
            let mut connect = Request::new(());
            *connect.method_mut() = method;
            *connect.uri_mut() = Uri::from_static(uri);
            assert_eq!(decode(&connect, &peer()).unwrap_err().reason, RefusalReason::NoSuchExport, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 3)) {
            let mut connect = Request::new(());
            *connect.method_mut() = Method::CONNECT;
            *connect.uri_mut() = Uri::from_static("api.shop.svc.clusterset.local:80");
            for (name, value) in [BAGGAGE, FORWARDED, TRACEPARENT].into_iter().zip(&values) {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    connect.headers_mut().insert(name, value);
                }
            }
            let _ = decode(&connect, &peer());
        }
    }
}
