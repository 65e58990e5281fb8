//! A tunnel whose peer does what no peer of ours would, or does it when it matters.

use super::{
    pair::{End, SETTINGS, Stream, on_a_core, request, spawn, start, until},
    raw::{Raw, frame, hello},
    *,
};
use crate::{
    core::tests::local,
    tunnel::mux::{
        Introduction,
        frame::{self as frames, Kind},
        path::{Clock, PathReport},
    },
};
use std::{
    future::poll_fn,
    sync::Mutex,
    task::{Context, Poll, Wake},
};
use tokio::sync::mpsc;

/// West's tunnel and the peer that it dialled, who has said HELLO with this credit.
async fn with_raw(window: u32) -> (End, Raw) {
    let (dialled, accepted) = Configs::new().pair().await;
    let (west, mut raw) = (start(dialled, Direction::Dialled, "east"), Raw::new(accepted));
    raw.send(&hello(window)).await;
    west.tunnel_is(TunnelHealth::Live).await;
    (west, raw)
}

/// A stream of west's that the peer has accepted.
async fn accepted(west: &End, raw: &mut Raw) -> (u32, Stream) {
    let mut stream = west.tunnel.open(&request("west")).unwrap();
    let id = raw.receive_until(Kind::Open).await;
    raw.send(&frame(Kind::Opened, id, &[0, 0])).await;
    opened(&mut stream).await.unwrap();
    (id, stream)
}

/// The peer speaks on, and reads after that. A socket that were closed by then would answer with a reset and throw away what it had
/// still to send.
#[test]
fn a_drained_tunnel_ends_when_its_peer_has_had_the_last_bytes_and_not_before() {
    // More than the peer's side of the connection takes while it does not read, less than both sides do.
    const TAIL: usize = 150_000;
    on_a_core(async {
        let (west, mut raw) = with_raw(1 << 20).await;
        let (id, mut stream) = accepted(&west, &mut raw).await;
        let (sink, _local) = local().await;
        raw.send(&frame(Kind::Fin, id, b"")).await;
        assert_eq!(poll_fn(|cx| stream.poll_receive(cx, &sink)).await.unwrap(), 0);
        let mut sent = 0;
        while sent < TAIL {
            sent += poll_fn(|cx| stream.poll_write(cx, &[7; TAIL][sent..])).await.unwrap();
        }
        stream.finish();
        drop(stream);
        west.tunnel.drain();
        raw.send(&frame(Kind::Goaway, 0, b"")).await;
        let mut flushed = std::pin::pin!(west.tunnel.flushed());
        raw.send(&frame(Kind::Ping, 0, &[1; 8])).await;
        let mut received = 0;
        while let Some(record) = raw.receive().await.expect("nothing is lost") {
            let mut rest = &record[..];
            while let Some(frame) = frames::next(&mut rest).unwrap() {
                received += if frame.kind == Kind::Data { frame.payload.len() } else { 0 };
                if frame.kind == Kind::Ping {
                    let early =
                        received < TAIL && flushed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                    assert!(!early && west.tunnel.health() == TunnelHealth::Draining, "it waits for this answer");
                    raw.send(&self::frame(Kind::Pong, 0, frame.payload)).await;
                }
            }
        }
        assert_eq!(received, TAIL);
        flushed.await;
        drop(raw);
        assert!(matches!(west.end.await.unwrap(), TunnelEnd::Drained));
    });
}

/// In seconds, to ten of them: a machine may dawdle.
fn ahead(west: &End) -> Option<i64> {
    west.tunnel.status().peer.unwrap().ahead.map(|ahead| (ahead as f64 / 10e3).round() as i64 * 10)
}

#[test]
fn a_clock_that_is_put_right_is_right_from_then_on() {
    on_a_core(async {
        let (dialled, accepted) = Configs::new().pair().await;
        let (west, mut raw) = (start(dialled, Direction::Dialled, "east"), Raw::new(accepted));
        let about = Introduction::of(isthmus_control_api::GatewayId(7));
        let wrong = Settings { about, ..SETTINGS }.said_at(SystemTime::now() + Duration::from_mins(1));
        raw.send(&frame(Kind::Hello, 0, &wrong.to_bytes())).await;
        west.tunnel_is(TunnelHealth::Live).await;
        assert_eq!(ahead(&west), Some(60));
        // As a gateway tells it that is older: nothing of a clock.
        raw.send(&frame(Kind::Path, 0, &[0; 16])).await;
        let right = PathReport { clock: Clock::at(SystemTime::now()), ..PathReport::default() };
        raw.send(&frame(Kind::Ping, 0, &[1; 8])).await;
        raw.receive_until(Kind::Pong).await;
        assert_eq!(ahead(&west), Some(60));
        raw.send(&[frame(Kind::Path, 0, &right.to_bytes()), frame(Kind::Ping, 0, &[1; 8])].concat()).await;
        raw.receive_until(Kind::Pong).await;
        assert_eq!(ahead(&west), Some(0));
    });
}

#[test]
fn a_hello_does_not_revive_a_draining_tunnel() {
    on_a_core(async {
        let (dialled, accepted) = Configs::new().pair().await;
        let (west, mut raw) = (start(dialled, Direction::Dialled, "east"), Raw::new(accepted));
        west.tunnel.drain();
        raw.send(&[hello(1000), frame(Kind::Ping, 0, &[1; 8])].concat()).await;
        raw.receive_until(Kind::Pong).await;
        assert_eq!(west.tunnel.health(), TunnelHealth::Draining);
        assert_eq!(west.tunnel.open(&request("west")).err().unwrap().reason, RefusalReason::Draining);
    });
}

