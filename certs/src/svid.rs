//! X.509-SVIDs, as the SPIFFE X.509-SVID standard has them (sections 2 to 5).

use crate::{
    Role, SpiffeId, TrustDomain,
    x509::{BadCertificate, Facts, Validity},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;

/// A certificate chain, leaf first, and the leaf's private key. Its `Debug` shows no key.
pub struct Svid {
    /// The leaf, then intermediates if there are any.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
}

impl Svid {
    /// When its leaf is valid.
    ///
    /// # Errors
    /// The chain has no leaf, or it cannot be read.
    pub fn validity(&self) -> Result<Validity, BadCertificate> {
        let leaf = self.chain.first().ok_or_else(|| BadCertificate::new("no certificate", "a leaf"))?;
        Facts::read(leaf).map(|facts| facts.validity)
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// The SPIFFE id of a leaf that keeps the standard's rules for leaves.
pub(crate) fn leaf_id(facts: &Facts) -> Result<SpiffeId, BadCertificate> {
    if facts.is_ca {
        return Err(BadCertificate::new("a CA certificate", "a leaf (basic constraints CA:FALSE)"));
    }
    let usage = facts.key_usage.ok_or_else(|| BadCertificate::new("no key usage", "key usage digitalSignature"))?;
    if !usage.digital_signature {
        return Err(BadCertificate::new("a key usage without digitalSignature", "key usage digitalSignature"));
    }
    if usage.cert_sign || usage.crl_sign {
        return Err(BadCertificate::new("key usage keyCertSign or cRLSign", "a leaf, which may not sign certificates"));
    }
    match facts.uris.as_slice() {
        [uri] => uri.parse().map_err(|e| BadCertificate::new(e, "a SPIFFE id as the URI name")),
        uris => Err(BadCertificate::new(format_args!("{} URI names", uris.len()), "exactly one, the SPIFFE id")),
    }
}

/// The leaf's SPIFFE id and trust domain, which must have the form of a gateway's.
pub(crate) fn gateway_id(facts: &Facts) -> Result<(TrustDomain, SpiffeId), BadCertificate> {
    let (domain, id) = domain_and_id(facts)?;
    if id != domain.gateway() {
        return Err(BadCertificate::new(id, format!("a gateway's id, here {}", domain.gateway())));
    }
    Ok((domain, id))
}

/// The same of a gateway or a control.
pub(crate) fn process_id(facts: &Facts) -> Result<(TrustDomain, SpiffeId, Role), BadCertificate> {
    let (domain, id) = domain_and_id(facts)?;
    let role = [Role::Gateway, Role::Control].into_iter().find(|role| role.path() == id.path());
    let role = role.ok_or_else(|| BadCertificate::new(&id, format!("a gateway's id, here {}", domain.gateway())))?;
    Ok((domain, id, role))
}

fn domain_and_id(facts: &Facts) -> Result<(TrustDomain, SpiffeId), BadCertificate> {
    let id = leaf_id(facts)?;
    let domain = TrustDomain::try_from(&id)
        .map_err(|_| BadCertificate::new(&id, "a gateway's id in a trust domain <cluster>.<clusterset>"))?;
    Ok((domain, id))
}

/// Checks that `facts` are of a CA that may sign revocation lists.
pub(crate) fn check_list_signer(facts: &Facts) -> Result<(), BadCertificate> {
    if facts.key_usage.is_some_and(|usage| !usage.crl_sign) {
        return Err(BadCertificate::new(
            "a revocation list of a CA whose key usage lacks cRLSign",
            "key usage cRLSign",
        ));
    }
    Ok(())
}

/// Checks that `facts` are of a certificate that may sign SVIDs of `domain`.
pub(crate) fn check_signer(facts: &Facts, domain: &TrustDomain) -> Result<(), BadCertificate> {
    if !facts.is_ca {
        let subject: String = facts.subject.chars().take(200).collect();
        let found = format!("a certificate that is no CA ({subject:?})");
        return Err(BadCertificate::new(found, "a CA certificate (basic constraints CA:TRUE)"));
    }
    if facts.key_usage.is_some_and(|usage| !usage.cert_sign) {
        return Err(BadCertificate::new("a CA whose key usage lacks keyCertSign", "key usage keyCertSign"));
    }
    match facts.uris.as_slice() {
        [] => Ok(()),
        [uri] if *uri == domain.id().as_str() => Ok(()),
        [uri] => {
            let found = format!("the CA of {:?}", uri.chars().take(200).collect::<String>());
            Err(BadCertificate::new(found, format!("the CA of {}", domain.id())))
        }
        uris => Err(BadCertificate::new(format_args!("a CA with {} URI names", uris.len()), "at most one")),
    }
}
