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
