//! Certificates for tests: good ones, and with rcgen those that our own CA would never make.

use crate::{Authority, Identity, IdentityStore, Role, Svid, TrustAnchors, TrustDomain, issue::SVID_LIFETIME};
use isthmus_control_api::ClusterName;
use rcgen::{CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::time::{Duration, SystemTime};

/// A cluster with its CA.
pub(super) struct Cluster {
    pub(super) domain: TrustDomain,
    pub(super) authority: Authority,
}

impl Cluster {
    pub(super) fn new(domain: &str) -> Self {
        let domain: TrustDomain = domain.parse().unwrap();
        Self { authority: Authority::create(domain.clone(), SystemTime::now()).unwrap(), domain }
    }

    pub(super) fn name(&self) -> ClusterName {
        self.domain.cluster.clone()
    }

    pub(super) fn bundle(&self) -> TrustAnchors {
        TrustAnchors::new(self.domain.clone(), vec![self.authority.certificate().clone()]).unwrap()
    }

    pub(super) fn svid(&self) -> Svid {
        self.authority.issue(&self.domain.gateway(), SVID_LIFETIME, SystemTime::now()).unwrap()
    }

    /// An SVID as it was issued at another time.
    pub(super) fn svid_issued(&self, at: SystemTime, lifetime: Duration) -> Svid {
        // The CA itself was made just now: sign by hand what it would refuse to.
        let mut params = leaf(&[self.domain.gateway().as_str()]);
        params.not_before = at.into();
        params.not_after = (at + lifetime).into();
        self.sign(&params)
    }

    /// Signs whatever `params` say with this cluster's CA.
    pub(super) fn sign(&self, params: &CertificateParams) -> Svid {
        let key = self.ca_key();
        let issuer = Issuer::from_ca_cert_der(self.authority.certificate(), key).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        svid(vec![cert.into()], &key)
    }

    pub(super) fn ca_key(&self) -> KeyPair {
        KeyPair::from_pem(&self.authority.key_pem()).unwrap()
    }

    /// Its identity, trusting `peers`.
    pub(super) fn identity(&self, peers: &[&Self]) -> Identity {
        Identity::new(self.svid(), peers.iter().map(|peer| peer.bundle())).unwrap()
    }

    /// The identity of its process of that role, which knows its own cluster.
    pub(super) fn process(&self, role: Role) -> IdentityStore {
        let svid = self.authority.issue(&self.domain.process(role), SVID_LIFETIME, SystemTime::now()).unwrap();
        IdentityStore::new(Identity::new(svid, []).unwrap().with_own(Some(self.bundle())))
    }

    pub(super) fn store(&self, peers: &[&Self]) -> IdentityStore {
        IdentityStore::new(self.identity(peers))
    }
}

pub(super) fn svid(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Svid {
    Svid { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
}

/// Parameters of a leaf that keeps all rules, with these URI names.
pub(super) fn leaf(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_mins(1)).into();
    params.not_after = (now + Duration::from_hours(1)).into();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params
}
