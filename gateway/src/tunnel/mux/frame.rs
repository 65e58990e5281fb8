//! The frames of the multiplexer (docs/wire.md, "Frames").

/// Bytes of a frame's header: type, length (24 bits), stream (32 bits), big endian.
pub const HEADER: usize = 8;

/// The longest payload: a frame never spans TLS records.
pub const MAX_PAYLOAD: usize = (1 << 14) - HEADER;

/// The longest payload of OPEN.
pub const MAX_OPEN: usize = 4096;

/// A frame's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a stream.
    Data = 0,
    /// Asks for a stream.
    Open = 1,
    /// Answers an OPEN.
    Opened = 2,
    /// Lets the other side send so many bytes more on a stream.
    Credit = 3,
    /// No more bytes will follow on a stream.
    Fin = 4,
    /// The stream is over, and not as it should be.
    Rst = 5,
    /// Asks whether the peer is there.
    Ping = 6,
    /// Answers a PING with its payload.
    Pong = 7,
    /// The sender opens no more streams and asks the peer to do the same.
    Goaway = 8,
    /// The sender's settings: the first frame each way.
    Hello = 9,
    /// How many packets the sender has sent, and how many of them were lost.
    Path = 128,
    /// So many tunnels its sender takes of the receiver, before a GOAWAY.
    Limit = 129,
}

/// A frame as it stands in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'i> {
    /// Its type.
    pub kind: Kind,
    /// Its stream; 0 for those that concern the connection.
    pub stream: u32,
    /// Its payload.
    pub payload: &'i [u8],
}

/// The peer broke the protocol. The connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A record ends within a frame.
    #[error("a frame is cut off by its record's end")]
    Truncated,
    /// A type that no version knows.
    #[error("unknown frame type {0}")]
    UnknownType(u8),
    /// A payload of a length that its type does not have.
    #[error("a {0:?} frame with a payload of {1} bytes")]
    BadLength(Kind, usize),
    /// A stream id that the type, the side or the order forbids.
    #[error("a {0:?} frame for stream {1} out of place")]
    BadStream(Kind, u32),
    /// More bytes than credit was given for.
    #[error("stream {0} was sent more than its credit")]
    CreditExceeded(u32),
    /// More credit than a window can be, on a stream or (0) in HELLO.
    #[error("stream {0} was given more credit than 2^31-1")]
    CreditOverflow(u32),
    /// A CREDIT that gives none: waking a stream for nothing.
    #[error("stream {0} was given a credit of 0")]
    NoCredit(u32),
    /// Something before HELLO, or HELLO twice.
    #[error("a {0:?} frame where {1}")]
    Order(Kind, &'static str),
}

/// Frames with these types are skipped where unknown: room for additions that old versions may ignore.
const SKIPPABLE: u8 = 128;

/// Takes the next frame off `input`; `None` at its end.
///
/// # Errors
/// [`ProtocolError::Truncated`], [`ProtocolError::UnknownType`] or [`ProtocolError::BadLength`].
pub fn next<'i>(input: &mut &'i [u8]) -> Result<Option<Frame<'i>>, ProtocolError> {
    loop {
        if input.is_empty() {
            return Ok(None);
        }
        let (header, rest) = input.split_first_chunk::<HEADER>().ok_or(ProtocolError::Truncated)?;
        let [kind, a, b, c, stream @ ..] = *header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let (payload, rest) = rest.split_at_checked(length).ok_or(ProtocolError::Truncated)?;
        *input = rest;
        let known = Kind::from_byte(kind);
        if known.is_none() && kind >= SKIPPABLE {
            continue;
        }
        let kind = known.ok_or(ProtocolError::UnknownType(kind))?;
        if !kind.fits(length) {
            return Err(ProtocolError::BadLength(kind, length));
        }
        return Ok(Some(Frame { kind, stream: u32::from_be_bytes(stream), payload }));
    }
}

/// A frame's header.
pub fn header(kind: Kind, stream: u32, length: usize) -> [u8; HEADER] {
    debug_assert!(length <= MAX_PAYLOAD, "a frame fits a record");
    let [.., a, b, c] = length.to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [kind as u8, a, b, c, d, e, f, g]
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        const KINDS: [Kind; 10] = [
            Kind::Data,
            Kind::Open,
            Kind::Opened,
            Kind::Credit,
            Kind::Fin,
            Kind::Rst,
            Kind::Ping,
            Kind::Pong,
            Kind::Goaway,
            Kind::Hello,
        ];
        // Those that older versions skip.
        let skipped = [Kind::Path, Kind::Limit].into_iter().find(|&kind| kind as u8 == byte);
        skipped.or_else(|| KINDS.get(usize::from(byte)).copied())
    }

    fn fits(self, length: usize) -> bool {
        match self {
            Self::Data => (1..=MAX_PAYLOAD).contains(&length),
            Self::Open => length <= MAX_OPEN,
            Self::Opened => (2..=2 + 200).contains(&length),
            Self::Credit => length == 4,
            Self::Fin | Self::Rst | Self::Goaway => length == 0,
            Self::Ping | Self::Pong => length == 8,
            // Later versions may add to these.
            Self::Hello => (12..=256).contains(&length),
            Self::Path => (16..=256).contains(&length),
            Self::Limit => (4..=256).contains(&length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_written(kind in 0u8..10, stream: u32, payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let kind = Kind::from_byte(kind).unwrap();
            prop_assume!(kind.fits(payload.len()));
            let mut bytes = header(kind, stream, payload.len()).to_vec();
            bytes.extend(&payload);
            let mut input = &bytes[..];
            prop_assert_eq!(next(&mut input), Ok(Some(Frame { kind, stream, payload: &payload })));
            prop_assert_eq!(next(&mut input), Ok(None));
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut input = &bytes[..];
            while let Ok(Some(_)) = next(&mut input) {}
        }
    }

    #[test]
    fn unknown_types_are_skipped_only_where_they_may_be() {
        let mut input = &[200, 0, 0, 1, 0, 0, 0, 0, 7][..];
        assert_eq!(next(&mut input), Ok(None));
        let mut input = &[10, 0, 0, 0, 0, 0, 0, 0][..];
        assert_eq!(next(&mut input), Err(ProtocolError::UnknownType(10)));
    }
}
