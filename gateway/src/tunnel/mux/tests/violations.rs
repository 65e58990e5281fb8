//! Peers that break the protocol, and peers that go to its limits (docs/wire.md, "Errors").

use super::{
    super::frame::{Kind, MAX_OPEN, header},
    *,
};
use std::time::Instant;

const LOCAL: Settings = Settings { window: 1000, max_streams: 2, cores: 1, about: Introduction::UNKNOWN };

fn frame(kind: Kind, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&header(kind, stream, payload.len()), payload].concat()
}

fn hello(window: u32) -> Vec<u8> {
    let mut payload = [0; 12];
    payload[..4].copy_from_slice(&window.to_be_bytes());
    payload[4..8].copy_from_slice(&8u32.to_be_bytes());
    frame(Kind::Hello, 0, &payload)
}

/// A record's events; `Err` where it ends the connection.
fn take(mux: &mut Mux<()>, record: &[u8]) -> Result<Vec<String>, ProtocolError> {
    let (mut rest, mut events) = (record, Vec::new());
    while let Some(event) = mux.receive(&mut rest)? {
        events.push(format!("{event:?}"));
    }
    Ok(events)
}

/// An acceptor whose peer has said HELLO, opened streams 1 and 3, and accepted our stream 2.
fn acceptor() -> (Mux<()>, Arc<Budget>) {
    let (mut mux, budget) = side(Role::Acceptor, LOCAL, 1 << 20);
    take(&mut mux, &hello(1000)).unwrap();
    take(&mut mux, &[frame(Kind::Open, 1, b"a"), frame(Kind::Open, 3, b"b")].concat()).unwrap();
    assert_eq!(mux.open(b"c", ()), Ok(2));
    take(&mut mux, &frame(Kind::Opened, 2, &[0, 0])).unwrap();
    records(&mut mux);
    (mux, budget)
}

#[test]
fn each_violation_is_told_by_its_name() {
    use ProtocolError as E;
    let cases: &[(&[Vec<u8>], E)] = &[
        (&[vec![0, 0, 0]], E::Truncated),
        (&[vec![0, 0, 0, 5, 0, 0, 0, 1, 7]], E::Truncated),
        (&[vec![10, 0, 0, 0, 0, 0, 0, 0]], E::UnknownType(10)),
        (&[vec![127, 0, 0, 0, 0, 0, 0, 0]], E::UnknownType(127)),
        (&[frame(Kind::Data, 1, b"")], E::BadLength(Kind::Data, 0)),
        (&[frame(Kind::Open, 5, &[0; MAX_OPEN + 1])], E::BadLength(Kind::Open, MAX_OPEN + 1)),
        (&[frame(Kind::Opened, 2, &[0])], E::BadLength(Kind::Opened, 1)),
        (&[frame(Kind::Opened, 2, &[0; 203])], E::BadLength(Kind::Opened, 203)),
        (&[frame(Kind::Credit, 2, &[0; 5])], E::BadLength(Kind::Credit, 5)),
        (&[frame(Kind::Fin, 1, &[0])], E::BadLength(Kind::Fin, 1)),
        (&[frame(Kind::Rst, 1, &[0])], E::BadLength(Kind::Rst, 1)),
        (&[frame(Kind::Goaway, 0, &[0])], E::BadLength(Kind::Goaway, 1)),
        (&[frame(Kind::Ping, 0, &[0; 7])], E::BadLength(Kind::Ping, 7)),
        (&[frame(Kind::Pong, 0, &[0; 9])], E::BadLength(Kind::Pong, 9)),
        (&[hello(1)], E::Order(Kind::Hello, "HELLO has been said")),
        (&[frame(Kind::Ping, 1, &[0; 8])], E::BadStream(Kind::Ping, 1)),
        (&[frame(Kind::Goaway, 2, b"")], E::BadStream(Kind::Goaway, 2)),
        (&[frame(Kind::Data, 0, b"x")], E::BadStream(Kind::Data, 0)),
        (&[frame(Kind::Open, 0, b"x")], E::BadStream(Kind::Open, 0)),
        (&[frame(Kind::Open, 4, b"x")], E::BadStream(Kind::Open, 4)),
        (&[frame(Kind::Open, 3, b"x")], E::BadStream(Kind::Open, 3)),
        (&[frame(Kind::Goaway, 0, b""), frame(Kind::Open, 5, b"x")], E::BadStream(Kind::Open, 5)),
        (&[frame(Kind::Opened, 2, &[0, 0])], E::BadStream(Kind::Opened, 2)),
        (&[frame(Kind::Opened, 1, &[0, 0])], E::BadStream(Kind::Opened, 1)),
        (&[frame(Kind::Opened, 4, &[0, 0])], E::BadStream(Kind::Opened, 4)),
        (&[frame(Kind::Data, 5, b"x")], E::BadStream(Kind::Data, 5)),
        (&[frame(Kind::Data, 4, b"x")], E::BadStream(Kind::Data, 4)),
        (&[frame(Kind::Fin, 5, b"")], E::BadStream(Kind::Fin, 5)),
        (&[frame(Kind::Rst, 4, b"")], E::BadStream(Kind::Rst, 4)),
        (&[frame(Kind::Credit, 5, &[0, 0, 0, 1])], E::BadStream(Kind::Credit, 5)),
        (&[frame(Kind::Fin, 1, b""), frame(Kind::Fin, 1, b"")], E::BadStream(Kind::Fin, 1)),
        (&[frame(Kind::Fin, 1, b""), frame(Kind::Data, 1, b"x")], E::BadStream(Kind::Data, 1)),
        (&[frame(Kind::Data, 1, &[0; 600]), frame(Kind::Data, 1, &[0; 401])], E::CreditExceeded(1)),
        (&[frame(Kind::Credit, 2, &[0x7f, 0xff, 0xff, 0xff])], E::CreditOverflow(2)),
        (&[frame(Kind::Credit, 2, &[0; 4])], E::NoCredit(2)),
    ];
    for (frames, error) in cases {
        let (mut mux, _budget) = acceptor();
        assert_eq!(take(&mut mux, &frames.concat()), Err(*error), "{frames:02x?}");
    }
}

