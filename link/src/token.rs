//! ● Tokens: all that a cluster has to be told to join another one, as a text that survives mail and chat.
//!
//! ```text
//! isthmus1_<base64url of>  length:2  id:8  secret:24  ca:32  issued:8  lifetime:2
//!                          cluster  clusterset  count:1  endpoint…   (each a length:2 and a text)   checksum:4
//! ```
//!
//! The length is that of everything, so that a token that was cut off is told apart from one that was changed, which the checksum
//! (the beginning of SHA-256) notices. Neither is there against attackers: the secret is.

use crate::{InviteId, MOST_ENDPOINTS, Secret};
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use isthmus_certs::{Fingerprint, TrustDomain};
use isthmus_control_api::PeerAddress;
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What every token of this version begins with.
pub const PREFIX: &str = "isthmus1_";

/// The longest token that is looked at.
const LONGEST: usize = 8 * 1024;
const CHECKSUM: usize = 4;

/// An invitation as it is handed to the other side. Its `Debug` shows no secret; `Display` is the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Which invitation it is.
    pub id: InviteId,
    /// Who has it may link one cluster, once.
    pub secret: Secret,
    /// The CA certificate that the inviter's SVID leads to.
    pub ca: Fingerprint,
    /// When it was made, by the inviter's clock, to the second.
    pub issued: SystemTime,
    /// How long it is good for, in seconds.
    pub lifetime: u16,
    /// Who invites.
    pub inviter: TrustDomain,
    /// Where the inviter can be dialled.
    pub endpoints: Vec<PeerAddress>,
}

/// Why a text is no token. Shows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It does not begin as one.
    #[error("this is no invitation: expected what `isthmus invite` printed, which begins with {PREFIX}")]
    Foreign,
    /// It begins as one of a version that this isthmus does not know.
    #[error("this invitation is of another version of isthmus: expected one that begins with {PREFIX}")]
    Version,
    /// Its end is missing.
    #[error("the invitation is cut off: found {found} characters, expected {expected}: paste all of it")]
    CutOff {
        /// How long it is.
        found: usize,
        /// How long it was.
        expected: usize,
    },
    /// Something follows it.
    #[error("something follows the invitation: found {found} characters, expected {expected}")]
    TooLong {
        /// How long it is.
        found: usize,
        /// How long it was.
        expected: usize,
    },
    /// A character is not one of those that tokens are made of.
    #[error("the invitation is damaged: found a character that none has: copy it again")]
    Characters,
    /// Its checksum does not fit.
    #[error("the invitation is damaged: its checksum does not fit: copy it again")]
    Damaged,
    /// Its checksum fits, but its content makes no sense.
    #[error("the invitation makes no sense: {0}")]
    Content(&'static str),
}

impl Token {
    /// When it ends, by the inviter's clock.
    pub fn expires(&self) -> SystemTime {
        self.issued + Duration::from_secs(self.lifetime.into())
    }

    fn body(&self) -> Vec<u8> {
        let mut body = vec![0; 2];
        body.extend_from_slice(&self.id.0);
        body.extend_from_slice(&self.secret.0);
        body.extend_from_slice(&self.ca.0);
        let issued = self.issued.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        body.extend_from_slice(&issued.to_be_bytes());
        body.extend_from_slice(&self.lifetime.to_be_bytes());
        text(&mut body, self.inviter.cluster.as_str());
        text(&mut body, self.inviter.clusterset.as_str());
        let endpoints = &self.endpoints[..self.endpoints.len().min(MOST_ENDPOINTS)];
        body.push(endpoints.len() as u8);
        endpoints.iter().for_each(|endpoint| text(&mut body, &endpoint.to_string()));
        // Names and addresses are bounded: 16 addresses of 262 bytes, two names, and what has a fixed length.
        let length = (body.len() + CHECKSUM) as u16;
        body[..2].copy_from_slice(&length.to_be_bytes());
        let checksum = checksum(&body);
        body.extend_from_slice(&checksum);
        body
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.body()))
    }
}

impl FromStr for Token {
    type Err = BadToken;

