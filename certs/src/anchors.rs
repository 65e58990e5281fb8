//! Trust bundles: the CA certificates of one trust domain.

use crate::{
    Revocations, TrustDomain, svid,
    x509::{BadCertificate, Facts, Validity},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor};
use std::time::SystemTime;

/// How many CA certificates a bundle may have: more than any rotation needs, few enough to try them all.
const MOST_ANCHORS: usize = 16;

/// The CA certificates that may sign for one trust domain, checked when the bundle was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustAnchors {
    domain: TrustDomain,
    anchors: Vec<Anchor>,
    revocations: Revocations,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Anchor {
    certificate: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    validity: Validity,
}

impl TrustAnchors {
    /// Checks that `certificates` are CA certificates of `domain` and nothing else, one at least.
    ///
    /// # Errors
    /// They are not; says which and why.
    pub fn new(domain: TrustDomain, certificates: Vec<CertificateDer<'static>>) -> Result<Self, BadCertificate> {
        if certificates.is_empty() || certificates.len() > MOST_ANCHORS {
            let found = format!("{} certificates", certificates.len());
            return Err(BadCertificate::new(found, format!("1 to {MOST_ANCHORS} CA certificates of {}", domain.id())));
        }
        let anchors = certificates.into_iter().map(|cert| Anchor::new(cert, &domain)).collect::<Result<_, _>>()?;
        Ok(Self { domain, anchors, revocations: Revocations::default() })
    }

    /// The same with these revocation lists, instead of any before.
    ///
    /// # Errors
    /// They are not lists that one of the certificates has signed.
    pub fn with_revocations(
        mut self,
        lists: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, BadCertificate> {
        let issuers: Vec<_> = self.certificates().collect();
        self.revocations = Revocations::new(lists, &issuers)?;
        Ok(self)
    }

    /// The certificates of the trust domain that count no more.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Whose they are.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The certificates.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.anchors.iter().map(|anchor| &anchor.certificate)
    }

    /// When each of them is valid.
    pub fn validities(&self) -> impl Iterator<Item = Validity> {
        self.anchors.iter().map(|anchor| anchor.validity)
    }

    /// When the first of them begins to be valid.
    pub(crate) fn begins(&self) -> Option<SystemTime> {
        self.validities().map(|validity| validity.not_before).min()
    }

    /// Those that are valid at `now`. webpki does not look at an anchor's own dates.
    pub(crate) fn valid_at(
        &self,
        now: SystemTime,
    ) -> impl Iterator<Item = (&CertificateDer<'static>, &TrustAnchor<'static>)> {
        let valid = self.anchors.iter().filter(move |anchor| anchor.validity.contains(now));
        valid.map(|anchor| (&anchor.certificate, &anchor.anchor))
    }
}

impl Anchor {
    fn new(certificate: CertificateDer<'static>, domain: &TrustDomain) -> Result<Self, BadCertificate> {
        let facts = Facts::read(&certificate)?;
        svid::check_signer(&facts, domain)?;
        let anchor = webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|e| BadCertificate::new(e, "a CA certificate that can be a trust anchor"))?
            .to_owned();
        Ok(Self { validity: facts.validity, certificate, anchor })
    }
}
