//! The names that clients ask for in their TLS.

use crate::InvalidName;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// A server's name as TLS clients send it (SNI): a DNS name in lower case, or `*.` before one, for any one label in that place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(Arc<str>);

const EXPECTED: &str = "a DNS name in lower case, or *. before one";

impl ServerName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The wildcard that a client's name falls under, if one can be for it: `*.example` for `a.example`. What is no name has none.
    pub fn wildcard_of(name: &str) -> Option<Self> {
        let (_, rest) = name.split_once('.')?;
        format!("*.{rest}").parse().ok()
    }
}

impl FromStr for ServerName {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let name = s.strip_prefix("*.").unwrap_or(s);
        let fits = |label: &str| {
            let bytes = label.as_bytes();
            let is_inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
            (1..=63).contains(&bytes.len())
                && bytes.iter().all(is_inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // What ends in a number is an address: RFC 6066 allows none.
        let is_address = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if s.len() > 253 || is_address || !name.split('.').all(fits) {
            return Err(InvalidName { found: s.chars().take(80).collect(), expected: EXPECTED });
        }
        Ok(Self(s.into()))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ServerName {
    type Error = InvalidName;

    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> Self {
        name.0.as_ref().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_wildcards_of_one_label() {
        for good in ["a", "api.shop.example", "*.example", "*.a.example", "_x.example", "1.example"] {
            assert_eq!(good.parse::<ServerName>().unwrap().to_string(), good);
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in
            ["", ".", "*", "*.", "a.*", "**.a", "a.", ".a", "A.example", "a b", "-a", "a-", "10.0.0.1", "::1", &long]
        {
            let refused = bad.parse::<ServerName>().unwrap_err();
            assert_eq!(refused.expected, EXPECTED, "{bad:?}");
        }
    }

    #[test]
    fn a_wildcard_is_for_one_label() {
        let wildcard = |name| ServerName::wildcard_of(name).map(String::from);
        assert_eq!(wildcard("a.example").as_deref(), Some("*.example"));
        assert_eq!(wildcard("b.a.example").as_deref(), Some("*.a.example"));
        assert_eq!([wildcard("example"), wildcard("a."), wildcard("")], [None, None, None]);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_written(s in "[*.a-z0-9_-]{0,40}") {
            let _ = ServerName::wildcard_of(&s);
            if let Ok(name) = s.parse::<ServerName>() {
                prop_assert_eq!(name.as_str(), s);
            }
        }
    }
}
