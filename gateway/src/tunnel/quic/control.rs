//! ● The control stream of a QUIC tunnel: frames of the multiplexer, as far as they concern the tunnel or give credit.

use crate::tunnel::mux::{
    ProtocolError, Settings,
    frame::{self, Frame, HEADER, Kind},
    path::PathReport,
};

/// Frames that wait to be sent.
#[derive(Debug, Default)]
pub struct Outbox(Vec<u8>);

/// What the peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// The first thing: how it wants the tunnel to be run.
    Hello(Settings),
    /// So many bytes more may be sent on a stream.
    Credit(u32, usize),
    /// It asks whether we are there.
    Ping([u8; 8]),
    /// It answers.
    Pong(u64),
    /// What it has counted of its path to us, and its clock.
    Path(PathReport),
    /// How many tunnels it takes of this gateway: fewer than there are.
    Limit(u32),
    /// It opens no more streams.
    Goaway,
}

/// Bytes of the peer that make no whole frame yet.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    heard_hello: bool,
}

/// The most that credit may add up to on one stream.
pub const MAX_CREDIT: usize = (1 << 31) - 1;

impl Outbox {
    /// With HELLO in it.
    pub fn new(settings: &Settings) -> Self {
        let mut outbox = Self::default();
        outbox.put(Kind::Hello, 0, &settings.to_bytes());
        outbox
    }

    /// Gives a stream credit.
    pub fn credit(&mut self, stream: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.put(Kind::Credit, stream, &bytes.to_be_bytes());
    }

    /// Asks.
    pub fn ping(&mut self, token: u64) {
        self.put(Kind::Ping, 0, &token.to_be_bytes());
    }

    /// Answers.
    pub fn pong(&mut self, payload: [u8; 8]) {
        self.put(Kind::Pong, 0, &payload);
    }

    /// Tells what was counted of the path to the peer, and this side's clock.
    pub fn path(&mut self, report: PathReport) {
        self.put(Kind::Path, 0, &report.to_bytes());
    }

    /// Tells the peer how many tunnels are taken of its gateway.
    pub fn limit(&mut self, limit: u32) {
        self.put(Kind::Limit, 0, &limit.to_be_bytes());
    }

    /// Says goodbye.
    pub fn goaway(&mut self) {
        self.put(Kind::Goaway, 0, &[]);
    }

    /// Takes everything.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn put(&mut self, kind: Kind, stream: u32, payload: &[u8]) {
        self.0.extend_from_slice(&frame::header(kind, stream, payload.len()));
        self.0.extend_from_slice(payload);
    }
}

impl Inbox {
    /// Adds what came in, and hands each whole frame's meaning to `act`.
    ///
    /// # Errors
    /// The peer broke the protocol: the tunnel must end.
    pub fn receive(&mut self, bytes: &[u8], mut act: impl FnMut(Said)) -> Result<(), ProtocolError> {
        self.bytes.extend_from_slice(bytes);
        let whole = whole_frames(&self.bytes)?;
        let mut input = &self.bytes[..whole];
        while let Some(frame) = frame::next(&mut input)? {
            act(meaning(frame, &mut self.heard_hello)?);
        }
        self.bytes.drain(..whole);
        Ok(())
    }
}

/// The longest frame of this stream, known or not: what an old version could be made to hold.
const LONGEST: usize = HEADER + 4096;

/// How many bytes of `input` are whole frames.
fn whole_frames(input: &[u8]) -> Result<usize, ProtocolError> {
    let mut at = 0;
    while let Some(&[_, a, b, c, ..]) = input[at..].first_chunk::<HEADER>() {
        let length = HEADER + u32::from_be_bytes([0, a, b, c]) as usize;
        if length > LONGEST {
            return Err(ProtocolError::Truncated);
        }
        if input.len() - at < length {
            break;
        }
        at += length;
    }
    Ok(at)
}

