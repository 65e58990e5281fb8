//! Two tunnels over a real connection with real TLS, on one core.

mod by_hand;
pub(crate) mod pair;
pub(crate) mod raw;

use super::*;
use crate::tunnel::{StreamError, tls::tests::Configs};
use pair::*;
use std::future::poll_fn;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

async fn say(socket: &mut UnixStream, text: &[u8]) {
    socket.write_all(text).await.unwrap();
}

async fn hear(socket: &mut UnixStream, text: &[u8]) {
    let mut heard = vec![0; text.len()];
    socket.read_exact(&mut heard).await.unwrap();
    assert!(heard == text, "the bytes differ");
}

async fn hear_end(socket: &mut UnixStream) -> Vec<u8> {
    let mut rest = vec![];
    socket.read_to_end(&mut rest).await.unwrap();
    rest
}

#[test]
fn either_side_opens_and_half_closes_either_way() {
    on_a_core(async {
        let (mut west, mut east) = pair().await;
        for west_opens in [true, false] {
            for opener_first in [true, false] {
                let (ours, theirs) =
                    if west_opens { proxied(&west, &mut east).await } else { proxied(&east, &mut west).await };
                let (mut first, mut second) = if opener_first { (ours, theirs) } else { (theirs, ours) };
                say(&mut first.socket, b"the whole request").await;
                first.socket.shutdown().await.unwrap();
                assert_eq!(hear_end(&mut second.socket).await, b"the whole request");
                say(&mut second.socket, b"and the answer, later").await;
                second.socket.shutdown().await.unwrap();
                assert_eq!(hear_end(&mut first.socket).await, b"and the answer, later");
                first.copied.await.unwrap().unwrap();
                second.copied.await.unwrap().unwrap();
            }
        }
        assert_eq!((west.tunnel.load(), east.tunnel.load()), (0, 0));
        assert_eq!((west.budget.granted(), east.budget.granted()), (0, 0));
    });
}

#[test]
fn bytes_before_the_answer_arrive_and_a_refusal_is_told_as_it_was_meant() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        for (reason, retry) in [(RefusalReason::Denied, false), (RefusalReason::NoEndpoint, true)] {
            let mut ours = west.tunnel.open(&request("west")).unwrap();
            let n = poll_fn(|cx| ours.poll_write(cx, b"early")).await.unwrap();
            assert_eq!(n, 5);
            let Offer(_, mut theirs) = east.offers.recv().await.unwrap();
            let refusal = Refusal { reason, message: "says the test".into(), retry };
            theirs.refuse(&refusal);
            drop(theirs);
            assert_eq!(opened(&mut ours).await, Err(refusal));
        }
        let mut ours = west.tunnel.open(&request("west")).unwrap();
        poll_fn(|cx| ours.poll_write(cx, b"early")).await.unwrap();
        let Offer(_, mut theirs) = east.offers.recv().await.unwrap();
        theirs.accept();
        let mut endpoint = proxy(theirs);
        hear(&mut endpoint.socket, b"early").await;
    });
}

#[test]
fn a_peer_cannot_speak_for_another_trust_domain() {
    on_a_core(async {
        let (west, _east) = pair().await;
        let mut ours = west.tunnel.open(&request("east")).unwrap();
        let refusal = opened(&mut ours).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.retry), (RefusalReason::Denied, false), "{refusal}");
    });
}

#[test]
fn a_reset_by_either_side_is_no_end() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        for opener_resets in [true, false] {
            for half_closed in [true, false] {
                let (ours, theirs) = stream(&west, &mut east).await;
                let (mut first, second) = if opener_resets { (ours, theirs) } else { (theirs, ours) };
                let mut second = proxy(second);
                poll_fn(|cx| first.poll_write(cx, b"part")).await.unwrap();
                if half_closed {
                    second.socket.shutdown().await.unwrap();
                }
                hear(&mut second.socket, b"part").await;
                first.reset();
                assert!(matches!(second.copied.await.unwrap(), Err(StreamError::Reset)));
            }
        }
    });
}

#[test]
fn stalled_streams_hold_back_nobody_else() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let mut stalled = vec![];
        for _ in 0..64 {
            let (ours, theirs) = proxied(&west, &mut east).await;
            let filling = spawn(async move {
                let mut socket = ours.socket;
                // Far more than the window and all buffers hold.
                socket.write_all(&vec![1; 64 << 20]).await.map(|()| socket)
            });
            stalled.push((filling, theirs));
        }
        let (mut ours, mut theirs) = proxied(&west, &mut east).await;
        for _ in 0..500 {
            say(&mut ours.socket, &[7; 16 * 1024]).await;
            hear(&mut theirs.socket, &[7; 16 * 1024]).await;
        }
        for (filling, _) in &stalled {
            assert!(!filling.is_finished(), "a stalled stream has taken all");
            filling.abort();
        }
    });
}

/// Sends a lot one way and compares it as it comes out.
async fn bulk(from: &mut (impl AsyncWriteExt + Unpin), to: &mut (impl AsyncReadExt + Unpin), length: usize) {
    let piece: Vec<u8> = (0..1 << 16).map(|i: u32| (i ^ (i >> 8)) as u8).collect();
    let mut heard = vec![0; piece.len()];
    let pieces = length / piece.len();
    let sending = async {
        for i in 0..pieces {
            from.write_all(&piece[i % 251..]).await.unwrap();
        }
        from.shutdown().await.unwrap();
    };
    let receiving = async {
        for i in 0..pieces {
            let expected = &piece[i % 251..];
            to.read_exact(&mut heard[..expected.len()]).await.unwrap();
            assert!(heard[..expected.len()] == *expected, "piece {i} differs");
        }
        assert_eq!(to.read(&mut heard).await.unwrap(), 0);
    };
    tokio::join!(sending, receiving);
}

