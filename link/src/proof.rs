//! ● Proofs that a side knows the secret, bound to one TLS connection: HMAC-SHA256 over the connection's exporter (RFC 8446 section
//! 7.5). Somebody between two connections has two exporters, and so cannot hand a proof on.

use crate::Secret;
use aws_lc_rs::hmac;

/// The exporter's label.
pub const LABEL: &[u8] = b"EXPORTER-isthmus-join-1";

/// A connection's exporter.
pub type Exporter = [u8; 32];

/// Which side proves. A side cannot show the other's own proof back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who dialled with a token.
    Joiner,
    /// Who made the token.
    Inviter,
}

/// The proof that whoever is `role` on the connection with that exporter knows `secret`.
pub fn prove(secret: &Secret, role: Role, exporter: &Exporter) -> [u8; 32] {
    let mut proof = [0; 32];
    proof.copy_from_slice(hmac::sign(&key(secret), &message(role, exporter)).as_ref());
    proof
}

/// Whether `proof` is that one; in constant time.
pub fn verify(secret: &Secret, role: Role, exporter: &Exporter, proof: &[u8]) -> bool {
    hmac::verify(&key(secret), &message(role, exporter), proof).is_ok()
}

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &secret.0)
}

fn message(role: Role, exporter: &Exporter) -> Vec<u8> {
    let role: &[u8] = match role {
        Role::Joiner => b"isthmus-join/1 joiner\0",
        Role::Inviter => b"isthmus-join/1 inviter\0",
    };
    [role, exporter].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_proof_is_of_one_secret_one_role_and_one_connection(
            secret in any::<[u8; 24]>(), other in any::<[u8; 24]>(), here in any::<[u8; 32]>(), there in any::<[u8; 32]>(),
        ) {
            prop_assume!(secret != other && here != there);
            let (secret, other) = (Secret(secret), Secret(other));
            let proof = prove(&secret, Role::Joiner, &here);
            prop_assert!(verify(&secret, Role::Joiner, &here, &proof));
            prop_assert!(!verify(&secret, Role::Inviter, &here, &proof));
            prop_assert!(!verify(&secret, Role::Joiner, &there, &proof));
            prop_assert!(!verify(&other, Role::Joiner, &here, &proof));
            prop_assert!(!verify(&secret, Role::Joiner, &here, &proof[..31]));
        }
    }
}
