//! One direction of the TLS 1.3 record protocol (RFC 8446, section 5), in place.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

/// Bytes of a record's header.
pub const HEADER: usize = 5;
/// Bytes behind a record's payload: the inner content type and the AEAD's tag.
pub const TAIL: usize = 1 + 16;
/// The longest payload of a record (RFC 8446, section 5.1).
pub const MAX_PAYLOAD: usize = 1 << 14;
/// The longest record that may come in: header and `TLSCiphertext.length` (RFC 8446, section 5.2).
pub const MAX_RECORD: usize = HEADER + MAX_PAYLOAD + 256;

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// `alert(21)`
    Alert,
    /// `handshake(22)`
    Handshake,
    /// `application_data(23)`
    Data,
}

/// A record that is not as RFC 8446 wants it, or that does not authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Tampered with, replayed, out of order, or sealed with another key.
    #[error("a TLS record does not authenticate")]
    BadRecord,
    /// The length or the type is out of range.
    #[error("a TLS record has a bad header or content type")]
    Malformed,
    /// The keys cannot be used with the negotiated cipher suite.
    #[error("the TLS keys do not fit a known AEAD")]
    BadKey,
}

/// The key of one direction, its IV and the number of the next record.
pub struct RecordKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl RecordKey {
    /// Takes what the handshake or a key update derived.
    ///
    /// # Errors
    /// The suite's AEAD is none of TLS 1.3's three that we offer.
    pub fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, RecordError> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(RecordError::BadKey),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| RecordError::BadKey)?;
        let iv = iv.as_ref().try_into().map_err(|_| RecordError::BadKey)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// How many records this key has seen.
    pub fn used(&self) -> u64 {
        self.sequence
    }

    /// Seals the record in place: `record` is [`HEADER`] bytes, the payload, [`TAIL`] bytes.
    ///
    /// # Errors
    /// The payload is longer than [`MAX_PAYLOAD`], or there is no room for header and tail.
    pub fn seal(&mut self, record: &mut [u8], content: ContentType) -> Result<(), RecordError> {
        let payload = record.len().checked_sub(HEADER + TAIL).filter(|&n| n <= MAX_PAYLOAD);
        let payload = payload.ok_or(RecordError::Malformed)?;
        let (header, body) = record.split_at_mut(HEADER);
        header.copy_from_slice(&header_of(body.len()));
        body[payload] = content.byte();
        let (inner, tag_room) = body.split_at_mut(payload + 1);
        let nonce = self.next_nonce();
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), inner);
        tag_room.copy_from_slice(tag.map_err(|_| RecordError::BadRecord)?.as_ref());
        Ok(())
    }

    /// Opens one whole record in place: its content type and payload.
    ///
    /// # Errors
    /// It does not authenticate, or is malformed inside. The connection must end then.
    pub fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<(ContentType, &'r mut [u8]), RecordError> {
        let nonce = self.next_nonce();
        let (header, body) = record.split_at_mut(HEADER);
        let inner = self.key.open_in_place(nonce, Aad::from(&*header), body).map_err(|_| RecordError::BadRecord)?;
        // TLSInnerPlaintext: content, then its type, then any number of zeros.
        let last = inner.iter().rposition(|&b| b != 0).ok_or(RecordError::Malformed)?;
        if last > MAX_PAYLOAD {
            return Err(RecordError::Malformed);
        }
        Ok((ContentType::from_byte(inner[last])?, &mut inner[..last]))
    }

    /// RFC 8446, section 5.3. The count cannot wrap: keys are updated long before (see [`super::keys`]).
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, count) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

impl std::fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordKey").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// The length of the whole record at the front of `bytes`, once its header is there; `None` while more is needed.
///
/// # Errors
/// The header is not one of an encrypted record, or the record is too long.
pub fn whole_record(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(&[kind, _, _, high, low]) = bytes.get(..HEADER) else { return Ok(None) };
    let length = HEADER + usize::from(u16::from_be_bytes([high, low]));
    if kind != ContentType::Data.byte() || !(HEADER + TAIL..=MAX_RECORD).contains(&length) {
        return Err(RecordError::Malformed);
    }
    Ok((bytes.len() >= length).then_some(length))
}

fn header_of(body: usize) -> [u8; HEADER] {
    // At most MAX_PAYLOAD + TAIL, which fits 16 bits.
    let [.., high, low] = body.to_be_bytes();
    [ContentType::Data.byte(), 3, 3, high, low]
}

impl ContentType {
    /// Its byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }

    /// # Errors
    /// No content type that may stand inside an encrypted record.
    pub fn from_byte(byte: u8) -> Result<Self, RecordError> {
        match byte {
            21 => Ok(Self::Alert),
            22 => Ok(Self::Handshake),
            23 => Ok(Self::Data),
            _ => Err(RecordError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests;