#[test]
fn much_passes_unchanged_both_ways_at_once() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (mut ours, mut theirs) = proxied(&west, &mut east).await;
        let (mut ours_in, mut ours_out) = ours.socket.split();
        let (mut theirs_in, mut theirs_out) = theirs.socket.split();
        tokio::join!(bulk(&mut ours_out, &mut theirs_in, 64 << 20), bulk(&mut theirs_out, &mut ours_in, 64 << 20));
        ours.copied.await.unwrap().unwrap();
        theirs.copied.await.unwrap().unwrap();
    });
}

#[test]
fn a_draining_tunnel_finishes_its_streams_and_takes_no_more() {
    on_a_core(async {
        for west_drains in [true, false] {
            let (west, mut east) = pair().await;
            let (mut ours, mut theirs) = proxied(&west, &mut east).await;
            if west_drains { &west } else { &east }.tunnel.drain();
            for end in [&west, &east] {
                end.tunnel.watch().wait_for(|&health| health == TunnelHealth::Draining).await.unwrap();
            }
            assert_eq!(west.tunnel.open(&request("west")).err().unwrap().reason, RefusalReason::Draining);
            say(&mut theirs.socket, b"after").await;
            hear(&mut ours.socket, b"after").await;
            drop((ours.socket, theirs.socket));
            ours.copied.await.unwrap().unwrap();
            theirs.copied.await.unwrap().unwrap();
            let ends = [west.end.await.unwrap(), east.end.await.unwrap()];
            // Whoever is done first closes; the other may see that first.
            assert!(ends.iter().any(|end| matches!(end, TunnelEnd::Drained)), "{ends:?}");
            assert!(ends.iter().all(|end| matches!(end, TunnelEnd::Drained | TunnelEnd::PeerClosed)), "{ends:?}");
        }
    });
}

#[test]
fn a_drain_loses_nothing_of_a_stream_whose_reader_is_slow() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (ours, theirs) = stream(&west, &mut east).await;
        // More than the socket takes at once, and within credit: the rest comes to lie in west.
        let (mut ours, theirs, sent) = (proxy_with(ours, Some(4096)), proxy(theirs), vec![5; 60 * 1024]);
        let (mut near, far) = (theirs.socket, theirs.copied);
        say(&mut near, &sent).await;
        near.shutdown().await.unwrap();
        ours.socket.shutdown().await.unwrap();
        assert_eq!(hear_end(&mut near).await, b"");
        far.await.unwrap().unwrap();
        east.tunnel.drain();
        assert!(matches!(east.end.await.unwrap(), TunnelEnd::Drained));
        west.end.await.unwrap();
        assert_eq!(hear_end(&mut ours.socket).await, sent);
        ours.copied.await.unwrap().unwrap();
    });
}

#[test]
fn a_tunnel_that_ends_is_no_end_of_its_streams() {
    on_a_core(async {
        for west_closes in [true, false] {
            let (west, mut east) = pair().await;
            let (ours, theirs) = proxied(&west, &mut east).await;
            let mut unanswered = west.tunnel.open(&request("west")).unwrap();
            if west_closes { &west } else { &east }.tunnel.close();
            for end in [ours.copied, theirs.copied] {
                assert!(matches!(end.await.unwrap(), Err(StreamError::TunnelLost)));
            }
            let refusal = opened(&mut unanswered).await.unwrap_err();
            assert_eq!((refusal.reason, refusal.retry), (RefusalReason::TunnelLost, true));
            let ends = [west.end.await.unwrap(), east.end.await.unwrap()];
            assert!(ends.iter().any(|end| matches!(end, TunnelEnd::Closed)), "{ends:?}");
            assert!([west.tunnel, east.tunnel].iter().all(|tunnel| tunnel.health() == TunnelHealth::Closed));
        }
    });
}

#[test]
fn a_peer_that_vanishes_is_no_end_of_a_stream() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (ours, _theirs) = proxied(&west, &mut east).await;
        // As a process dies: its connection with it, and no word.
        east.end.abort();
        drop(east);
        assert!(matches!(ours.copied.await.unwrap(), Err(StreamError::TunnelLost)));
        let end = west.end.await.unwrap();
        assert!(matches!(end, TunnelEnd::PeerClosed | TunnelEnd::Io(_)), "{end:?}");
    });
}

#[test]
fn each_side_learns_what_the_other_has_counted() {
    on_a_core(async {
        let (west, east) = pair().await;
        for end in [&west, &east] {
            until(|| {
                [&west, &east].iter().for_each(|end| end.tunnel.look());
                end.tunnel.packets_each_way().is_some_and(|each_way| each_way.iter().all(|of| of.sent > 0))
            })
            .await;
        }
    });
}

#[test]
fn a_peer_that_falls_silent_is_doubted_and_given_up() {
    on_a_core(async {
        let (dialled, silent) = Configs::new().pair().await;
        let west = start(dialled, Direction::Dialled, "east");
        let end = west.end.await.unwrap();
        assert!(matches!(end, TunnelEnd::Unresponsive), "{end:?}");
        drop(silent);
    });
}
