//! ● What stands before a stream's bytes, each way: OPEN from who opened it, OPENED from who was asked.
//!
//! ```text
//! OPEN    length u16, message            OPENED  status u8, retry u8, length u8, text
//! ```

use crate::tunnel::{
    OpenRequest, Refusal,
    mux::frame::MAX_OPEN,
    open::{self, BadOpen},
};

/// What [`Refusal`]'s message is cut to.
const LONGEST_TEXT: usize = 200;

/// A head that is being read. It takes exactly its own bytes off the stream: what follows belongs to others.
#[derive(Debug)]
pub struct Reading {
    bytes: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Opened,
}

/// OPEN's bytes; `None` where the request is too long.
pub fn open(request: &OpenRequest) -> Option<Vec<u8>> {
    let message = open::encode(request);
    let length = u16::try_from(message.len()).ok().filter(|&length| usize::from(length) <= MAX_OPEN)?;
    Some([&length.to_be_bytes()[..], &message].concat())
}

/// OPENED's bytes.
pub fn opened(answer: Result<(), &Refusal>) -> Vec<u8> {
    let (status, retry, text) = match answer {
        Ok(()) => (0, false, ""),
        Err(refusal) => (open::status_of(refusal.reason), refusal.retry, refusal.message.as_str()),
    };
    let text = &text[..text.floor_char_boundary(LONGEST_TEXT)];
    // At most LONGEST_TEXT, so it fits a byte.
    [&[status, u8::from(retry), text.len() as u8], text.as_bytes()].concat()
}

impl Reading {
    /// Of OPEN.
    pub fn open() -> Self {
        Self { bytes: Vec::new(), kind: Kind::Open }
    }

    /// Of OPENED.
    pub fn opened() -> Self {
        Self { bytes: Vec::new(), kind: Kind::Opened }
    }

    /// How many bytes are missing, as far as it is known; 0: it is whole. `None`: it is longer than it may be.
    pub fn missing(&self) -> Option<usize> {
        let whole = match (self.kind, &self.bytes[..]) {
            (Kind::Open, [a, b, ..]) => 2 + usize::from(u16::from_be_bytes([*a, *b])),
            (Kind::Open, _) => 2,
            (Kind::Opened, [_, _, length, ..]) => 3 + usize::from(*length),
            (Kind::Opened, _) => 3,
        };
        (whole <= 2 + MAX_OPEN).then(|| whole.saturating_sub(self.bytes.len()))
    }

    /// Adds some of what is missing.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What a whole OPEN asks for.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn request(&self) -> Result<OpenRequest, BadOpen> {
        open::decode(self.bytes.get(2..).unwrap_or_default())
    }

    /// What a whole OPENED says.
    ///
    /// # Errors
    /// The refusal.
    pub fn answer(&self) -> Result<(), Refusal> {
        match &self.bytes[..] {
            [status, retry, _, text @ ..] => open::answer(*status, *retry == 1, text),
            // Not whole: as a refusal without a reason.
            _ => open::answer(3, true, b"the answer is cut off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::{RefusalReason, Source};
    use isthmus_control_api::ServicePort;
    use proptest::prelude::*;

    /// Reads from `bytes` in pieces of `cut`; what is left behind it.
    fn read(mut reading: Reading, bytes: &[u8], cut: usize) -> (Reading, &[u8]) {
        let mut rest = bytes;
        while let Some(missing @ 1..) = reading.missing() {
            let (part, behind) = rest.split_at(missing.min(cut).min(rest.len()));
            assert!(!part.is_empty(), "cut off");
            reading.add(part);
            rest = behind;
        }
        (reading, rest)
    }

    proptest! {
        #[test]
        fn a_request_is_read_as_it_was_written_and_no_byte_more(cut in 1usize..50, behind in prop::collection::vec(any::<u8>(), 0..9)) {
            let request = OpenRequest {
                service: ServicePort::tcp("shop/api".parse().unwrap(), 80),
                source: Source { id: "spiffe://west.demo/ns/shop/sa/web".parse().unwrap(), pod: None, address: None },
                sticky: false,
                elsewhere: false,
                traceparent: None,
            };
            let bytes = [open(&request).unwrap(), behind.clone()].concat();
            let (reading, rest) = read(Reading::open(), &bytes, cut);
            prop_assert_eq!(reading.request(), Ok(request));
            prop_assert_eq!(rest, &behind[..]);
        }

        #[test]
        fn an_answer_is_read_as_it_was_written(cut in 1usize..50, retry: bool, message in "[a-zä ]{0,150}") {
            let (reading, rest) = (read(Reading::opened(), &opened(Ok(())), cut).0, ());
            prop_assert_eq!((reading.answer(), rest), (Ok(()), ()));
            let refusal = Refusal { reason: RefusalReason::Denied, message, retry };
            let bytes = opened(Err(&refusal));
            let read = read(Reading::opened(), &bytes, cut).0.answer().unwrap_err();
            prop_assert!(refusal.message.starts_with(&read.message));
            prop_assert_eq!(Refusal { message: refusal.message.clone(), ..read }, refusal);
        }
    }

    #[test]
    fn a_request_that_is_too_long_is_noticed_by_its_length() {
        let mut reading = Reading::open();
        reading.add(&[255, 255]);
        assert_eq!(reading.missing(), None);
    }
}
