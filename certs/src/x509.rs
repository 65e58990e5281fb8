//! What this crate needs to know of a certificate, read once.

use rustls_pki_types::CertificateDer;
use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// From when until when a certificate is valid, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

/// A certificate is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub struct BadCertificate {
    /// What was found.
    pub found: String,
    /// What was expected, as a noun phrase.
    pub expected: String,
}

/// What a certificate says. Nothing is verified.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) serial: String,
    pub(crate) validity: Validity,
    /// URI names among the subject's alternative names.
    pub(crate) uris: Vec<String>,
    pub(crate) is_ca: bool,
    pub(crate) key_usage: Option<KeyUsage>,
}

/// The key usages that SPIFFE has rules for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeyUsage {
    pub(crate) digital_signature: bool,
    pub(crate) cert_sign: bool,
    pub(crate) crl_sign: bool,
}

impl Validity {
    /// Whether `now` lies within.
    pub fn contains(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// How long it lasts from its first moment to its last.
    pub fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }

    /// How long is left; nothing once it is over.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

impl BadCertificate {
    pub(crate) fn new(found: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self { found: found.to_string(), expected: expected.into() }
    }
}

impl Facts {
    /// Reads `der`.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, BadCertificate> {
        let malformed = |why: &dyn fmt::Display| BadCertificate::new(why, "an X.509 certificate");
        let (rest, cert) = X509Certificate::from_der(der).map_err(|e| malformed(&e))?;
        if !rest.is_empty() {
            return Err(malformed(&"bytes after the certificate"));
        }
        let names = cert.subject_alternative_name().map_err(|e| malformed(&e))?;
        let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        let constraints = cert.basic_constraints().map_err(|e| malformed(&e))?;
        let usage = cert.key_usage().map_err(|e| malformed(&e))?;
        let validity = cert.validity();
        Ok(Self {
            subject: cert.subject().to_string(),
            issuer: cert.issuer().to_string(),
            serial: cert.raw_serial_as_string(),
            validity: Validity {
                not_before: moment(validity.not_before.timestamp()),
                not_after: moment(validity.not_after.timestamp()),
            },
            uris: uris.collect(),
            is_ca: constraints.is_some_and(|constraints| constraints.value.ca),
            key_usage: usage.map(|usage| KeyUsage {
                digital_signature: usage.value.digital_signature(),
                cert_sign: usage.value.key_cert_sign(),
                crl_sign: usage.value.crl_sign(),
            }),
        })
    }
}

/// When a certificate expires; `None` if it cannot be read.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    Facts::read(certificate).ok().map(|facts| facts.validity.not_after)
}

/// Seconds since 1970 as a moment. Times before it and beyond what the clock can hold are clamped to it: such a certificate is
/// over, or never is.
fn moment(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}
