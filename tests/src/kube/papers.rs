//! What the programs of one control plane show each other: a CA of its own, and the key that signs service accounts' tokens.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::{
    fmt::Display,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// The group that RBAC lets do anything.
const ADMINISTRATORS: &str = "system:masters";

/// The files of one control plane.
#[derive(Debug)]
pub(super) struct Papers {
    dir: PathBuf,
}

impl Papers {
    /// Makes them below `dir`, for an API server that is reached at `addresses`.
    pub(super) fn make(dir: &Path, addresses: &[IpAddr]) -> Self {
        let papers = Self { dir: dir.to_owned() };
        let (ca_key, mut ca) = (key(), CertificateParams::default());
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        ca.distinguished_name = subject("a cluster of the tests", None);
        let certificate = ca.self_signed(&ca_key).unwrap_or_else(|e| failed("the CA", e));
        papers.write("ca.pem", &certificate.pem());
        let issuer = Issuer::new(ca, ca_key);
        let mut server = CertificateParams::default();
        let dns = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let names = dns.map(|name| SanType::DnsName(name.try_into().unwrap_or_else(|e| failed(name, e))));
        server.subject_alt_names = names.into_iter().chain(addresses.iter().copied().map(SanType::IpAddress)).collect();
        server.distinguished_name = subject("kube-apiserver", None);
        papers.issue("server", server, ExtendedKeyUsagePurpose::ServerAuth, &issuer);
        let mut admin = CertificateParams::default();
        admin.distinguished_name = subject("admin", Some(ADMINISTRATORS));
        papers.issue("admin", admin, ExtendedKeyUsagePurpose::ClientAuth, &issuer);
        let accounts = key();
        papers.write("accounts.key", &accounts.serialize_pem());
        papers.write("accounts.pub", &accounts.public_key_pem());
        papers
    }

    fn issue(&self, name: &str, mut of: CertificateParams, usage: ExtendedKeyUsagePurpose, by: &Issuer<'_, KeyPair>) {
        let key = key();
        of.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        of.extended_key_usages = vec![usage];
        let leaf = of.signed_by(&key, by).unwrap_or_else(|e| failed(name, e));
        self.write(&format!("{name}.pem"), &leaf.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, pem: &str) {
        std::fs::write(self.dir.join(name), pem).unwrap_or_else(|e| failed(name, e));
    }

    /// One of the files: `ca.pem`, `server.pem`, `server.key`, `admin.pem`, `admin.key`,
    /// `accounts.key`, `accounts.pub`.
    pub(super) fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

fn subject(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    group.into_iter().for_each(|group| subject.push(DnType::OrganizationName, group));
    subject
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap_or_else(|e| failed("a key", e))
}

fn failed<T>(what: &str, error: impl Display) -> T {
    panic!("papers of a control plane: {what}: {error}")
}