#[test]
fn hello_comes_first_and_is_in_bounds() {
    for (record, error) in [
        (frame(Kind::Ping, 0, &[0; 8]), ProtocolError::Order(Kind::Ping, "HELLO was expected")),
        (frame(Kind::Open, 1, b"x"), ProtocolError::Order(Kind::Open, "HELLO was expected")),
        (frame(Kind::Hello, 0, &[0; 11]), ProtocolError::BadLength(Kind::Hello, 11)),
        (frame(Kind::Hello, 0, &[0; 257]), ProtocolError::BadLength(Kind::Hello, 257)),
        (frame(Kind::Hello, 1, &[0; 12]), ProtocolError::BadStream(Kind::Hello, 1)),
        (hello(1 << 31), ProtocolError::CreditOverflow(0)),
    ] {
        let (mut mux, _budget) = side(Role::Acceptor, LOCAL, 1 << 20);
        assert_eq!(mux.open(b"", ()), Err(OpenError::NotReady));
        assert_eq!(take(&mut mux, &record), Err(error));
    }
    let (mut mux, _budget) = side(Role::Acceptor, LOCAL, 1 << 20);
    assert_eq!(take(&mut mux, &hello((1 << 31) - 1)).map(|events| events.len()), Ok(1));
}

#[test]
fn frames_of_later_versions_are_skipped() {
    let (mut mux, _budget) = acceptor();
    let unknown = [&[130, 0, 0, 3, 0, 0, 0, 99][..], b"any", &[255, 0, 0, 0, 0, 0, 0, 0]].concat();
    let record = [unknown, frame(Kind::Data, 1, b"x")].concat();
    assert_eq!(take(&mut mux, &record).unwrap(), ["Data(1, [120])"]);
}

#[test]
fn frames_for_a_stream_that_is_over_concern_nobody() {
    let late = |id| {
        let kinds = [(Kind::Data, &[0; 1500][..]), (Kind::Credit, &[0, 0, 0, 9]), (Kind::Fin, b""), (Kind::Rst, b"")];
        kinds.map(|(kind, payload)| frame(kind, id, payload)).concat()
    };
    // Forgotten here, reset by the peer, refused here.
    let (mut mux, _budget) = acceptor();
    mux.forget(2);
    take(&mut mux, &frame(Kind::Rst, 1, b"")).unwrap();
    mux.answer(3, 1, false, "no");
    records(&mut mux);
    for id in [1, 2, 3] {
        assert_eq!(take(&mut mux, &late(id)).unwrap(), ["Nothing"; 4], "stream {id}");
        assert_eq!(mux.sendable(id), None);
        assert_eq!(mux.send(id, b"x"), 0);
        mux.finish(id);
    }
    assert!(records(&mut mux).is_empty(), "and nothing is answered");
}

