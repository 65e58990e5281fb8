//! Who this process is and whom it can recognise, as one immutable value.

use crate::{
    Role, SpiffeId, Svid, TrustAnchors, TrustDomain, svid, tls,
    x509::{BadCertificate, Facts, Validity},
};
use isthmus_control_api::ClusterName;
use rustls::sign::CertifiedKey;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A gateway's or control's own SVID and the bundles of the clusters that it trusts. Never changed: a rotation makes another one.
#[derive(Clone)]
pub struct Identity {
    domain: TrustDomain,
    id: SpiffeId,
    role: Role,
    validity: Validity,
    issuer: String,
    serial: String,
    certified: Arc<CertifiedKey>,
    bundles: BTreeMap<ClusterName, TrustAnchors>,
    own: Option<TrustAnchors>,
}

impl Identity {
    /// Checks that `svid` is a gateway's or a control's, that its key belongs to it, and that each bundle is of a peer in the same clusterset.
    ///
    /// # Errors
    /// One of these is not so. Validity in time is not looked at: an SVID that is over can still be replaced.
    pub fn new(svid: Svid, bundles: impl IntoIterator<Item = TrustAnchors>) -> Result<Self, BadCertificate> {
        let Svid { chain, key } = svid;
        let leaf = chain.first().ok_or_else(|| BadCertificate::new("no certificate", "an SVID"))?;
        let facts = Facts::read(leaf)?;
        let (domain, id, role) = svid::process_id(&facts)?;
        let key = tls::provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| BadCertificate::new("a private key of an unknown kind", "an ECDSA, Ed25519 or RSA key"))?;
        let certified = CertifiedKey::new(chain, key);
        certified
            .keys_match()
            .map_err(|_| BadCertificate::new("a private key of another certificate", "the key of the SVID"))?;
        let mut identity = Self {
            domain,
            id,
            role,
            validity: facts.validity,
            issuer: facts.issuer,
            serial: facts.serial,
            certified: Arc::new(certified),
            bundles: BTreeMap::new(),
            own: None,
        };
        bundles.into_iter().try_for_each(|bundle| identity.trust(bundle))?;
        Ok(identity)
    }

    /// The same with the CA certificates of its own trust domain, by which it recognises its own cluster's processes. Those of
    /// another trust domain are not taken.
    #[must_use]
    pub fn with_own(mut self, own: Option<TrustAnchors>) -> Self {
        self.own = own.filter(|own| *own.domain() == self.domain);
        self
    }

    /// An identity of `domain` whose SVID may be anything: what a dishonest peer would use.
    #[cfg(test)]
    pub(crate) fn forged(svid: Svid, domain: TrustDomain, bundles: impl IntoIterator<Item = TrustAnchors>) -> Self {
        let facts = Facts::read(&svid.chain[0]).unwrap();
        let key = tls::provider().key_provider.load_private_key(svid.key).unwrap();
        let mut identity = Self {
            id: domain.gateway(),
            role: Role::Gateway,
            domain,
            validity: facts.validity,
            issuer: facts.issuer,
            serial: facts.serial,
            certified: Arc::new(CertifiedKey::new(svid.chain, key)),
            bundles: BTreeMap::new(),
            own: None,
        };
        bundles.into_iter().try_for_each(|bundle| identity.trust(bundle)).unwrap();
        identity
    }

    fn trust(&mut self, bundle: TrustAnchors) -> Result<(), BadCertificate> {
        let domain = bundle.domain();
        if domain.clusterset != self.domain.clusterset || domain.cluster == self.domain.cluster {
            let expected = format!("the bundle of another cluster of the clusterset {}", self.domain.clusterset);
            return Err(BadCertificate::new(format_args!("the bundle of {domain}"), expected));
        }
        self.bundles.insert(domain.cluster.clone(), bundle);
        Ok(())
    }

    /// This process's trust domain: cluster and clusterset.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// This process's SPIFFE id.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// What its SPIFFE id says that it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The CA certificates of its own trust domain, if they are known.
    pub fn own(&self) -> Option<&TrustAnchors> {
        self.own.as_ref()
    }

    /// When the SVID is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The SVID's issuer, as a distinguished name for people.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The SVID's serial number, in hex.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The bundle of a trusted cluster.
    pub fn bundle(&self, cluster: &ClusterName) -> Option<&TrustAnchors> {
        self.bundles.get(cluster)
    }

    /// The bundles of all trusted clusters.
    pub fn bundles(&self) -> &BTreeMap<ClusterName, TrustAnchors> {
        &self.bundles
    }

    /// The same, trusting `clusters` no more.
    pub(crate) fn without(&self, clusters: &[ClusterName]) -> Self {
        let mut identity = self.clone();
        identity.bundles.retain(|cluster, _| !clusters.contains(cluster));
        identity
    }

    /// The same, with these bundles in the place of those of the same clusters.
    pub(crate) fn revoking(&self, bundles: Vec<TrustAnchors>) -> Self {
        let mut identity = self.clone();
        let named = bundles.into_iter().map(|bundle| (bundle.domain().cluster.clone(), bundle));
        identity.bundles.extend(named);
        identity
    }

    /// Whether peers would see no difference: the same chain is shown and the same bundles are trusted.
    pub fn is_same(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert && self.bundles == other.bundles && self.own == other.own
    }

    /// The chain and the signing key, as rustls has them.
    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("validity", &self.validity)
            .field("bundles", &self.bundles.keys())
            .finish_non_exhaustive()
    }
}
