//! ● The name that a client asks for in its TLS, read from its first bytes and nothing else.
//!
//! The bytes are only looked at: whoever ends the TLS gets all of them. rustls parses, as it would for a server: a ClientHello in
//! many records, one with extensions that nobody knows, and one with ECH, of which the outer name counts, are ClientHellos.

use rustls::server::Acceptor;

/// The longest ClientHello, with all of its records, in bytes. What browsers send has two or three thousand.
pub const LONGEST: usize = 16 * 1024;
/// The alert that says that nobody of that name is here: fatal, `unrecognized_name` (RFC 6066 section 3).
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The first byte of a record that carries a handshake.
const HANDSHAKE: u8 = 22;
/// The first half of every version of TLS.
const VERSION: u8 = 3;

/// Reads one ClientHello, as its bytes come in.
#[derive(Default)]
pub struct Reader {
    acceptor: Acceptor,
    taken: usize,
}

/// What was read so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Not the whole of it.
    More,
    /// All, with the name that it asks for, in lower case, if it asks for one.
    Whole(Option<String>),
}

/// What is no ClientHello.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHello {
    /// It does not begin as TLS does.
    #[error("it is not TLS")]
    NotTls,
    /// It has more than [`LONGEST`] bytes.
    #[error("it has more than {LONGEST} bytes")]
    TooLong,
    /// TLS, but not a ClientHello that a server would take.
    #[error("{why}")]
    Malformed {
        /// What is wrong, in one line.
        why: String,
        /// What to answer.
        alert: Vec<u8>,
    },
}

impl Reader {
    /// Takes the next bytes. What follows the ClientHello is not looked at. Not to be called again once it is whole, or bad.
    ///
    /// # Errors
    /// It is no ClientHello, or too long to be taken for one.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Read, BadHello> {
        let expected = [HANDSHAKE, VERSION];
        let first = expected.iter().skip(self.taken);
        if first.zip(bytes).any(|(expected, byte)| expected != byte) {
            return Err(BadHello::NotTls);
        }
        let mut rest = &bytes[..bytes.len().min(LONGEST - self.taken)];
        self.taken += rest.len();
        while !rest.is_empty() {
            let read = self.acceptor.read_tls(&mut rest).map_err(|error| malformed(&error))?;
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    return Ok(Read::Whole(accepted.client_hello().server_name().map(str::to_ascii_lowercase)));
                }
                Ok(None) if read == 0 => return Err(malformed("a record of no possible length")),
                Ok(None) => {}
                Err((error, mut answer)) => {
                    let mut alert = Vec::new();
                    // A vector takes everything.
                    let _ = answer.write_all(&mut alert);
                    return Err(BadHello::Malformed { why: error.to_string(), alert });
                }
            }
        }
        if self.taken == LONGEST { Err(BadHello::TooLong) } else { Ok(Read::More) }
    }
}

fn malformed(why: &(impl ToString + ?Sized)) -> BadHello {
    BadHello::Malformed { why: why.to_string(), alert: Vec::new() }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("taken", &self.taken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
