//! Peers that must be refused: papers that are wrong in one way each, shown by OpenSSL, which is nobody's code here.

use crate::{Process, identity::text, netns::Netns};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::SystemTime,
};
use time::{Duration, OffsetDateTime};

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Papers {
    /// The leaf, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// A CA of somebody's.
#[derive(Debug)]
pub struct Authority(Issuer<'static, KeyPair>);

/// When papers are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From an hour ago, for a day.
    Now,
    /// Until an hour ago.
    Over,
    /// From tomorrow.
    Later,
}

impl Authority {
    /// The CA of an identity directory: who has stolen it can sign whatever he likes.
    ///
    /// # Panics
    /// If it is not there.
    pub fn of(identity: &Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(identity.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let key = KeyPair::from_pem(&read("ca.key")).unwrap_or_else(|e| panic!("ca.key: {e}"));
        Self(Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap_or_else(|e| panic!("ca.pem: {e}")))
    }

    /// A CA that nobody knows, for `trust_domain`.
    ///
    /// # Panics
    /// If the cryptography fails.
    pub fn unknown(trust_domain: &str) -> Self {
        let mut params = params(&format!("spiffe://{trust_domain}"), Validity::Now);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "a CA that nobody knows");
        Self(Issuer::new(params, key()))
    }

    /// Signs papers for `id`, and writes them below `dir`.
    ///
    /// # Panics
    /// If the cryptography fails.
    pub fn sign(&self, dir: &Path, id: &str, validity: Validity) -> Papers {
        let key = key();
        let leaf = leaf_params(id, validity).signed_by(&key, &self.0).unwrap_or_else(|e| panic!("sign {id}: {e}"));
        Papers::write(dir, &leaf.pem(), &key)
    }
}

impl Papers {
    /// Signed by nobody but themselves.
    ///
    /// # Panics
    /// If the cryptography fails.
    pub fn self_signed(dir: &Path, id: &str) -> Self {
        let key = key();
        let leaf = leaf_params(id, Validity::Now).self_signed(&key).unwrap_or_else(|e| panic!("sign {id}: {e}"));
        Self::write(dir, &leaf.pem(), &key)
    }

    /// Those of an identity directory, which are right.
    pub fn of(identity: &Path) -> Self {
        Self { certificate: identity.join("svid.pem"), key: identity.join("svid.key") }
    }

    fn write(dir: &Path, leaf: &str, key: &KeyPair) -> Self {
        let dir = tempfile::Builder::new().prefix("papers-").tempdir_in(dir).unwrap_or_else(|e| panic!("{e}")).keep();
        let papers = Self { certificate: dir.join("leaf.pem"), key: dir.join("leaf.key") };
        let written =
            std::fs::write(&papers.certificate, leaf).and_then(|()| std::fs::write(&papers.key, key.serialize_pem()));
        written.unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        papers
    }
}

/// The id of a cluster's gateway.
pub fn gateway_id(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/ns/isthmus-system/sa/gateway")
}

/// Dials `address` with OpenSSL and these papers, sends the bytes of `input`, and returns what OpenSSL says, once the other side
/// has closed. `more` are further arguments.
///
/// # Panics
/// If the other side does not close.
pub fn dial(netns: &Netns, address: SocketAddr, papers: Option<&Papers>, more: &[&str], input: &Path) -> String {
    let mut client = format!("openssl s_client -connect {address} -ign_eof {}", more.join(" "));
    if let Some(Papers { certificate, key }) = papers {
        client += &format!(" -cert {} -key {}", text(certificate), text(key));
    }
    // OpenSSL's own verdict about us does not matter here, only that the conversation ends: 124 is `timeout`'s own.
    let bound = crate::wait::BOUND.as_secs();
    let script = format!("timeout {bound} {client} < {} 2>&1; code=$?; [ $code != 124 ] || exit 1", text(input));
    netns.exec("sh", &["-c", &script])
}

/// The leaf that whoever listens at `address` shows to a peer with these papers: its PEM, without line ends.
///
/// # Panics
/// If nobody does, or shows none.
pub fn shown(netns: &Netns, address: SocketAddr, papers: &Papers) -> String {
    let Papers { certificate, key } = papers;
    let client =
        format!("openssl s_client -connect {address} -alpn isthmus/1 -cert {} -key {}", text(certificate), text(key));
    leaf_of(&netns.exec("sh", &["-c", &format!("{client} < /dev/null 2> /dev/null")]))
}

/// The first certificate in a text, its PEM without line ends.
///
/// # Panics
/// If there is none.
pub fn leaf_of(text: &str) -> String {
    let leaf = text.split_once("-----BEGIN CERTIFICATE-----").and_then(|(_, rest)| rest.split_once("-----END"));
    leaf.map(|(base64, _)| base64.split_whitespace().collect()).unwrap_or_else(|| panic!("no certificate in {text:?}"))
}

/// Serves with OpenSSL and these papers at `address`.
///
/// # Panics
/// If it cannot be started.
pub fn serve(netns: &Netns, log: &Path, address: SocketAddr, papers: &Papers, more: &[&str]) -> Process {
    let address = address.to_string();
    let mut args = vec!["s_server", "-accept", &address, "-cert", text(&papers.certificate), "-key", text(&papers.key)];
    args.extend(["-Verify", "1", "-quiet"]);
    args.extend(more);
    Process::start(netns, "openssl s_server", log, Path::new("openssl"), &args)
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap_or_else(|e| panic!("a key: {e}"))
}

fn leaf_params(id: &str, validity: Validity) -> CertificateParams {
    let mut params = params(id, validity);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn params(id: &str, validity: Validity) -> CertificateParams {
    let now = OffsetDateTime::from(SystemTime::now());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap_or_else(|e| panic!("{id}: {e}")))];
    (params.not_before, params.not_after) = match validity {
        Validity::Now => (now - Duration::HOUR, now + Duration::DAY),
        Validity::Over => (now - Duration::DAY, now - Duration::HOUR),
        Validity::Later => (now + Duration::DAY, now + Duration::DAY * 2),
    };
    params
}