fn meaning(frame: Frame<'_>, heard_hello: &mut bool) -> Result<Said, ProtocolError> {
    let Frame { kind, stream, payload } = frame;
    match (kind, *heard_hello) {
        (Kind::Hello, true) => return Err(ProtocolError::Order(kind, "HELLO has been said")),
        (Kind::Hello, false) => *heard_hello = true,
        (_, false) => return Err(ProtocolError::Order(kind, "HELLO was expected")),
        (_, true) => {}
    }
    if (kind != Kind::Credit) && stream != 0 {
        return Err(ProtocolError::BadStream(kind, stream));
    }
    let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| payload[at + i]));
    match kind {
        Kind::Hello => Settings::from_bytes(payload).map(Said::Hello),
        Kind::Credit => match word(0) as usize {
            0 => Err(ProtocolError::NoCredit(stream)),
            bytes => Ok(Said::Credit(stream, bytes)),
        },
        Kind::Ping => Ok(Said::Ping(payload.try_into().unwrap_or_default())),
        Kind::Pong => Ok(Said::Pong(payload.try_into().map_or(0, u64::from_be_bytes))),
        Kind::Path => Ok(Said::Path(PathReport::from_bytes(payload))),
        Kind::Limit => Ok(Said::Limit(word(0))),
        Kind::Goaway => Ok(Said::Goaway),
        // What streams of their own say over QUIC.
        Kind::Data | Kind::Open | Kind::Opened | Kind::Fin | Kind::Rst => Err(ProtocolError::BadStream(kind, stream)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::{Packets, mux::path::Clock};
    use proptest::prelude::*;

    const SETTINGS: Settings =
        Settings { window: 65_536, max_streams: 7, cores: 2, about: crate::tunnel::mux::Introduction::UNKNOWN };

    fn said(inbox: &mut Inbox, bytes: &[u8]) -> Vec<Said> {
        let mut all = vec![];
        inbox.receive(bytes, |said| all.push(said)).unwrap();
        all
    }

    proptest! {
        #[test]
        fn what_was_said_is_heard_however_it_is_cut(cut in 1usize..20, token: u64, stream in 1u32.., bytes in 1usize..1 << 31) {
            let report = PathReport { packets: Packets { sent: token, lost: 1 }, clock: Clock(token) };
            let mut outbox = Outbox::new(&SETTINGS);
            outbox.ping(token);
            outbox.pong(token.to_be_bytes());
            outbox.credit(stream, bytes);
            outbox.path(report);
            outbox.limit(7);
            outbox.goaway();
            let mut inbox = Inbox::default();
            let heard: Vec<_> = outbox.take().chunks(cut).flat_map(|part| said(&mut inbox, part)).collect();
            let wanted = [
                Said::Hello(SETTINGS),
                Said::Ping(token.to_be_bytes()),
                Said::Pong(token),
                Said::Credit(stream, bytes),
                Said::Path(report),
                Said::Limit(7),
                Said::Goaway,
            ];
            prop_assert_eq!(heard, wanted);
        }

        #[test]
        fn no_input_panics_or_is_held(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut inbox = Inbox::default();
            let _ = inbox.receive(&bytes, |_| {});
            prop_assert!(inbox.bytes.len() <= LONGEST);
        }
    }

    #[test]
    fn what_is_out_of_place_is_an_error() {
        let mut hello = Outbox::new(&SETTINGS).take();
        assert!(Inbox::default().receive(&[hello.clone(), hello.clone()].concat(), |_| {}).is_err());
        let mut early = Outbox::default();
        early.goaway();
        assert!(Inbox::default().receive(&early.take(), |_| {}).is_err());
        let mut inbox = Inbox::default();
        assert_eq!(said(&mut inbox, &hello).len(), 1);
        assert_eq!(inbox.receive(&frame::header(Kind::Fin, 4, 0), |_| {}), Err(ProtocolError::BadStream(Kind::Fin, 4)));
        let mut none = Outbox::default();
        none.credit(4, 0);
        hello.extend(none.take());
        assert_eq!(Inbox::default().receive(&hello, |_| {}), Err(ProtocolError::NoCredit(4)));
    }

    #[test]
    fn a_later_versions_frame_is_skipped() {
        let mut bytes = Outbox::new(&SETTINGS).take();
        bytes.extend([200, 0, 0, 1, 0, 0, 0, 9, 77]);
        assert_eq!(said(&mut Inbox::default(), &bytes).len(), 1);
    }
}
