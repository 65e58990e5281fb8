//! Identities as texts (PEM), for where they lie in no directory: in Secrets of Kubernetes.

use crate::{
    Authority, BadCertificate, Identity, Revoked, Svid, TrustAnchors, TrustDomain, introduce, issue::IssueError, pem,
};
use std::time::SystemTime;

impl Authority {
    /// The CA of a certificate, the first of `certificates`, and its key.
    ///
    /// # Errors
    /// They are not a CA's, or no pair.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IssueError> {
        let mut certificates = pem::certificates(certificates)?;
        Self::load(certificates.swap_remove(0), &pem::private_key(key)?)
    }

    /// Its certificate and its private key: the second is a secret.
    pub fn to_pem(&self) -> (String, String) {
        (pem::encode([self.certificate()]), self.key_pem())
    }

    /// A list of what it has revoked, signed `now`.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn revocation_list_pem(&self, revoked: &[Revoked], now: SystemTime) -> Result<String, IssueError> {
        self.revocation_list(revoked, now).map(|list| pem::encode_list(&list))
    }
}

impl Svid {
    /// The SVID of a chain, leaf first, and the leaf's key.
    ///
    /// # Errors
    /// They are no certificates, or no key. Whether they belong together is not looked at.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, BadCertificate> {
        Ok(Self { chain: pem::certificates(chain)?, key: pem::private_key(key)? })
    }

    /// Its chain and its private key: the second is a secret.
    pub fn to_pem(&self) -> (String, String) {
        (pem::encode(&self.chain), pem::encode_key(&self.key))
    }
}

impl TrustAnchors {
    /// The CA certificates of `domain` in `text`, and nothing else.
    ///
    /// # Errors
    /// They are not that; says what was found.
    pub fn from_pem(domain: TrustDomain, text: &[u8]) -> Result<Self, BadCertificate> {
        Self::new(domain, pem::certificates(text)?)
    }

    /// The same with the revocation lists in `text`, instead of any before.
    ///
    /// # Errors
    /// They are not lists that one of the certificates has signed.
    pub fn with_revocations_from_pem(self, text: &[u8]) -> Result<Self, BadCertificate> {
        self.with_revocations(pem::revocation_lists(text)?)
    }

    /// The certificates.
    pub fn to_pem(&self) -> String {
        pem::encode(self.certificates())
    }
}

/// The identity of a gateway that `svid` is, if `bundle` issued it, it is valid `now` and the key is its own.
///
/// # Errors
/// What is wrong with it.
pub fn gateway(svid: Svid, bundle: &TrustAnchors, now: SystemTime) -> Result<Identity, BadCertificate> {
    let identity = Identity::new(svid, [])?;
    if *identity.id() != bundle.domain().gateway() {
        return Err(BadCertificate::new(identity.id(), format!("the id {}", bundle.domain().gateway())));
    }
    introduce::issuer(&identity, bundle, now)
        .map_err(|why| BadCertificate::new(why, "an SVID of this cluster's CA"))?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::SVID_LIFETIME;
    use std::time::Duration;

    fn authority(cluster: &str) -> Authority {
        let domain = format!("{cluster}.demo").parse().unwrap();
        Authority::create(domain, SystemTime::now()).unwrap()
    }

    #[test]
    fn a_ca_and_what_it_signs_are_the_same_after_the_way_through_texts() {
        let now = SystemTime::now();
        let (certificate, key) = authority("west").to_pem();
        let west = Authority::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        let bundle = TrustAnchors::from_pem(west.domain().clone(), certificate.as_bytes()).unwrap();
        assert_eq!(bundle.to_pem(), certificate);
        let (chain, key) = west.issue(&west.domain().gateway(), SVID_LIFETIME, now).unwrap().to_pem();
        let svid = || Svid::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        gateway(svid(), &bundle, now).unwrap();
        gateway(svid(), &bundle, now + SVID_LIFETIME * 2).unwrap_err();
        let other = authority("west");
        let other = TrustAnchors::from_pem(other.domain().clone(), other.to_pem().0.as_bytes()).unwrap();
        gateway(svid(), &other, now).unwrap_err();
    }

    #[test]
    fn a_key_of_another_certificate_and_another_id_are_refused() {
        let now = SystemTime::now();
        let west = authority("west");
        let bundle = TrustAnchors::from_pem(west.domain().clone(), west.to_pem().0.as_bytes()).unwrap();
        let issue = |role: &str| {
            let id = format!("{}/ns/isthmus-system/sa/{role}", west.domain().id()).parse().unwrap();
            west.issue(&id, Duration::from_hours(1), now).unwrap().to_pem()
        };
        let ((chain, _), (_, key)) = (issue("gateway"), issue("gateway"));
        gateway(Svid::from_pem(chain.as_bytes(), key.as_bytes()).unwrap(), &bundle, now).unwrap_err();
        let (chain, key) = issue("control");
        let refused = gateway(Svid::from_pem(chain.as_bytes(), key.as_bytes()).unwrap(), &bundle, now).unwrap_err();
        assert!(refused.to_string().contains("sa/control"), "{refused}");
        let (certificate, _) = authority("west").to_pem();
        let (_, key) = west.to_pem();
        assert!(matches!(Authority::from_pem(certificate.as_bytes(), key.as_bytes()), Err(IssueError::KeyMismatch)));
    }
}