    /// Reads a token; space and line ends around it and in it are what mail and terminals add.
    fn from_str(s: &str) -> Result<Self, BadToken> {
        if s.len() > LONGEST {
            return Err(BadToken::Foreign);
        }
        let text: String = s.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            let other_version = text.strip_prefix("isthmus").and_then(|rest| rest.split_once('_'));
            let numbered = other_version.is_some_and(|(version, _)| version.parse::<u32>().is_ok());
            return Err(if numbered { BadToken::Version } else { BadToken::Foreign });
        };
        check_length(encoded)?;
        let body = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| BadToken::Characters)?;
        let (content, found) = body.split_last_chunk::<CHECKSUM>().ok_or(BadToken::Damaged)?;
        if *found != checksum(content) {
            return Err(BadToken::Damaged);
        }
        parse(&content[2..])
    }
}

/// Compares the length with what the first two bytes say it is, as characters: what people count.
fn check_length(encoded: &str) -> Result<(), BadToken> {
    let found = PREFIX.len() + encoded.len();
    let Some(head) = encoded.get(..3) else { return Err(BadToken::CutOff { found, expected: PREFIX.len() + 4 }) };
    let mut padded = head.to_owned();
    padded.push('A');
    let head = URL_SAFE_NO_PAD.decode(padded).map_err(|_| BadToken::Characters)?;
    let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let expected = PREFIX.len() + (length * 4).div_ceil(3);
    match found.cmp(&expected) {
        std::cmp::Ordering::Less => Err(BadToken::CutOff { found, expected }),
        std::cmp::Ordering::Greater => Err(BadToken::TooLong { found, expected }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

fn parse(content: &[u8]) -> Result<Token, BadToken> {
    let mut rest = Rest(content);
    let cut = BadToken::Content("it ends too early");
    let mut read = || {
        let (id, secret, ca) = (rest.take::<8>()?, rest.take::<24>()?, rest.take::<32>()?);
        let (issued, lifetime) = (u64::from_be_bytes(rest.take()?), u16::from_be_bytes(rest.take()?));
        let (cluster, clusterset) = (rest.text()?, rest.text()?);
        let [count] = rest.take()?;
        let endpoints: Vec<&str> = (0..count).map(|_| rest.text()).collect::<Option<_>>()?;
        Some((id, secret, ca, issued, lifetime, cluster, clusterset, endpoints))
    };
    let (id, secret, ca, issued, lifetime, cluster, clusterset, endpoints) = read().ok_or(cut)?;
    if !rest.0.is_empty() {
        return Err(BadToken::Content("something follows its content"));
    }
    let content = |what| move |_| BadToken::Content(what);
    if endpoints.is_empty() || endpoints.len() > MOST_ENDPOINTS {
        return Err(BadToken::Content("expected 1 to 16 addresses"));
    }
    let cluster = cluster.parse().map_err(content("its cluster has no valid name"))?;
    let clusterset = clusterset.parse().map_err(content("its clusterset has no valid name"))?;
    let endpoints: Result<_, _> = endpoints.iter().map(|endpoint| endpoint.parse()).collect();
    let far = BadToken::Content("it was made in a time that no clock knows");
    let lifetime_end = issued.checked_add(lifetime.into()).map(Duration::from_secs).ok_or(far.clone())?;
    UNIX_EPOCH.checked_add(lifetime_end).ok_or(far)?;
    Ok(Token {
        id: InviteId(id),
        secret: Secret(secret),
        ca: Fingerprint(ca),
        issued: UNIX_EPOCH + Duration::from_secs(issued),
        lifetime,
        inviter: TrustDomain::new(cluster, clusterset),
        endpoints: endpoints.map_err(content("an address in it is none"))?,
    })
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    // Names and addresses are a few hundred bytes at most.
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let digest = digest::digest(&digest::SHA256, body);
    let mut checksum = [0; CHECKSUM];
    checksum.copy_from_slice(&digest.as_ref()[..CHECKSUM]);
    checksum
}

#[cfg(test)]
mod tests;
