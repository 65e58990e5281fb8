//! Handshakes between clusters that do not trust each other yet: one knows the other's CA by its fingerprint, the other knows nothing
//! but what is proven inside afterwards.
//!
//! ```text
//! dialler:  is the CA that I was told of in the chain, and does the SVID come from it?      client_config
//! acceptor: takes any gateway's SVID; whose it is, and from which CA, is asked later        server_config, belongs
//! ```

use crate::{
    HandshakeRefusal, Identity, IdentityStore, RefusedHandshake, TrustAnchors, TrustDomain, svid, tls,
    verify::{because, check_against, no_certificate, signatures},
    x509::{BadCertificate, Facts},
};
use aws_lc_rs::digest;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use webpki::KeyUsage;

/// SHA-256 of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of `certificate`.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A configuration to dial a gateway of `domain` with, whose CA is known by its fingerprint alone.
///
/// # Errors
/// rustls does not take the configuration.
pub fn client_config(
    identity: &IdentityStore,
    domain: &TrustDomain,
    ca: Fingerprint,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>, Error> {
    tls::client_config_with(identity, Arc::new(Pinned { domain: domain.clone(), ca }), &[alpn])
}

/// A configuration to accept any gateway with. The chain that it shows ends in the certificates of `bundle`, for the dialler to find
/// the one that it was told of.
///
/// # Errors
/// rustls does not take the configuration.
pub fn server_config(identity: &IdentityStore, bundle: &TrustAnchors, alpn: &[u8]) -> Result<Arc<ServerConfig>, Error> {
    let current = identity.current();
    let certified = current.certified();
    let chain = certified.cert.iter().chain(bundle.certificates()).cloned().collect();
    let shown = Arc::new(CertifiedKey::new(chain, certified.key.clone()));
    tls::server_config_with(Arc::new(Stranger), Arc::new(Shown(shown)), &[alpn])
}

/// Whether a chain, leaf first, is a gateway's of exactly `bundle`'s trust domain, and leads to `bundle`: what the acceptor asks once
/// it has been given the bundle by somebody who may give it.
///
/// # Errors
/// It is not; says why.
pub fn belongs(chain: &[CertificateDer<'_>], bundle: &TrustAnchors, now: SystemTime) -> Result<(), RefusedHandshake> {
    let (leaf, intermediates) = chain.split_first().ok_or_else(no_certificate)?;
    check_gateway(leaf, bundle.domain())?;
    check_against(bundle, KeyUsage::client_auth(), leaf, intermediates, now)
}

/// The certificate of `bundle` that `identity`'s SVID leads to.
///
/// # Errors
/// It leads to none of them.
pub fn issuer<'b>(
    identity: &Identity,
    bundle: &'b TrustAnchors,
    now: SystemTime,
) -> Result<&'b CertificateDer<'static>, RefusedHandshake> {
    let chain = &identity.certified().cert;
    let (leaf, intermediates) = chain.split_first().ok_or_else(no_certificate)?;
    let mut refused = no_certificate();
    for certificate in bundle.certificates() {
        match check_with(certificate, bundle.domain(), leaf, intermediates, now) {
            Ok(()) => return Ok(certificate),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

fn check_with(
    ca: &CertificateDer<'_>,
    domain: &TrustDomain,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<(), RefusedHandshake> {
    let anchors = TrustAnchors::new(domain.clone(), vec![ca.clone().into_owned()]);
    let anchors = anchors.map_err(|e| because(HandshakeRefusal::BadSvid, &e))?;
    check_against(&anchors, KeyUsage::server_auth(), leaf, intermediates, now)
}

fn check_gateway(leaf: &CertificateDer<'_>, domain: &TrustDomain) -> Result<(), RefusedHandshake> {
    let facts = Facts::read(leaf).map_err(|e| because(HandshakeRefusal::Malformed, &e))?;
    let (found, id) = svid::gateway_id(&facts).map_err(|e| because(HandshakeRefusal::BadSvid, &e))?;
    if found == *domain {
        return Ok(());
    }
    Err(RefusedHandshake::new(HandshakeRefusal::WrongTrustDomain, id, domain.gateway()))
}

/// Takes a gateway of one trust domain, if its SVID comes from the CA with that fingerprint.
#[derive(Debug)]
struct Pinned {
    domain: TrustDomain,
    ca: Fingerprint,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_gateway(end_entity, &self.domain)?;
        let ca = intermediates.iter().find(|certificate| Fingerprint::of(certificate) == self.ca);
        let unknown = || {
            let wanted = format_args!("the CA with the fingerprint {}", self.ca);
            RefusedHandshake::new(HandshakeRefusal::UnknownIssuer, "a chain without it", wanted)
        };
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        check_with(ca.ok_or_else(unknown)?, &self.domain, end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

/// Takes any certificate that has the form of a gateway's SVID, and whose key the peer has.
#[derive(Debug)]
struct Stranger;

impl ClientCertVerifier for Stranger {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bad = |e: BadCertificate| because(HandshakeRefusal::BadSvid, &e);
        svid::gateway_id(&Facts::read(end_entity).map_err(bad)?).map_err(bad)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}

/// Shows one chain.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(client_hello.signature_schemes()).is_some().then(|| self.0.clone())
    }
}
