//! Certificates that strangers present.

use isthmus_certs::peer_identity;
use rustls_pki_types::CertificateDer;

/// A leaf's DER: a gateway's id comes out, or a refusal in one line.
pub fn certificate(input: &[u8]) {
    match peer_identity(Some(&[CertificateDer::from(input)])) {
        Ok((cluster, id)) => assert!(id.trust_domain().starts_with(cluster.as_str())),
        Err(refusal) => assert!(!refusal.to_string().contains(['\n', '\r', '\x1b']), "{refusal}"),
    }
}
