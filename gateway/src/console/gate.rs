//! ● Who may look at the console.
//!
//! With a token whoever knows it; without one whoever comes over loopback, and asks for the gateway by an address or as
//! `localhost`: a page of somebody else that a browser here has open, and whose name leads to 127.0.0.1, asks by that name.

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};
use tokio::io::AsyncReadExt;

/// What whoever looks has to know. Only its digest is kept.
#[derive(Clone)]
pub struct Token(digest::Digest);

/// The shortest and the longest token, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("console.tokenFile: cannot read {0:?}: {1}")]
    Unreadable(PathBuf, io::Error),
    /// What it has is no token.
    #[error(
        "console.tokenFile: {0:?}: found {1} bytes, expected a line of 16 to 256 printable ASCII characters without spaces"
    )]
    NoToken(PathBuf, usize),
}

/// Why somebody may not look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no token, and the request comes from elsewhere.
    NoToken,
    /// There is no token, and the request names the gateway as only a foreign page would.
    Host,
    /// The token is missing, or another one.
    Unauthorised,
    /// A page of another site asks.
    Foreign,
}

impl Token {
    /// Reads the file's one line.
    ///
    /// # Errors
    /// It cannot be read, or is no token.
    pub async fn read(path: &Path) -> Result<Self, TokenError> {
        let mut bytes = Vec::new();
        let read = async {
            let file = tokio::fs::File::open(path).await?;
            file.take(*LENGTHS.end() as u64 + 3).read_to_end(&mut bytes).await
        };
        read.await.map_err(|error| TokenError::Unreadable(path.into(), error))?;
        Self::parse(&bytes).ok_or_else(|| TokenError::NoToken(path.into(), bytes.len()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let token = bytes.trim_ascii_end();
        let is_one = LENGTHS.contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
        is_one.then(|| Self(digest::digest(&digest::SHA256, token)))
    }

    /// In a time that does not tell where they differ.
    fn is(&self, text: &[u8]) -> bool {
        let other = digest::digest(&digest::SHA256, text);
        constant_time::verify_slices_are_equal(self.0.as_ref(), other.as_ref()).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoToken => {
                "the console is served on loopback only: set console.tokenFile, or forward the admin port \
                 (kubectl port-forward, ssh -L)"
            }
            Self::Host => "without console.tokenFile the console is served as localhost or by address only",
            Self::Foreign => {
                "the console's events are for its own page: found a request of another site's (Sec-Fetch-Site, Origin)"
            }
            Self::Unauthorised => "the console wants the token of console.tokenFile: as bearer token, or as password",
        })
    }
}

/// Lets a request in that came over a connection, by its fields Host and Authorization.
///
/// # Errors
/// Why not.
pub(super) fn admit(
    on_loopback: bool,
    host: Option<&str>,
    authorization: Option<&str>,
    token: Option<&Token>,
) -> Result<(), Refused> {
    match token {
        Some(token) if presented(authorization).is_some_and(|text| token.is(&text)) => Ok(()),
        Some(_) => Err(Refused::Unauthorised),
        None if !on_loopback => Err(Refused::NoToken),
        None if host.is_some_and(names_this_host) => Ok(()),
        None => Err(Refused::Host),
    }
}

/// Whether a browser asks for its own page's sake, by the fields Sec-Fetch-Site, Origin and Host: one that asks for a page of another
/// site would keep places that the console's own pages need. Browsers leave the first field out where they do not trust the way, and
/// programs both.
///
/// # Errors
/// It does not.
pub(super) fn is_own(site: Option<&str>, origin: Option<&str>, host: Option<&str>) -> Result<(), Refused> {
    let by_site = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    let is_asked = |(_, authority): (&str, &str)| host.is_some_and(|host| host.eq_ignore_ascii_case(authority));
    let by_origin = origin.is_none_or(|origin| origin.split_once("://").is_some_and(is_asked));
    if by_site && by_origin { Ok(()) } else { Err(Refused::Foreign) }
}

