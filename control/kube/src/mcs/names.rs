//! ● Names of what is derived.

use sha2::{Digest as _, Sha256};

const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// Digits of a name.
const LENGTH: usize = 10;

/// The name of the Service that is derived from `of`: from `namespace/name` of a service, or more of one of its endpoints.
pub fn derived_name(of: &str) -> String {
    format!("derived-{}", digest(of))
}

/// The first ten digits of base32hex (RFC 4648), in lower case, of the SHA-256 of `text`.
pub(super) fn digest(text: &str) -> String {
    let bytes = Sha256::digest(text.as_bytes());
    let bits = bytes.iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digit = |n: usize| DIGITS[(bits >> (59 - 5 * n) & 31) as usize];
    (0..LENGTH).map(|n| char::from(digit(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `printf %s ns/name | sha256sum | xxd -r -p | basenc --base32hex` has them.
    #[test]
    fn names_are_those_of_base32hex() {
        for (of, name) in
            [("shop/api", "derived-edt41efodf"), ("default/hello", "derived-k5cuvo1ge4"), ("", "derived-seoc8gkovg")]
        {
            assert_eq!(derived_name(of), name, "{of}");
        }
    }
}
