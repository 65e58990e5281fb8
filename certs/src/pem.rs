//! PEM files: certificates and private keys, and nothing that does not belong.

use crate::x509::BadCertificate;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{PemObject, SectionKind},
};

/// The certificates of `text`, in order. Anything else in it is refused: a key has no business beside them.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadCertificate> {
    let expected = "certificates as PEM";
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text);
    let certificates: Vec<_> = sections
        .map(|section| match section {
            Ok((SectionKind::Certificate, der)) => Ok(CertificateDer::from(der)),
            Ok((kind, _)) => Err(BadCertificate::new(format_args!("a section {kind:?}"), expected)),
            Err(e) => Err(BadCertificate::new(format_args!("broken PEM ({e})"), expected)),
        })
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(BadCertificate::new("no PEM section", expected));
    }
    Ok(certificates)
}

/// The certificate revocation lists of `text`, in order. Anything else in it is refused.
pub(crate) fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, BadCertificate> {
    let expected = "certificate revocation lists as PEM";
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text);
    let lists: Vec<_> = sections
        .map(|section| match section {
            Ok((SectionKind::Crl, der)) => Ok(CertificateRevocationListDer::from(der)),
            Ok((kind, _)) => Err(BadCertificate::new(format_args!("a section {kind:?}"), expected)),
            Err(e) => Err(BadCertificate::new(format_args!("broken PEM ({e})"), expected)),
        })
        .collect::<Result<_, _>>()?;
    if lists.is_empty() {
        return Err(BadCertificate::new("no PEM section", expected));
    }
    Ok(lists)
}

/// A certificate revocation list as PEM.
pub(crate) fn encode_list(list: &CertificateRevocationListDer<'_>) -> String {
    section("X509 CRL", list.to_vec())
}

/// The private key of `text`. Errors show nothing of it.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, BadCertificate> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| BadCertificate::new("something else", "one private key as PEM"))
}

/// `certificates` as PEM.
pub(crate) fn encode<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let sections = certificates.into_iter().map(|cert| section("CERTIFICATE", cert.to_vec()));
    sections.collect()
}

/// `key` as PEM, for a file of mode 0600.
pub(crate) fn encode_key(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    section(label, key.secret_der().to_vec())
}

fn section(label: &str, der: Vec<u8>) -> String {
    pem::encode_config(&Pem::new(label, der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_panics(text in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = certificates(&text);
            let _ = private_key(&text);
            let _ = revocation_lists(&text);
        }

        #[test]
        fn what_is_written_is_read(ders in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..4)) {
            let ders: Vec<_> = ders.into_iter().map(CertificateDer::from).collect();
            prop_assert_eq!(certificates(encode(&ders).as_bytes()).unwrap(), ders);
        }
    }

    #[test]
    fn a_key_among_certificates_is_refused() {
        let text = section("CERTIFICATE", vec![1]) + &section("PRIVATE KEY", vec![2]);
        let refused = certificates(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(refused, "found a section PrivateKey, expected certificates as PEM");
    }
}
