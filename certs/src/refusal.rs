//! Why a handshake did not come about: a word for metrics, a line for the log.

use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};
use std::{fmt, sync::Arc};

/// The kinds of refused handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandshakeRefusal {
    /// The peer's id is of another trust domain than the link names, or of another clusterset.
    WrongTrustDomain,
    /// No link with the peer's cluster.
    NotLinked,
    /// A certificate of the peer's chain, or the whole bundle, is over.
    Expired,
    /// A certificate of the peer's chain is not valid yet: look at both clocks.
    NotYetValid,
    /// A certificate of the peer's chain was revoked.
    Revoked,
    /// The chain does not end in the bundle of the trust domain that the peer's id claims.
    UnknownIssuer,
    /// The peer's leaf breaks a rule of X.509-SVIDs, or is no gateway's.
    BadSvid,
    /// The peer does not speak TLS 1.3.
    TlsVersion,
    /// No common application protocol.
    Alpn,
    /// The peer showed no certificate.
    NoCertificate,
    /// What came was not TLS, or broke its rules.
    Malformed,
    /// The handshake was not over in time.
    Timeout,
    /// The peer sent an alert: it refused us, and its log says why.
    ByPeer,
    /// Anything else.
    Other,
}

/// A refused handshake, with one line for the log that says what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct RefusedHandshake {
    /// The kind.
    pub reason: HandshakeRefusal,
    /// What was found and what was expected. What the peer sent is cut and escaped in it.
    pub detail: String,
}

impl HandshakeRefusal {
    /// All kinds, for metrics that start at zero.
    pub const ALL: [Self; 14] = [
        Self::WrongTrustDomain,
        Self::NotLinked,
        Self::Expired,
        Self::NotYetValid,
        Self::Revoked,
        Self::UnknownIssuer,
        Self::BadSvid,
        Self::TlsVersion,
        Self::Alpn,
        Self::NoCertificate,
        Self::Malformed,
        Self::Timeout,
        Self::ByPeer,
        Self::Other,
    ];

    /// A word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrongTrustDomain => "wrong_trust_domain",
            Self::NotLinked => "not_linked",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::UnknownIssuer => "unknown_issuer",
            Self::BadSvid => "bad_svid",
            Self::TlsVersion => "tls_version",
            Self::Alpn => "alpn",
            Self::NoCertificate => "no_certificate",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::ByPeer => "by_peer",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for HandshakeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RefusedHandshake {
    pub(crate) fn new(reason: HandshakeRefusal, found: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Self { reason, detail: format!("found {found}, expected {expected}") }
    }
}

impl From<RefusedHandshake> for Error {
    fn from(refused: RefusedHandshake) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

impl From<&Error> for RefusedHandshake {
    fn from(error: &Error) -> Self {
        if let Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error
            && let Some(refused) = inner.downcast_ref::<Self>()
        {
            return refused.clone();
        }
        let reason = kind(error);
        let detail = match (reason, error) {
            (HandshakeRefusal::TlsVersion, _) => format!("found {error}, expected TLS 1.3"),
            (HandshakeRefusal::Alpn, _) => "found no application protocol (ALPN) in common, expected one".into(),
            (_, Error::AlertReceived(alert)) => format!("the peer refused with the alert {alert:?}: see its log"),
            _ => error.to_string(),
        };
        Self { reason, detail }
    }
}

impl From<&Error> for HandshakeRefusal {
    fn from(error: &Error) -> Self {
        RefusedHandshake::from(error).reason
    }
}

/// The kind of an error that is not one of ours.
fn kind(error: &Error) -> HandshakeRefusal {
    match error {
        Error::InvalidCertificate(error) => certificate_kind(error),
        Error::NoCertificatesPresented => HandshakeRefusal::NoCertificate,
        Error::NoApplicationProtocol => HandshakeRefusal::Alpn,
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => HandshakeRefusal::TlsVersion,
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => HandshakeRefusal::Alpn,
        Error::AlertReceived(_) => HandshakeRefusal::ByPeer,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::InvalidMessage(_)
        | Error::DecryptError
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord => HandshakeRefusal::Malformed,
        _ => HandshakeRefusal::Other,
    }
}

fn certificate_kind(error: &CertificateError) -> HandshakeRefusal {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => HandshakeRefusal::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => HandshakeRefusal::NotYetValid,
        CertificateError::UnknownIssuer => HandshakeRefusal::UnknownIssuer,
        CertificateError::BadEncoding | CertificateError::BadSignature => HandshakeRefusal::Malformed,
        _ => HandshakeRefusal::BadSvid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_rustls() {
        let refused = RefusedHandshake::new(HandshakeRefusal::NotLinked, "spiffe://a.b", "a linked cluster");
        let error = Error::from(refused.clone());
        assert_eq!(RefusedHandshake::from(&error), refused);
        assert_eq!(HandshakeRefusal::from(&error), HandshakeRefusal::NotLinked);
        assert_eq!(refused.to_string(), "not_linked: found spiffe://a.b, expected a linked cluster");
    }

    #[test]
    fn words_are_distinct() {
        let words: std::collections::BTreeSet<_> = HandshakeRefusal::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), HandshakeRefusal::ALL.len());
    }
}
