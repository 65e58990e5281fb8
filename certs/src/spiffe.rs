//! SPIFFE ids, as the SPIFFE-ID standard has them (sections 2.1 to 2.4).

use std::{fmt, str::FromStr, sync::Arc};

/// A SPIFFE id: `spiffe://<trust domain>/<path>`, at most 2048 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    path: usize,
}

/// The text is no SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a SPIFFE id: {why}")]
pub struct InvalidSpiffeId {
    /// What was found, cut to 200 characters.
    pub found: String,
    /// Which rule it breaks.
    pub why: &'static str,
}

impl SpiffeId {
    /// The trust domain's name.
    pub fn trust_domain(&self) -> &str {
        &self.text["spiffe://".len()..self.path]
    }

    /// The path with its leading slash; empty for the id of the trust domain itself.
    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl SpiffeId {
    /// Joins parts that were checked before: `domain` a trust domain's name, `path` empty or with a leading slash.
    pub(crate) fn join(domain: &str, path: &str) -> Self {
        let id = Self { text: format!("spiffe://{domain}{path}").into(), path: "spiffe://".len() + domain.len() };
        debug_assert_eq!(id.text.parse().as_ref(), Ok(&id));
        id
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(s: &str) -> Result<Self, InvalidSpiffeId> {
        let invalid = |why| InvalidSpiffeId { found: s.chars().take(200).collect(), why };
        if s.len() > 2048 {
            return Err(invalid("longer than 2048 bytes"));
        }
        let rest = s.strip_prefix("spiffe://").ok_or_else(|| invalid("it must begin with spiffe://"))?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(in_domain) {
            return Err(invalid("a trust domain is 1 to 255 of a-z, 0-9, '.', '-' and '_'"));
        }
        let in_path = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
        let is_segment = |s: &str| !matches!(s, "" | "." | "..") && s.bytes().all(in_path);
        if !path.is_empty() && !path[1..].split('/').all(is_segment) {
            return Err(invalid("a path segment is one or more of a-z, A-Z, 0-9, '.', '-' and '_', not '.' or '..'"));
        }
        Ok(Self { text: s.into(), path: "spiffe://".len() + domain.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_its_parts(domain in "[a-z0-9._-]{1,255}", path in "(/[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}){0,5}") {
            let text = format!("spiffe://{domain}{path}");
            let id: SpiffeId = text.parse().unwrap();
            prop_assert_eq!(id.trust_domain(), &domain);
            prop_assert_eq!(id.path(), &path);
            prop_assert_eq!(id.as_str(), &text);
            prop_assert_eq!(SpiffeId::join(&domain, &path), id);
        }

        #[test]
        fn what_parses_prints_the_same(text in "spiffe://[a-zA-Z0-9._%/?#@:-]{0,40}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text);
                prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), id.as_str());
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,300}") {
            let _ = text.parse::<SpiffeId>();
        }
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for bad in [
            "",
            "spiffe:/",
            "spiffe://",
            "spiffe:///ns/a",
            "SPIFFE://west.demo",
            "https://west.demo",
            "spiffe://West.demo",
            "spiffe://west.demo/",
            "spiffe://west.demo/a/",
            "spiffe://west.demo//a",
            "spiffe://west.demo/a/../b",
            "spiffe://west.demo/./b",
            "spiffe://west.demo/a%20b",
            "spiffe://west.demo:443/a",
            "spiffe://user@west.demo/a",
            "spiffe://west.demo/a?b",
            "spiffe://west.demo/a#b",
            &format!("spiffe://{}", "a".repeat(256)),
            &format!("spiffe://a/{}", "b".repeat(2048)),
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_found() {
        let refused = "spiffe://west.demo/".parse::<SpiffeId>().unwrap_err().to_string();
        assert!(refused.starts_with("\"spiffe://west.demo/\" is not a SPIFFE id: a path segment"), "{refused}");
    }
}
