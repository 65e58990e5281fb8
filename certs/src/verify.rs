//! Who is at the other end: a peer's chain is checked against the bundle of exactly the trust domain that its id claims, and that
//! trust domain has to be the one that the link names.
//!
//! [`check`] decides and is pure; the verifiers hand it what rustls gives them, and the identity of that moment, so that a rotated
//! bundle or a removed link counts from the next handshake on.

use crate::{
    HandshakeRefusal, Identity, IdentityStore, RefusedHandshake, Role, SpiffeId, TrustAnchors, TrustDomain, svid, tls,
    x509::{BadCertificate, Facts},
};
use isthmus_control_api::ClusterName;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
    VerifiedPath,
};

/// Which clusters may dial this gateway, asked anew at each handshake.
#[derive(Clone)]
pub struct AllowedClusters(Arc<dyn Fn(&ClusterName) -> bool + Send + Sync>);

impl AllowedClusters {
    /// Those for which `allowed` says so, among those that have a bundle. It must not block.
    pub fn new(allowed: impl Fn(&ClusterName) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(allowed))
    }

    /// Every cluster that has a bundle.
    pub fn every_trusted() -> Self {
        Self::new(|_| true)
    }
}

impl fmt::Debug for AllowedClusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AllowedClusters")
    }
}

/// Whom to expect at the other end, and in which role.
#[derive(Debug, Clone)]
pub enum Expected {
    /// This cluster's gateway, which we dialled.
    Server(ClusterName),
    /// The gateway of a linked cluster, which dialled us.
    Client(AllowedClusters),
    /// A process of our own cluster, of this role, which we dialled.
    OwnServer(Role),
    /// The same, which dialled us.
    OwnClient(Role),
}

