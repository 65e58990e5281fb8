//! Records behind the handshake.

use crate::cursor::Cursor;
use isthmus_gateway::tunnel::tls::record::{
    ContentType, HEADER, MAX_PAYLOAD, MAX_RECORD, RecordKey, TAIL, whole_record,
};
use rustls::{
    ConnectionTrafficSecrets,
    crypto::cipher::{AeadKey, Iv},
};

/// Bytes for a record layer: a whole record is never longer than it may be; what was not sealed does not open, and what was opens as it
/// was, but not with one bit changed.
#[expect(clippy::expect_used, reason = "panicking is what a target does")]
pub fn record(input: &[u8]) {
    if let Ok(Some(length)) = whole_record(input) {
        assert!((HEADER + TAIL..=MAX_RECORD).contains(&length) && length <= input.len());
        let mut record = input[..length].to_vec();
        assert!(key().open(&mut record).is_err(), "nobody can guess a tag");
    }

    let mut input = Cursor::new(input);
    let (flip, bit) = (input.word(), input.byte() % 8);
    let payload = input.take(MAX_PAYLOAD);
    let mut record = vec![0; HEADER];
    record.extend_from_slice(payload);
    record.resize(HEADER + payload.len() + TAIL, 0);
    key().seal(&mut record, ContentType::Data).expect("a payload of a good length");
    assert_eq!(whole_record(&record), Ok(Some(record.len())));

    let mut changed = record.clone();
    let at = flip % changed.len();
    changed[at] ^= 1 << bit;
    assert!(key().open(&mut changed).is_err(), "a changed record opened");
    let (content, opened) = key().open(&mut record).expect("an unchanged record");
    assert_eq!((content, &*opened), (ContentType::Data, payload));
}

#[expect(clippy::expect_used, reason = "panicking is what a target does")]
fn key() -> RecordKey {
    let secrets = ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from([7; 32]), iv: Iv::from([9; 12]) };
    RecordKey::new(0, &secrets).expect("a key of a good length")
}
