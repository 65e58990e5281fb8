//! rustls configurations. Each is made once: certificates and bundles are read from the store at each handshake.

use crate::{
    IdentityStore, Role,
    verify::{AllowedClusters, Expected, PeerVerifier},
};
use isthmus_control_api::ClusterName;
use rustls::{
    ClientConfig, Error, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption, danger::ServerCertVerifier},
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite, kx_group},
    },
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{DnsName, ServerName};
use std::sync::{Arc, LazyLock};

/// A configuration to dial `expected`'s gateways with: no other cluster's is accepted.
///
/// # Errors
/// rustls does not take the configuration.
pub fn client_config(
    identity: &IdentityStore,
    expected: &ClusterName,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, Error> {
    let verifier = PeerVerifier::new(identity.clone(), Expected::Server(expected.clone()));
    client_config_with(identity, Arc::new(verifier), alpn)
}

/// A configuration to dial a process of our own cluster with, of this role.
///
/// # Errors
/// rustls does not take the configuration.
pub fn own_client_config(identity: &IdentityStore, role: Role, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, Error> {
    let verifier = PeerVerifier::new(identity.clone(), Expected::OwnServer(role));
    client_config_with(identity, Arc::new(verifier), alpn)
}

/// A configuration to accept our own cluster's processes of this role with.
///
/// # Errors
/// rustls does not take the configuration.
pub fn own_server_config(identity: &IdentityStore, role: Role, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, Error> {
    let verifier = PeerVerifier::new(identity.clone(), Expected::OwnClient(role));
    server_config_with(Arc::new(verifier), Arc::new(CurrentSvid(identity.clone())), alpn)
}

/// A configuration to dial whomever `verifier` takes.
pub(crate) fn client_config_with(
    identity: &IdentityStore,
    verifier: Arc<dyn ServerCertVerifier>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(CurrentSvid(identity.clone())));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_secret_extraction = true;
    // A resumed session would carry a decision of an older moment.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A configuration to accept the gateways of `allowed` clusters with.
///
/// # Errors
/// rustls does not take the configuration.
pub fn server_config(
    identity: &IdentityStore,
    allowed: AllowedClusters,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, Error> {
    let verifier = PeerVerifier::new(identity.clone(), Expected::Client(allowed));
    server_config_with(Arc::new(verifier), Arc::new(CurrentSvid(identity.clone())), alpn)
}

/// A configuration to accept whomever `verifier` takes, showing what `shown` says.
pub(crate) fn server_config_with(
    verifier: Arc<dyn ClientCertVerifier>,
    shown: Arc<dyn ResolvesServerCert>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_secret_extraction = true;
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The name to dial `cluster` with (SNI): its trust domain's. It is not verified.
///
/// # Errors
/// Never for names that fit DNS, as names of clusters and clustersets do.
pub fn server_name(identity: &IdentityStore, cluster: &ClusterName) -> Result<ServerName<'static>, Error> {
    let domain = identity.current().domain().sibling(cluster).to_string();
    DnsName::try_from(domain).map(ServerName::DnsName).map_err(|e| Error::General(e.to_string()))
}

/// aws-lc-rs, TLS 1.3 only: AES-128-GCM first, which measured fastest, and post-quantum key exchange first.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        })
    });
    &PROVIDER
}

/// Shows the SVID of the moment.
#[derive(Debug)]
struct CurrentSvid(IdentityStore);

impl CurrentSvid {
    fn fitting(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let certified = self.0.current().certified().clone();
        certified.key.choose_scheme(schemes).is_some().then_some(certified)
    }
}

impl ResolvesServerCert for CurrentSvid {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.fitting(client_hello.signature_schemes())
    }
}

impl ResolvesClientCert for CurrentSvid {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.fitting(schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
