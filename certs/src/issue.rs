//! A cluster's own CA: makes itself, and signs SVIDs of its trust domain.

use crate::{
    Revoked, SpiffeId, Svid, TrustDomain,
    svid::check_signer,
    x509::{BadCertificate, Facts, Validity},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a cluster's CA certificate lives: ten years.
pub const CA_LIFETIME: Duration = Duration::from_hours(24 * 3652);

/// How long an SVID lives unless asked otherwise: a day.
pub const SVID_LIFETIME: Duration = Duration::from_hours(24);

/// The shortest life of an SVID that can be asked for: the gateway's own is renewed at half of it.
pub const SHORTEST_LIFETIME: Duration = Duration::from_secs(10);

/// How far a certificate's first moment lies before its making, at most, for peers whose clocks are late.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// A cluster's CA. Its `Debug` shows no key.
pub struct Authority {
    domain: TrustDomain,
    certificate: CertificateDer<'static>,
    validity: Validity,
    issuer: Issuer<'static, KeyPair>,
}

/// Why the CA did not sign.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The id belongs to another trust domain.
    #[error("found the id {id}, expected one of this CA's trust domain, spiffe://{domain}/…")]
    OtherTrustDomain {
        /// The id that was asked for.
        id: SpiffeId,
        /// The CA's trust domain.
        domain: TrustDomain,
    },
    /// The id is the trust domain's own, which is the CA's.
    #[error("found the id {0}, expected one with a path: an id without one is the CA's own")]
    NoPath(SpiffeId),
    /// The lifetime is too short or too long.
    #[error("found a lifetime of {}s, expected {}s to {}s", .0.as_secs(), SHORTEST_LIFETIME.as_secs(), CA_LIFETIME.as_secs())]
    Lifetime(Duration),
    /// The CA's own certificate is over, or not yet valid by this machine's clock.
    #[error("the CA of {0} is not valid now: make a new one, or set this machine's clock")]
    CaNotValid(TrustDomain),
    /// The cryptography failed.
    #[error("signing failed: {0}")]
    Crypto(#[from] rcgen::Error),
    /// The CA's certificate is not one.
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    /// The CA's key is not the one of its certificate.
    #[error("found a CA key that does not belong to the CA certificate, expected the key of its pair")]
    KeyMismatch,
}

impl Authority {
    /// Makes a CA for `domain`: a new key and a self-signed certificate.
    ///
    /// # Errors
    /// The cryptography failed.
    pub fn create(domain: TrustDomain, now: SystemTime) -> Result<Self, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let validity = validity(now, CA_LIFETIME);
        let mut params = params(&domain.id(), validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = ca_name(&domain, &params.key_identifier(&key));
        let certificate = params.self_signed(&key)?.into();
        Ok(Self { domain, certificate, validity, issuer: Issuer::new(params, key) })
    }

    /// The CA of this certificate and key.
    ///
    /// # Errors
    /// They are not a CA's, or no pair.
    pub fn load(certificate: CertificateDer<'static>, key: &PrivateKeyDer<'_>) -> Result<Self, IssueError> {
        let facts = Facts::read(&certificate)?;
        let domain = ca_domain(&facts)?;
        let key = KeyPair::try_from(key)?;
        let cert =
            webpki::EndEntityCert::try_from(&certificate).map_err(|e| BadCertificate::new(e, "a CA certificate"))?;
        if cert.subject_public_key_info().as_ref() != key.subject_public_key_info() {
            return Err(IssueError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { domain, validity: facts.validity, certificate, issuer })
    }

    /// The trust domain that it signs for.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Its certificate: what peers take as this cluster's bundle.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When its certificate is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its private key as PEM (PKCS #8), to be written to a file of mode 0600.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Signs a list of all that it has revoked, which is to be the one that counts from `now` on. It ends when the CA does.
    ///
    /// # Errors
    /// The cryptography failed.
    pub fn revocation_list(
        &self,
        revoked: &[Revoked],
        now: SystemTime,
    ) -> Result<CertificateRevocationListDer<'static>, IssueError> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let revoked = revoked.iter().map(|revoked| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&revoked.serial),
            revocation_time: revoked.since.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: self.validity.not_after.max(now + SVID_LIFETIME).into(),
            // Grows with time, as lists of one CA have to.
            crl_number: SerialNumber::from(u64::try_from(since).unwrap_or(u64::MAX)),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.into())
    }

    /// Signs an SVID for `id` with a new key. It never outlives the CA.
    ///
    /// # Errors
    /// The id is not of this trust domain, the CA is not valid now, or the cryptography failed.
    pub fn issue(&self, id: &SpiffeId, lifetime: Duration, now: SystemTime) -> Result<Svid, IssueError> {
        if id.trust_domain() != self.domain.to_string() {
            return Err(IssueError::OtherTrustDomain { id: id.clone(), domain: self.domain.clone() });
        }
        if id.path().is_empty() {
            return Err(IssueError::NoPath(id.clone()));
        }
        if !(SHORTEST_LIFETIME..=CA_LIFETIME).contains(&lifetime) {
            return Err(IssueError::Lifetime(lifetime));
        }
        if !self.validity.contains(now) {
            return Err(IssueError::CaNotValid(self.domain.clone()));
        }
        let mut validity = validity(now, lifetime);
        validity.not_after = validity.not_after.min(self.validity.not_after);
        let mut params = params(id, validity)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = params.signed_by(&key, &self.issuer)?.into();
        Ok(Svid { chain: vec![leaf], key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// The trust domain that a CA certificate of ours names.
fn ca_domain(facts: &Facts) -> Result<TrustDomain, BadCertificate> {
    let [uri] = facts.uris.as_slice() else {
        let found = format!("{} URI names", facts.uris.len());
        return Err(BadCertificate::new(found, "a CA with one URI name, its trust domain's id"));
    };
    let id: SpiffeId = uri.parse().map_err(|e| BadCertificate::new(e, "the trust domain's id as the URI name"))?;
    let domain = TrustDomain::try_from(&id).map_err(|e| BadCertificate::new(e, "a cluster's trust domain"))?;
    check_signer(facts, &domain)?;
    Ok(domain)
}

/// A validity that is `lifetime` long in all, and begins a little before `now`.
fn validity(now: SystemTime, lifetime: Duration) -> Validity {
    // Certificates know whole seconds only.
    let now = UNIX_EPOCH + Duration::from_secs(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let not_before = now - Duration::from_secs(CLOCK_SKEW.min(lifetime / 10).as_secs());
    Validity { not_before, not_after: not_before + lifetime }
}

/// What the CA's certificate and leaves have in common. A leaf has no subject: its name is the URI.
fn params(id: &SpiffeId, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    Ok(params)
}

/// A name that no other CA has, so that chains of the old and the new one cannot be confused when a CA is replaced.
fn ca_name(domain: &TrustDomain, key_identifier: &[u8]) -> DistinguishedName {
    let serial: String = key_identifier.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Isthmus");
    // A common name has at most 64 characters; a cluster's name has 63.
    name.push(DnType::CommonName, domain.cluster.as_str());
    // 2.5.4.5 is serialNumber.
    name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), serial);
    name
}
