//! Invitations that people paste, and what those say who come with one.

use isthmus_link::{Token, wire};

/// A message of the conversation that links: a refusal is one line.
pub fn message(input: &[u8]) {
    if let Err(refusal) = wire::check(input) {
        assert!(!refusal.contains(['\n', '\r', '\x1b']), "{refusal}");
    }
}

/// A token: what parses is written as it was read, but for space; a refusal is one line, and shows nothing of it.
pub fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match text.parse::<Token>() {
        Ok(token) => {
            let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            // A port may have had leading zeros, and an IPv6 address another form.
            assert_eq!(token.to_string().parse::<Token>().as_ref(), Ok(&token));
            assert!(plain.starts_with("isthmus1_"));
        }
        Err(refusal) => assert!(!refusal.to_string().contains(['\n', '\r', '\x1b']), "{refusal}"),
    }
}
