//! Certificate revocation lists (RFC 5280 section 5): which certificates of a trust domain count no more.

use crate::{
    pem, svid, tls,
    x509::{BadCertificate, Facts},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// Lists that a trust domain may have: one for each CA certificate of a bundle.
const MOST_LISTS: usize = 16;

/// The lists of one trust domain, each signed by one of its CAs. Two are the same if they are byte by byte.
///
/// A list counts until another one takes its place, also beyond its own end (`nextUpdate`): what was revoked stays so, and a list
/// that nobody has renewed cuts off nobody.
#[derive(Clone, Default)]
pub struct Revocations(Arc<Vec<List>>);

struct List {
    der: CertificateRevocationListDer<'static>,
    parsed: CertRevocationList<'static>,
    /// Serial numbers and when each was revoked.
    revoked: Vec<Revoked>,
    issuer: String,
    /// The certificates of the bundle whose key has signed it.
    signers: Vec<CertificateDer<'static>>,
}

/// A certificate that counts no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number, as it stands in the certificate.
    pub serial: Vec<u8>,
    /// Since when.
    pub since: SystemTime,
}

impl Revocations {
    /// Checks that `lists` are revocation lists of the CAs with these certificates, and signed by them.
    ///
    /// # Errors
    /// They are not; says which and why.
    pub(crate) fn new(
        lists: Vec<CertificateRevocationListDer<'static>>,
        issuers: &[&CertificateDer<'static>],
    ) -> Result<Self, BadCertificate> {
        if lists.len() > MOST_LISTS {
            let found = format!("{} revocation lists", lists.len());
            return Err(BadCertificate::new(found, format!("at most {MOST_LISTS}")));
        }
        let lists = lists.into_iter().map(|der| List::new(der, issuers)).collect::<Result<Vec<_>, _>>()?;
        check_one_each(&lists)?;
        Ok(Self(Arc::new(lists)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they revoke, all together.
    pub fn revoked(&self) -> impl Iterator<Item = &Revoked> {
        self.0.iter().flat_map(|list| &list.revoked)
    }

    /// Those that count for chains to the CA with this certificate, as webpki has them: those that its key has signed, and those in
    /// other names. A CA that has a new key and its name of before is not bound by lists that the old key has signed.
    pub(crate) fn for_chains_to(&self, anchor: &CertificateDer<'_>) -> Vec<&CertRevocationList<'static>> {
        let subject = Facts::read(anchor).map(|facts| facts.subject).unwrap_or_default();
        let counts = |list: &&List| list.issuer != subject || list.signers.iter().any(|signer| signer == anchor);
        self.0.iter().filter(counts).map(|list| &list.parsed).collect()
    }
}

impl PartialEq for Revocations {
    fn eq(&self, other: &Self) -> bool {
        let ders = |of: &Self| of.0.iter().map(|list| list.der.clone()).collect::<Vec<_>>();
        Arc::ptr_eq(&self.0, &other.0) || ders(self) == ders(other)
    }
}

impl Eq for Revocations {}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.revoked()).finish()
    }
}

impl List {
    fn new(
        der: CertificateRevocationListDer<'static>,
        issuers: &[&CertificateDer<'static>],
    ) -> Result<Self, BadCertificate> {
        let malformed = |why: &dyn fmt::Display| BadCertificate::new(why, "an X.509 certificate revocation list");
        let (rest, list) = CertificateRevocationList::from_der(&der).map_err(|e| malformed(&e))?;
        if !rest.is_empty() {
            return Err(malformed(&"bytes after the list"));
        }
        let signers = signers(&list, issuers)?;
        let revoked = list.iter_revoked_certificates().map(|of| Revoked {
            serial: of.raw_serial().to_vec(),
            since: SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(of.revocation_date.timestamp()).unwrap_or_default()),
        });
        let revoked = revoked.collect();
        let parsed = OwnedCertRevocationList::from_der(&der).map_err(|e| malformed(&e))?;
        let issuer = list.issuer().to_string();
        Ok(Self { parsed: parsed.into(), revoked, issuer, signers, der })
    }
}

/// Checks that each CA has one list: of several that one key has signed only the first would be looked at.
fn check_one_each(lists: &[List]) -> Result<(), BadCertificate> {
    for (index, list) in lists.iter().enumerate() {
        let is_same = |other: &List| other.issuer == list.issuer && other.signers == list.signers;
        if lists[..index].iter().any(is_same) {
            let name: String = list.issuer.chars().take(200).collect();
            let found = format!("two revocation lists in the name of {name:?}");
            return Err(BadCertificate::new(found, "the newest one of each CA alone"));
        }
    }
    Ok(())
}

/// The CAs that have signed the list, and may: certificates of one key.
fn signers(
    list: &CertificateRevocationList<'_>,
    issuers: &[&CertificateDer<'static>],
) -> Result<Vec<CertificateDer<'static>>, BadCertificate> {
    let name = list.issuer().to_string();
    let found = |what: &str| format!("{what} {:?}", name.chars().take(200).collect::<String>());
    let is_named = |issuer: &&&CertificateDer<'static>| Facts::read(issuer).is_ok_and(|facts| facts.subject == name);
    let named: Vec<_> = issuers.iter().filter(is_named).collect();
    if named.is_empty() {
        let wanted = "one of a CA whose certificate is in the bundle";
        return Err(BadCertificate::new(found("a revocation list of"), wanted));
    }
    let signers: Vec<_> = named.into_iter().filter(|issuer| has_signed(issuer, list)).map(|&of| of.clone()).collect();
    if signers.is_empty() {
        return Err(BadCertificate::new(found("a revocation list in the name of"), "one that this CA has signed"));
    }
    signers.iter().try_for_each(|signer| svid::check_list_signer(&Facts::read(signer)?))?;
    Ok(signers)
}

fn has_signed(issuer: &CertificateDer<'_>, list: &CertificateRevocationList<'_>) -> bool {
    let Ok(issuer) = EndEntityCert::try_from(issuer) else { return false };
    let algorithms = tls::provider().signature_verification_algorithms.all;
    let (message, signature) = (list.tbs_cert_list.as_ref(), list.signature_value.as_ref());
    algorithms.iter().any(|&algorithm| issuer.verify_signature(algorithm, message, signature).is_ok())
}

impl Revoked {
    /// The serial number of the first certificate in a PEM file, which has to be one of `issuer`'s.
    ///
    /// # Errors
    /// It is none, or another CA's.
    pub fn serial_of(text: &[u8], issuer: &CertificateDer<'_>) -> Result<Vec<u8>, BadCertificate> {
        let certificates = pem::certificates(text)?;
        let leaf = certificates.first().ok_or_else(|| BadCertificate::new("no certificate", "an SVID"))?;
        let (facts, issuer) = (Facts::read(leaf)?, Facts::read(issuer)?);
        if facts.issuer != issuer.subject {
            let found = format!("a certificate of {:?}", facts.issuer.chars().take(200).collect::<String>());
            return Err(BadCertificate::new(found, "one that this cluster's CA has signed"));
        }
        Self::parse_serial(&facts.serial)
    }

    /// A serial number in hexadecimal, with colons or without.
    ///
    /// # Errors
    /// It is none.
    pub fn parse_serial(text: &str) -> Result<Vec<u8>, BadCertificate> {
        let wrong = || {
            let found = format!("{:?}", text.chars().take(60).collect::<String>());
            BadCertificate::new(found, "a serial number: 1 to 21 bytes in hexadecimal")
        };
        let digits: Vec<u8> = text.bytes().filter(|&b| b != b':').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let fits = !digits.is_empty() && digits.len() <= 42 && digits.len().is_multiple_of(2);
        if !fits || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        digits.chunks(2).map(byte).collect::<Option<_>>().ok_or_else(wrong)
    }
}
