//! ● Refusals as HTTP has them: a status that everybody understands, and `isthmus-reason` for what the status does not say.
//!
//! `isthmus-reason: <reason> <retry|final> <message>`, for example `no_endpoint retry all 2 endpoints refused`.

use crate::tunnel::{Refusal, RefusalReason};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The header that says why.
pub const REASON: HeaderName = HeaderName::from_static("isthmus-reason");
/// What a [`Refusal`]'s message is cut to.
const LONGEST: usize = 200;

/// The status that stands for a reason.
pub fn status(reason: RefusalReason) -> StatusCode {
    match reason {
        RefusalReason::Denied => StatusCode::FORBIDDEN,
        RefusalReason::NoSuchExport => StatusCode::NOT_FOUND,
        RefusalReason::Timeout => StatusCode::GATEWAY_TIMEOUT,
        RefusalReason::NoEndpoint
        | RefusalReason::Limit
        | RefusalReason::Draining
        | RefusalReason::TunnelLost
        | RefusalReason::Source => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The `isthmus-reason` header's value.
pub fn format(refusal: &Refusal) -> HeaderValue {
    let retry = if refusal.retry { "retry" } else { "final" };
    let text = format!("{} {retry} {}", refusal.reason, one_line(&refusal.message));
    // It is of visible ASCII and spaces only; a reason without words is better than a panic where that is wrong.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(refusal.reason.as_str()))
}

/// What an answer that is not a success says: by its `isthmus-reason`, or by the bare status as others send it.
pub fn parse(status: StatusCode, headers: &HeaderMap) -> Refusal {
    let text = headers.get(REASON).and_then(|value| value.to_str().ok());
    text.and_then(parse_reason).unwrap_or_else(|| bare(status))
}

fn parse_reason(text: &str) -> Option<Refusal> {
    let mut parts = text.splitn(3, ' ');
    let reason = match parts.next()? {
        "denied" => RefusalReason::Denied,
        "no_such_export" => RefusalReason::NoSuchExport,
        "no_endpoint" => RefusalReason::NoEndpoint,
        "timeout" => RefusalReason::Timeout,
        "limit" => RefusalReason::Limit,
        "draining" => RefusalReason::Draining,
        "tunnel_lost" => RefusalReason::TunnelLost,
        "source" => RefusalReason::Source,
        _ => return None,
    };
    let retry = match parts.next()? {
        "retry" => true,
        "final" => false,
        _ => return None,
    };
    Some(Refusal { reason, message: one_line(parts.next().unwrap_or_default()), retry })
}

/// A status without our header. That another cluster has the service, or another try helps, is likely unless it was forbidden or
/// our own request was bad.
fn bare(status: StatusCode) -> Refusal {
    let (reason, retry) = match status {
        StatusCode::NOT_FOUND => (RefusalReason::NoSuchExport, true),
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => (RefusalReason::Timeout, true),
        StatusCode::TOO_MANY_REQUESTS => (RefusalReason::Limit, true),
        status if status.is_client_error() => (RefusalReason::Denied, false),
        _ => (RefusalReason::NoEndpoint, true),
    };
    Refusal { reason, message: format!("the peer answered {status}"), retry }
}

/// Cut to its length, with nothing in it that a header or a line of a log cannot hold.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [RefusalReason; 8] = [
        RefusalReason::Denied,
        RefusalReason::NoSuchExport,
        RefusalReason::NoEndpoint,
        RefusalReason::Timeout,
        RefusalReason::Limit,
        RefusalReason::Draining,
        RefusalReason::TunnelLost,
        RefusalReason::Source,
    ];

    fn read(refusal: &Refusal) -> Refusal {
        let headers = HeaderMap::from_iter([(REASON, format(refusal))]);
        parse(status(refusal.reason), &headers)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(reason in 0..ALL.len(), retry: bool, message in "[ -~]{0,200}") {
            let refusal = Refusal { reason: ALL[reason], message, retry };
            prop_assert_eq!(read(&refusal), refusal);
        }

        #[test]
        fn any_message_is_one_line(message in ".{0,300}|[\\n\\r\\x00é]{0,300}") {
            let read = read(&Refusal { reason: RefusalReason::Denied, message, retry: false });
            prop_assert!(read.message.len() <= LONGEST && read.message.bytes().all(|b| (b' '..=b'~').contains(&b)));
        }

        #[test]
        fn no_answer_panics(code in 100_u16..1000, value in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(REASON, value);
            }
            prop_assert!(parse(StatusCode::from_u16(code).unwrap(), &headers).message.len() <= LONGEST);
        }
    }

    #[test]
    fn bare_statuses_as_envoy_sends_them() {
        let read = |code: u16| {
            let refusal = parse(StatusCode::from_u16(code).unwrap(), &HeaderMap::new());
            (refusal.reason, refusal.retry)
        };
        assert_eq!(read(403), (RefusalReason::Denied, false));
        assert_eq!(read(404), (RefusalReason::NoSuchExport, true));
        assert_eq!(read(503), (RefusalReason::NoEndpoint, true));
        assert_eq!(read(504), (RefusalReason::Timeout, true));
        assert_eq!(read(502), (RefusalReason::NoEndpoint, true));
        assert_eq!(read(400), (RefusalReason::Denied, false));
    }
}
