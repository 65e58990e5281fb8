//! Version 1: a line of text.

use super::{BadHeader, Read, canonical};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// With its end, as the specification has it (section 2.1).
const LONGEST: usize = 107;

pub(super) fn read(bytes: &[u8]) -> Result<Read, BadHeader> {
    let seen = &bytes[..bytes.len().min(LONGEST)];
    let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
        return if seen.len() < LONGEST { Ok(Read::More) } else { Err(BadHeader("a line without an end")) };
    };
    let line = seen[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let words = line.and_then(|line| line.strip_prefix("PROXY ")).ok_or(BadHeader("a line that is no text"))?;
    Ok(Read::Whole { length: end + 1, client: client(words)? })
}

/// `TCP4 <client> <proxy> <client's port> <proxy's port>`, or `UNKNOWN` and anything.
fn client(words: &str) -> Result<Option<SocketAddr>, BadHeader> {
    if words == "UNKNOWN" || words.starts_with("UNKNOWN ") {
        return Ok(None);
    }
    let mut words = words.split(' ');
    let mut next = || words.next().ok_or(BadHeader("a line that is too short"));
    let (family, client, proxy) = (next()?, next()?, next()?);
    let (client_port, _) = (port(next()?)?, port(next()?)?);
    if words.next().is_some() {
        return Err(BadHeader("a line that is too long"));
    }
    let address = match family {
        "TCP4" => both::<Ipv4Addr>(client, proxy).map(|ip| canonical(ip, client_port)),
        "TCP6" => both::<Ipv6Addr>(client, proxy).map(|ip| canonical(ip, client_port)),
        _ => return Err(BadHeader("neither TCP4 nor TCP6 nor UNKNOWN")),
    };
    address.map(Some).ok_or(BadHeader("no address of its family"))
}

/// The client's address, if the proxy's is one as well.
fn both<A: std::str::FromStr>(client: &str, proxy: &str) -> Option<A> {
    proxy.parse::<A>().ok()?;
    client.parse().ok()
}

/// 0 to 65535, without a sign.
fn port(text: &str) -> Result<u16, BadHeader> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(BadHeader("no port"))
}
