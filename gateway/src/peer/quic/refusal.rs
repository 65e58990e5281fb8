//! What an error of quinn's says of a handshake.

use isthmus_certs::HandshakeRefusal;
use quinn::{ConnectionError, TransportErrorCode};

/// Which refusal of a handshake an error is; `None` where it never came to one.
pub(in crate::peer) fn refusal(error: &ConnectionError) -> Option<HandshakeRefusal> {
    match error {
        ConnectionError::TransportError(error) => Some(said(error.code, &error.reason)),
        // The peer's words are its own: which of its rules we broke is in its log.
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => None,
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::crypto(NO_PROTOCOL) => {
            Some(HandshakeRefusal::Alpn)
        }
        ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) => Some(HandshakeRefusal::ByPeer),
        ConnectionError::TimedOut => Some(HandshakeRefusal::Timeout),
        ConnectionError::VersionMismatch => Some(HandshakeRefusal::TlsVersion),
        _ => Some(HandshakeRefusal::Other),
    }
}

/// TLS's alert `no_application_protocol`.
const NO_PROTOCOL: u8 = 120;
/// TLS's alert `certificate_required`.
const NO_CERTIFICATE: u8 = 116;

/// What our own side had against a peer. quinn keeps the text of rustls' error only, and our verifier's refusal is in that.
fn said(code: TransportErrorCode, reason: &str) -> HandshakeRefusal {
    let ours = |word: &&HandshakeRefusal| reason.contains(&format!("reason: {word:?},"));
    if code == TransportErrorCode::crypto(NO_PROTOCOL) {
        HandshakeRefusal::Alpn
    } else if code == TransportErrorCode::crypto(NO_CERTIFICATE) || reason.contains("sent no certificates") {
        HandshakeRefusal::NoCertificate
    } else if let Some(word) = HandshakeRefusal::ALL.iter().find(ours) {
        *word
    } else if (0x100..0x200).contains(&u64::from(code)) {
        HandshakeRefusal::Other
    } else {
        HandshakeRefusal::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_verifier_said_is_found_in_quinns_error() {
        for refusal in [HandshakeRefusal::NotLinked, HandshakeRefusal::WrongTrustDomain, HandshakeRefusal::Expired] {
            let refused = isthmus_certs::RefusedHandshake { reason: refusal, detail: "found a, expected b".into() };
            let text = rustls::Error::from(refused).to_string();
            assert_eq!(said(TransportErrorCode::crypto(46), &text), refusal, "{text}");
        }
        assert_eq!(said(TransportErrorCode::PROTOCOL_VIOLATION, ""), HandshakeRefusal::Malformed);
        assert_eq!(said(TransportErrorCode::crypto(NO_PROTOCOL), ""), HandshakeRefusal::Alpn);
    }
}