/// The token that a request brings: `Bearer TOKEN`, or the password of `Basic`.
fn presented(authorization: Option<&str>) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    let decoded = STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

/// Whether a Host field is an address, or `localhost`, with a port or without.
fn names_this_host(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = host.parse::<SocketAddr>().is_ok() || bracketed.unwrap_or(host).parse::<IpAddr>().is_ok();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    is_address || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn token() -> Token {
        Token::parse(SECRET.as_bytes()).unwrap()
    }

    #[test]
    fn without_a_token_only_loopback_by_its_own_names_is_let_in() {
        for host in ["localhost", "LOCALHOST:15020", "127.0.0.1:15020", "[::1]:15020", "[::1]", "10.0.0.1"] {
            assert_eq!(admit(true, Some(host), None, None), Ok(()), "{host}");
            assert_eq!(admit(false, Some(host), None, None), Err(Refused::NoToken), "{host}");
        }
        for host in
            [None, Some("evil.example"), Some("localhost.evil.example:15020"), Some(""), Some("127.0.0.1.nip.io")]
        {
            assert_eq!(admit(true, host, None, None), Err(Refused::Host), "{host:?}");
        }
    }

    #[test]
    fn with_a_token_everybody_has_to_know_it() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let right = [format!("Bearer {SECRET}"), format!("bearer  {SECRET}"), basic(&format!("anybody:{SECRET}"))];
        for authorization in &right {
            for on_loopback in [true, false] {
                assert_eq!(admit(on_loopback, Some("gw.example"), Some(authorization), Some(&token())), Ok(()));
            }
        }
        let wrong = [
            String::new(),
            "Bearer".into(),
            format!("Bearer {SECRET}x"),
            SECRET.into(),
            basic(SECRET),
            "Basic ::".into(),
        ];
        for authorization in wrong.iter().map(|wrong| Some(wrong.as_str())).chain([None]) {
            let refused = admit(true, Some("localhost"), authorization, Some(&token()));
            assert_eq!(refused, Err(Refused::Unauthorised), "{authorization:?}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_told_from_the_consoles_own() {
        let host = Some("localhost:15020");
        for (site, origin) in [
            (None, None),
            (Some("none"), None),
            (Some("same-origin"), None),
            (Some("same-origin"), Some("http://localhost:15020")),
            (None, Some("https://LOCALHOST:15020")),
        ] {
            assert_eq!(is_own(site, origin, host), Ok(()), "{site:?} {origin:?}");
        }
        for (site, origin) in [
            (Some("cross-site"), None),
            (Some("same-site"), None),
            (Some(""), None),
            (Some("same-origin"), Some("http://localhost:8080")),
            (None, Some("https://evil.example")),
            (None, Some("null")),
        ] {
            assert_eq!(is_own(site, origin, host), Err(Refused::Foreign), "{site:?} {origin:?}");
        }
        assert_eq!(is_own(None, Some("null"), None), Err(Refused::Foreign));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for bytes in ["", "short", "0123456789abcde\n", "0123456789 abcdef", "0123456789abcdef\nmore", &"x".repeat(257)]
        {
            assert!(Token::parse(bytes.as_bytes()).is_none(), "{bytes:?}");
        }
        assert!(Token::parse(format!("{SECRET}\r\n").as_bytes()).unwrap().is(SECRET.as_bytes()));
    }

    #[tokio::test]
    async fn a_file_without_a_token_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let error = Token::read(&path).await.unwrap_err().to_string();
        assert!(error.starts_with("console.tokenFile: cannot read") && error.contains("token"), "{error}");
        std::fs::write(&path, "short").unwrap();
        let error = Token::read(&path).await.unwrap_err().to_string();
        assert!(error.contains("found 5 bytes, expected a line of 16 to 256"), "{error}");
        std::fs::write(&path, SECRET).unwrap();
        assert!(Token::read(&path).await.unwrap().is(SECRET.as_bytes()));
    }
}
