//! What a QUIC tunnel reads of its peer: the control stream, and the heads of streams.

use crate::cursor::Cursor;
use isthmus_gateway::tunnel::quic::{
    control::{Inbox, Said},
    head,
};

/// A control stream means the same however it is cut into packets.
pub fn control(input: &[u8]) {
    let mut input = Cursor::new(input);
    let cut = 1 + input.word() % 64;
    let bytes = input.take(usize::MAX);
    let (mut inbox, mut whole) = (Inbox::default(), Vec::new());
    if inbox.receive(bytes, |said| whole.push(said)).is_err() {
        return;
    }
    let (mut inbox, mut parts): (_, Vec<Said>) = (Inbox::default(), Vec::new());
    for part in bytes.chunks(cut) {
        assert!(inbox.receive(part, |said| parts.push(said)).is_ok(), "only cut, and an error");
    }
    assert_eq!(parts, whole);
}

/// A head takes its own bytes and no more, and a request that is read is written as it was read.
pub fn head(input: &[u8]) {
    for mut reading in [head::Reading::open(), head::Reading::opened()] {
        let mut rest = input;
        while let Some(missing @ 1..) = reading.missing() {
            let Some((part, behind)) = rest.split_at_checked(missing) else { return };
            reading.add(part);
            rest = behind;
        }
        if let Ok(request) = reading.request()
            && let Some(again) = head::open(&request)
        {
            let mut reading = head::Reading::open();
            reading.add(&again);
            assert_eq!((reading.missing(), reading.request()), (Some(0), Ok(request)));
        }
        let _ = reading.answer();
    }
}