#[test]
fn a_stream_that_ended_both_ways_needs_no_reset() {
    let (mut mux, _budget) = acceptor();
    mux.answer(1, 0, false, "");
    take(&mut mux, &frame(Kind::Fin, 1, b"")).unwrap();
    mux.finish(1);
    records(&mut mux);
    assert_eq!(mux.send(1, b"behind FIN"), 0);
    mux.forget(1);
    assert!(records(&mut mux).is_empty());
    // Stream 3 has not.
    mux.forget(3);
    assert_eq!(records(&mut mux).concat(), frame(Kind::Rst, 3, b""));
}

#[test]
fn streams_beyond_the_limit_are_refused_and_hold_nothing() {
    let (mut mux, budget) = acceptor();
    let granted = budget.granted();
    for id in (5..2005).step_by(2) {
        assert_eq!(take(&mut mux, &frame(Kind::Open, id, b"x")).unwrap(), ["Full"]);
        let said = records(&mut mux).concat();
        assert_eq!((said[0], said[8], said[9]), (Kind::Opened as u8, connection::STATUS_LIMIT, 1));
    }
    assert_eq!((mux.live(), budget.granted()), ((1, 2), granted));
}

#[test]
fn streams_beyond_the_memory_budget_are_refused() {
    let (mut mux, budget) = side(Role::Acceptor, LOCAL, 1500);
    take(&mut mux, &hello(1000)).unwrap();
    assert_eq!(take(&mut mux, &frame(Kind::Open, 1, b"x")).unwrap(), ["Open(1, [120])"]);
    assert_eq!(take(&mut mux, &frame(Kind::Open, 3, b"x")).unwrap(), ["Nothing"]);
    assert_eq!(mux.open(b"", ()), Err(OpenError::Memory));
    assert_eq!(budget.granted(), 1000);
    mux.forget(1);
    assert_eq!(mux.open(b"", ()), Ok(2));
}

#[test]
fn one_peer_leaves_a_quarter_of_the_memory_budget_for_our_own_streams() {
    let (mut mux, budget) = side(Role::Acceptor, Settings { max_streams: 100, ..LOCAL }, 8000);
    take(&mut mux, &hello(1000)).unwrap();
    let opens: Vec<u8> = (1..41).step_by(2).flat_map(|id| frame(Kind::Open, id, b"x")).collect();
    let events = take(&mut mux, &opens).unwrap();
    assert_eq!(events.iter().filter(|event| event.starts_with("Open(")).count(), 6);
    assert_eq!((mux.live(), budget.granted()), ((0, 6), 6000));
    assert_eq!((mux.open(b"", ()), mux.open(b"", ())), (Ok(2), Ok(4)));
    assert_eq!(mux.open(b"", ()), Err(OpenError::Memory));
}

#[test]
fn a_flood_is_answered_with_a_few_times_its_size_at_the_most() {
    let (mut mux, _budget) = acceptor();
    let pings = frame(Kind::Ping, 0, &[7; 8]).repeat(1000);
    take(&mut mux, &pings).unwrap();
    assert_eq!(records(&mut mux).concat(), frame(Kind::Pong, 0, &[7; 8]).repeat(1000));
    let opens: Vec<u8> = (5..2005).step_by(2).flat_map(|id| frame(Kind::Open, id, b"")).collect();
    take(&mut mux, &opens).unwrap();
    assert!(records(&mut mux).concat().len() <= 6 * opens.len());
}

#[test]
fn our_own_limits_are_told_before_anything_is_sent() {
    let (mut mux, _budget) = acceptor();
    assert_eq!(mux.open(&[0; MAX_OPEN + 1], ()), Err(OpenError::TooLong));
    for id in (4..18).step_by(2) {
        assert_eq!(mux.open(b"", ()), Ok(id));
    }
    assert_eq!(mux.open(b"", ()), Err(OpenError::TooMany(8)));
    mux.goaway();
    assert_eq!(mux.open(b"", ()), Err(OpenError::Draining));
}

#[test]
fn a_connection_that_is_gone_spares_only_streams_that_had_ended() {
    let (mut mux, budget) = acceptor();
    mux.answer(1, 0, false, "");
    mux.answer(3, 0, false, "");
    take(&mut mux, &[frame(Kind::Data, 1, &[0; 900]), frame(Kind::Fin, 1, b""), frame(Kind::Fin, 3, b"")].concat())
        .unwrap();
    mux.finish(1);
    mux.abort();
    assert!(mux.sendable(1).is_some(), "both sides had finished it");
    assert_eq!((mux.sendable(2), mux.sendable(3)), (None, None));
    mux.consumed(1, 900, Instant::now(), RTT);
    for id in [1, 2, 3] {
        mux.forget(id);
    }
    assert_eq!(budget.granted(), 0);
}
