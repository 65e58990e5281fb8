//! What clients say first, where their TLS decides whom they get.

use isthmus_gateway::client_hello::{LONGEST, Read, Reader};

/// It is decided within the bound, and the same however the bytes come in. The first byte says how.
pub fn client(input: &[u8]) {
    let Some((&step, bytes)) = input.split_first() else { return };
    let whole = Reader::default().take(bytes);
    assert!(whole != Ok(Read::More) || bytes.len() < LONGEST);
    let mut reader = Reader::default();
    let pieces = bytes.chunks(usize::from(step) + 1).map(|piece| reader.take(piece));
    let last = pieces.filter(|said| *said != Ok(Read::More)).map(Result::ok).next();
    match (whole, last) {
        (Ok(Read::More), last) => assert_eq!(last, None),
        (Ok(read), last) => assert_eq!(last, Some(Some(read))),
        // What is wrong may be found out sooner in pieces, or later.
        (Err(_), last) => assert!(matches!(last, None | Some(None))),
    }
}