/// Checks a peer's chain, leaf first, as of `now`. A caller that keeps the chain can ask again when the identity or the links have
/// changed, with the time of the handshake: a tunnel outlives its SVID, but not its trust.
///
/// # Errors
/// The peer is not to be trusted; says why.
pub fn check(
    identity: &Identity,
    expected: &Expected,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<(ClusterName, SpiffeId), RefusedHandshake> {
    let (leaf, intermediates) = chain.split_first().ok_or_else(no_certificate)?;
    let facts = Facts::read(leaf).map_err(|e| because(HandshakeRefusal::Malformed, &e))?;
    let own = matches!(expected, Expected::OwnServer(_) | Expected::OwnClient(_));
    let found =
        if own { svid::process_id(&facts).map(|(domain, id, _)| (domain, id)) } else { svid::gateway_id(&facts) };
    let (domain, id) = found.map_err(|e| because(HandshakeRefusal::BadSvid, &e))?;
    check_domain(identity, expected, &domain, &id)?;
    check_chain(identity, expected, &domain, leaf, intermediates, now)?;
    Ok((domain.cluster, id))
}

/// Whether the claimed trust domain is one that may be at the other end. Cheap, so it comes before any signature.
fn check_domain(
    identity: &Identity,
    expected: &Expected,
    domain: &TrustDomain,
    id: &SpiffeId,
) -> Result<(), RefusedHandshake> {
    let ours = identity.domain();
    match expected {
        Expected::Server(cluster) if *domain == ours.sibling(cluster) => Ok(()),
        Expected::Server(cluster) => {
            let wanted = ours.sibling(cluster).gateway();
            Err(RefusedHandshake::new(HandshakeRefusal::WrongTrustDomain, id, wanted))
        }
        Expected::Client(_) if domain.clusterset != ours.clusterset => {
            let wanted = format_args!("a cluster of the clusterset {}", ours.clusterset);
            Err(RefusedHandshake::new(HandshakeRefusal::WrongTrustDomain, id, wanted))
        }
        Expected::Client(AllowedClusters(allowed)) => {
            let linked = identity.bundle(&domain.cluster).is_some() && allowed(&domain.cluster);
            let wanted = "a cluster with a link and a bundle";
            if linked { Ok(()) } else { Err(RefusedHandshake::new(HandshakeRefusal::NotLinked, id, wanted)) }
        }
        Expected::OwnServer(role) | Expected::OwnClient(role) if *id == ours.process(*role) => Ok(()),
        Expected::OwnServer(role) | Expected::OwnClient(role) => {
            let reason = if domain == ours { HandshakeRefusal::BadSvid } else { HandshakeRefusal::WrongTrustDomain };
            Err(RefusedHandshake::new(reason, id, ours.process(*role)))
        }
    }
}

/// Whether the chain leads to the bundle of the claimed trust domain, and is valid.
fn check_chain(
    identity: &Identity,
    expected: &Expected,
    domain: &TrustDomain,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<(), RefusedHandshake> {
    let unknown = |found: &str| {
        RefusedHandshake::new(HandshakeRefusal::UnknownIssuer, found, format_args!("a chain to the bundle of {domain}"))
    };
    let bundle = match expected {
        Expected::Server(_) | Expected::Client(_) => identity.bundle(&domain.cluster),
        Expected::OwnServer(_) | Expected::OwnClient(_) => identity.own(),
    };
    let bundle = bundle.ok_or_else(|| unknown("no bundle of that trust domain"))?;
    let usage = match expected {
        Expected::Server(_) | Expected::OwnServer(_) => KeyUsage::server_auth(),
        Expected::Client(_) | Expected::OwnClient(_) => KeyUsage::client_auth(),
    };
    check_against(bundle, usage, leaf, intermediates, now)
}

/// Whether the chain leads to one of `bundle`'s certificates, and is valid.
pub(crate) fn check_against(
    bundle: &TrustAnchors,
    usage: KeyUsage,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<(), RefusedHandshake> {
    let domain = bundle.domain();
    let unknown = |found: &str| {
        RefusedHandshake::new(HandshakeRefusal::UnknownIssuer, found, format_args!("a chain to the bundle of {domain}"))
    };
    if bundle.valid_at(now).next().is_none() {
        if let Some(begins) = bundle.begins().filter(|begins| *begins > now) {
            let wait = begins.duration_since(now).unwrap_or_default().as_secs();
            let found = format_args!("a bundle of {domain} that begins in {wait} s");
            let wanted = "one that is valid now: the clocks differ by as much, at least";
            return Err(RefusedHandshake::new(HandshakeRefusal::NotYetValid, found, wanted));
        }
        let wanted = "a CA certificate that is valid now";
        let found = format_args!("only others in the bundle of {domain}");
        return Err(RefusedHandshake::new(HandshakeRefusal::Expired, found, wanted));
    }
    let refused = |e| match e {
        webpki::Error::UnknownIssuer => unknown("a chain to another issuer"),
        webpki::Error::InvalidSignatureForPublicKey => unknown("a signature by another key"),
        e => webpki_refusal(&e, now),
    };
    let time = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let leaf = EndEntityCert::try_from(leaf).map_err(refused)?;
    let algorithms = tls::provider().signature_verification_algorithms.all;
    let mut failed = webpki::Error::UnknownIssuer;
    for (certificate, anchor) in bundle.valid_at(now) {
        let lists = bundle.revocations().for_chains_to(certificate);
        // A chain that no list is about is as good as without lists, and a list counts until another takes its place.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            let options =
                options.with_depth(RevocationCheckDepth::Chain).with_status_policy(UnknownStatusPolicy::Allow);
            options.with_expiration_policy(ExpirationPolicy::Ignore).build()
        });
        let anchor = std::slice::from_ref(anchor);
        match leaf.verify_for_usage(algorithms, anchor, intermediates, time, usage, revocation, None) {
            Ok(path) => return check_signers(&path, domain).map_err(|e| because(HandshakeRefusal::BadSvid, &e)),
            Err(webpki::Error::UnknownIssuer) => {}
            Err(error) if is_of_another(&failed) => failed = error,
            Err(_) => {}
        }
    }
    Err(refused(failed))
}

/// Whether the chain leads to another CA than the one that was tried: another one's answer says more.
fn is_of_another(error: &webpki::Error) -> bool {
    matches!(error, webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey)
}

/// Whether every intermediate may sign for `domain`: webpki knows neither key usage nor trust domains.
fn check_signers(path: &VerifiedPath<'_>, domain: &TrustDomain) -> Result<(), BadCertificate> {
    path.intermediate_certificates().try_for_each(|cert| svid::check_signer(&Facts::read(&cert.der())?, domain))
}

fn webpki_refusal(error: &webpki::Error, now: SystemTime) -> RefusedHandshake {
    let ago = |other: &UnixTime| {
        let other = UNIX_EPOCH + Duration::from_secs(other.as_secs());
        now.duration_since(other).unwrap_or_else(|e| e.duration()).as_secs()
    };
    match error {
        webpki::Error::CertExpired { not_after, .. } => {
            let found = format_args!("a certificate that ended {} s ago", ago(not_after));
            RefusedHandshake::new(
                HandshakeRefusal::Expired,
                found,
                "one that is valid now: not renewed, or the clocks differ",
            )
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            let found = format_args!("a certificate that begins in {} s", ago(not_before));
            RefusedHandshake::new(
                HandshakeRefusal::NotYetValid,
                found,
                "one that is valid now: the clocks differ by as much, at least",
            )
        }
        webpki::Error::CertRevoked => {
            let wanted = "one that its CA has not revoked";
            RefusedHandshake::new(HandshakeRefusal::Revoked, "a certificate that was revoked", wanted)
        }
        webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::TrailingData(_) => {
            RefusedHandshake::new(HandshakeRefusal::Malformed, error, "an X.509 certificate")
        }
        _ => RefusedHandshake::new(HandshakeRefusal::BadSvid, error, "a gateway's X.509-SVID"),
    }
}

pub(crate) fn because(reason: HandshakeRefusal, error: &BadCertificate) -> RefusedHandshake {
    RefusedHandshake::new(reason, &error.found, &error.expected)
}

pub(crate) fn no_certificate() -> RefusedHandshake {
    RefusedHandshake::new(HandshakeRefusal::NoCertificate, "no certificate", "a gateway's X.509-SVID")
}

/// Who is at the other end of a handshake that a verifier of ours has let through.
///
/// # Errors
/// There is no certificate, or it is not one that a verifier of ours lets through.
pub fn peer_identity(certs: Option<&[CertificateDer<'_>]>) -> Result<(ClusterName, SpiffeId), RefusedHandshake> {
    let leaf = certs.and_then(<[_]>::first).ok_or_else(no_certificate)?;
    let facts = Facts::read(leaf).map_err(|e| because(HandshakeRefusal::Malformed, &e))?;
    let (domain, id) = svid::gateway_id(&facts).map_err(|e| because(HandshakeRefusal::BadSvid, &e))?;
    Ok((domain.cluster, id))
}

/// rustls's verifier of either side: reads the identity of the moment.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    identity: IdentityStore,
    expected: Expected,
}

impl PeerVerifier {
    pub(crate) fn new(identity: IdentityStore, expected: Expected) -> Self {
        Self { identity, expected }
    }

    fn verify(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(rest).cloned().collect();
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        check(&self.identity.current(), &self.expected, &chain, now).map(drop).inspect_err(|refused| {
            if let (Expected::Client(_), Ok((cluster, _))) = (&self.expected, peer_identity(Some(&chain))) {
                self.identity.note_refused(cluster, refused.clone(), now);
            }
        })?;
        Ok(())
    }
}

/// The methods that both of rustls' traits want alike: TLS 1.3 signatures, as the provider checks them.
macro_rules! signatures {
    () => {
        /// TLS 1.2 is not configured on either side, so rustls asks for none of its signatures.
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(RefusedHandshake::new(HandshakeRefusal::TlsVersion, "TLS 1.2", "TLS 1.3").into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &tls::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            tls::provider().signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(crate) use signatures;

impl ServerCertVerifier for PeerVerifier {
    /// The server's DNS name does not count: its identity is its SPIFFE id.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for PeerVerifier {
    /// None: the names of all linked clusters are nobody's business before a handshake.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}