/// PINGs in one record: as many as fit.
const PINGS: usize = 1000;

#[test]
fn a_peer_that_asks_and_never_reads_gets_no_further_and_all_answers_once_it_reads() {
    on_a_core(async {
        let (west, mut raw) = with_raw(1000).await;
        // Little room below, so that the test need not fill much.
        socket2::SockRef::from(&raw.socket).set_send_buffer_size(64 * 1024).unwrap();
        let (mut asked, mut in_vain) = (0, 0);
        let (mut record, mut at) = (raw.seal(&frame(Kind::Ping, 0, &[1; 8]).repeat(PINGS)), 0);
        // Whoever reads on and on is found out by what it holds.
        let most = 3 * pump::BACKLOG;
        until(|| {
            match raw.socket.try_write(&record[at..]) {
                Ok(n) => (at, in_vain) = (at + n, 0),
                Err(_) => in_vain += 1,
            }
            if at == record.len() {
                asked += PINGS;
                (record, at) = (raw.seal(&frame(Kind::Ping, 0, &[1; 8]).repeat(PINGS)), 0);
            }
            let held = west.tunnel.0.mux.borrow_mut().out().len();
            assert!(held < most, "{held} bytes wait for a peer that does not read");
            // After so many turns of all that there is to do, nothing more happens.
            held >= pump::BACKLOG && in_vain > 200
        })
        .await;
        let mut answered = 0;
        let mut rest = record.split_off(at);
        while answered < asked {
            let frames = raw.receive().await.unwrap().expect("the connection goes on");
            let mut frames = &frames[..];
            while let Some(frame) = frames::next(&mut frames).unwrap() {
                answered += usize::from(frame.kind == Kind::Pong && frame.payload == [1; 8]);
            }
            let sent = raw.socket.try_write(&rest).unwrap_or(0);
            rest.drain(..sent);
        }
    });
}

/// Notes that it was woken.
struct Noted(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Noted {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

#[test]
fn streams_that_wait_for_room_stand_in_line_once_and_are_served_in_order() {
    on_a_core(async {
        let (west, mut raw) = with_raw(64 << 20).await;
        let (_, mut bulk) = accepted(&west, &mut raw).await;
        let mut waiting = vec![];
        for _ in 0..4 {
            waiting.push(accepted(&west, &mut raw).await.1);
        }
        // Until the connection takes no more, and what lies before it is full.
        let room = |stream: &mut Stream, cx: &mut Context<'_>| stream.poll_write(cx, &[7; 16 * 1024]).is_ready();
        let mut in_vain = 0;
        until(|| {
            let mut cx = Context::from_waker(Waker::noop());
            in_vain = if room(&mut bulk, &mut cx) { 0 } else { in_vain + 1 };
            in_vain > 200
        })
        .await;
        bulk.reset();
        let woken = Arc::new(Mutex::new(vec![]));
        for _ in 0..100 {
            for (i, stream) in waiting.iter_mut().enumerate() {
                let waker = Waker::from(Arc::new(Noted(i, woken.clone())));
                assert!(matches!(stream.poll_write(&mut Context::from_waker(&waker), b"!"), Poll::Pending));
            }
        }
        assert_eq!(west.tunnel.0.waiting_for_room.borrow().len(), 4);
        // One that is gone has no place any more.
        waiting[1].reset();
        assert_eq!(west.tunnel.0.waiting_for_room.borrow().len(), 3);
        while woken.lock().unwrap().is_empty() {
            raw.receive().await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), [0, 2, 3]);
        assert_eq!(west.tunnel.0.waiting_for_room.borrow().len(), 0);
    });
}

#[test]
fn a_stream_with_little_to_say_has_its_turn_beside_one_that_always_has_more() {
    on_a_core(async {
        const WINDOW: usize = 256 << 20;
        let (west, mut raw) = with_raw(WINDOW as u32).await;
        let (_, mut bulk) = accepted(&west, &mut raw).await;
        let (small, mut stream) = accepted(&west, &mut raw).await;
        let (say, mut said) = mpsc::channel::<()>(1);
        spawn(async move { while poll_fn(|cx| bulk.poll_write(cx, &[7; 64 * 1024])).await.is_ok() {} });
        spawn(async move {
            while said.recv().await.is_some() {
                poll_fn(|cx| stream.poll_write(cx, b"!")).await.unwrap();
            }
        });
        let (mut heard, mut beside) = (0, 0);
        say.send(()).await.unwrap();
        while heard < 10 {
            let frames = raw.receive().await.unwrap().expect("the connection goes on");
            let mut frames = &frames[..];
            while let Some(frame) = frames::next(&mut frames).unwrap() {
                match frame.kind {
                    Kind::Data if frame.stream == small => {
                        heard += 1;
                        say.send(()).await.unwrap();
                    }
                    Kind::Data => beside += frame.payload.len(),
                    _ => {}
                }
            }
        }
        // It had not to wait until the other one's credit was used up.
        assert!(beside < WINDOW, "{beside}");
    });
}
