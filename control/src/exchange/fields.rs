//! ● Counts what is in a frame before anything is made of it: an empty message costs two bytes on the wire and a hundred in memory.

use super::{DecodeError, MAX_FRAME, summary::bounds::FIELD};

/// Fields of a frame and of all that it holds. No summaries within their weight have more.
const MAX_FIELDS: usize = MAX_FRAME / FIELD;

/// Which fields of a message hold messages, and what those hold.
struct Shape(&'static [(u64, &'static Shape)]);

const FLAT: Shape = Shape(&[]);
/// Ports, zones, labels, annotations and members.
const SERVICE: Shape = Shape(&[(4, &FLAT), (9, &FLAT), (10, &FLAT), (11, &FLAT), (12, &FLAT)]);
const SNAPSHOT: Shape = Shape(&[(2, &SERVICE)]);
const DELTA: Shape = Shape(&[(3, &SERVICE)]);
const FRAME: Shape = Shape(&[(2, &SNAPSHOT), (3, &DELTA)]);

/// Refuses a frame that has more fields than any good one.
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    count(bytes, &FRAME, &mut { MAX_FIELDS })
}

/// Takes all fields of a message, and of those in it, off `left`.
fn count(mut bytes: &[u8], shape: &Shape, left: &mut usize) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        *left = left.checked_sub(1).ok_or(DecodeError::TooMany)?;
        let key = prost::encoding::decode_varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                prost::encoding::decode_varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => usize::try_from(prost::encoding::decode_varint(&mut bytes)?).unwrap_or(usize::MAX),
            5 => 4,
            _ => return Err(DecodeError::Field("a group, which no message has")),
        };
        let cut = bytes.split_at_checked(length);
        let (content, rest) = cut.ok_or(DecodeError::Field("a field longer than its message"))?;
        bytes = rest;
        let inner = shape.0.iter().find(|(number, _)| key & 7 == 2 && *number == key >> 3);
        if let Some((_, shape)) = inner {
            count(content, shape, left)?;
        }
    }
    Ok(())
}
