//! Bytes, and how streams end.

use super::*;
use crate::tunnel::{StreamError, driver::TunnelEnd};
use isthmus_control_api::ServicePort;
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn either_side_opens_and_half_closes_either_way() {
    on_a_core(async {
        let (mut west, mut east) = pair().await;
        for west_opens in [true, false] {
            for opener_ends in [true, false] {
                let (ours, theirs) =
                    if west_opens { proxied(&west, &mut east).await } else { proxied(&east, &mut west).await };
                let (mut first, mut second) = if opener_ends { (ours, theirs) } else { (theirs, ours) };
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
        for end in [&west, &east] {
            assert_eq!((end.tunnel.load(), end.budget.granted()), (0, 0));
        }
    });
}

#[test]
fn what_is_said_before_the_answer_arrives_first() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let mut ours = west.tunnel.open(&request("west")).unwrap();
        write(&mut ours, b"early").await.unwrap();
        let Offer(asked, mut theirs) = east.offers.recv().await.unwrap();
        assert_eq!(asked, request("west"));
        theirs.accept();
        opened(&mut ours).await.unwrap();
        write(&mut ours, b", late").await.unwrap();
        ours.finish();
        assert_eq!(read_all(&mut theirs).await.unwrap(), b"early, late");
        assert!(theirs.first_byte().is_some());
    });
}

#[test]
fn much_passes_unchanged_both_ways_at_once() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (ours, theirs) = proxied(&west, &mut east).await;
        let sent: Rc<Vec<u8>> = Rc::new((0..3_000_000_u32).flat_map(u32::to_le_bytes).collect());
        let pump = |mut end: Proxied| {
            let sent = sent.clone();
            spawn(async move {
                let (mut read, mut write) = end.socket.split();
                let writing = async {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let mut received = vec![];
                let (_, read) = tokio::join!(writing, read.read_to_end(&mut received));
                read.unwrap();
                assert!(received == *sent, "the bytes differ");
                end.copied.await.unwrap().unwrap();
            })
        };
        let (ours, theirs) = tokio::join!(pump(ours), pump(theirs));
        ours.unwrap();
        theirs.unwrap();
    });
}

#[test]
fn a_reset_by_either_side_is_no_end() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        for first_is_west in [true, false] {
            for half_closed in [true, false] {
                let (ours, theirs) = stream(&west, &mut east).await;
                let (mut first, mut second) = if first_is_west { (ours, theirs) } else { (theirs, ours) };
                write(&mut first, b"part").await.unwrap();
                if half_closed {
                    second.finish();
                }
                first.reset();
                assert!(matches!(read_all(&mut second).await, Err(StreamError::Reset)));
            }
        }
    });
}

#[test]
fn a_reset_behind_the_peers_own_end_stops_its_sender() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (mut ours, theirs) = stream(&west, &mut east).await;
        let mut theirs = proxy(theirs);
        write(&mut ours, b"all").await.unwrap();
        ours.finish();
        assert_eq!(hear_end(&mut theirs.socket).await, b"all");
        ours.reset();
        assert!(matches!(theirs.copied.await.unwrap(), Err(StreamError::Reset)));
    });
}

#[test]
fn dropping_a_stream_resets_it() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (ours, mut theirs) = stream(&west, &mut east).await;
        drop(ours);
        assert!(matches!(read_all(&mut theirs).await, Err(StreamError::Reset)));
        let mut ours = west.tunnel.open(&request("west")).unwrap();
        drop(east.offers.recv().await);
        assert_eq!(opened(&mut ours).await.unwrap_err().reason, RefusalReason::NoEndpoint);
        // One that has ended its own way only, as well.
        let (mut ours, mut theirs) = stream(&west, &mut east).await;
        ours.finish();
        write(&mut theirs, b"unwanted").await.unwrap();
        drop(ours);
        let (socket, _far) = sockets();
        let copied = poll_fn(|cx| {
            let _ = theirs.poll_receive(cx, &socket)?;
            theirs.poll_send(cx, &socket)
        });
        assert!(matches!(copied.await, Err(StreamError::Reset)));
    });
}

#[test]
fn a_reset_that_overtakes_the_answer_is_no_refusal() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let mut ours = west.tunnel.open(&request("west")).unwrap();
        let Offer(_, mut theirs) = east.offers.recv().await.unwrap();
        // Both go out together, and quinn drops what a reset leaves behind it.
        theirs.accept();
        theirs.reset();
        opened(&mut ours).await.unwrap();
        assert!(matches!(read_all(&mut ours).await, Err(StreamError::Reset)));
    });
}

#[test]
fn a_reset_before_the_answer_comes_behind_the_request() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        for (by_drop, accepted) in [(false, true), (true, true), (false, false), (true, false)] {
            let mut ours = west.tunnel.open(&request("west")).unwrap();
            write(&mut ours, b"part").await.unwrap();
            // At once: not even OPEN has left.
            if by_drop {
                drop(ours);
            } else {
                ours.reset();
            }
            let service = ServicePort { port: 81, ..request("west").service };
            let next = west.tunnel.open(&OpenRequest { service, ..request("west") }).unwrap();
            let Offer(asked, mut theirs) = east.offers.recv().await.unwrap();
            assert_eq!(asked, request("west"));
            // It is a stream of the tunnel until it is answered, so the limit holds.
            assert_eq!(west.tunnel.load(), 2);
            if accepted {
                theirs.accept();
                assert!(matches!(read_all(&mut theirs).await, Err(StreamError::Reset)));
            }
            drop((theirs, next));
            drop(east.offers.recv().await);
            while west.tunnel.load() + east.tunnel.load() > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!((west.budget.granted(), east.budget.granted()), (0, 0));
        }
    });
}

#[test]
fn a_stream_whose_reset_waits_for_the_answer_is_the_tunnels_own() {
    on_a_core(async {
        for closes in [true, false] {
            let (west, mut east) = pair().await;
            drop(west.tunnel.open(&request("west")).unwrap());
            let Offer(_, mut theirs) = east.offers.recv().await.unwrap();
            if closes {
                west.tunnel.close();
                assert!(matches!(read_all(&mut theirs).await, Err(StreamError::TunnelLost)));
            } else {
                west.tunnel.drain();
                theirs.accept();
                assert!(matches!(read_all(&mut theirs).await, Err(StreamError::Reset)));
            }
            drop(theirs);
            let ended = west.end.await.unwrap();
            assert!(matches!((closes, &ended), (true, TunnelEnd::Closed) | (false, TunnelEnd::Drained)), "{ended}");
            assert_eq!((west.tunnel.load(), west.budget.granted()), (0, 0));
        }
    });
}

#[test]
fn a_reset_reaches_a_side_whose_reader_is_stalled() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (mut ours, theirs) = stream(&west, &mut east).await;
        // Nobody reads `stalled.socket`.
        let stalled = proxy(theirs);
        write(&mut ours, &[1; 250_000]).await.unwrap();
        ours.reset();
        assert!(matches!(stalled.copied.await.unwrap(), Err(StreamError::Reset)));
    });
}

#[test]
fn a_tunnel_that_ends_is_no_end_of_its_streams() {
    on_a_core(async {
        for close_west in [true, false] {
            let (west, mut east) = pair().await;
            let (mut ours, mut theirs) = stream(&west, &mut east).await;
            write(&mut ours, b"part").await.unwrap();
            write(&mut theirs, b"part").await.unwrap();
            let closing = if close_west { &west } else { &east };
            closing.tunnel.close();
            assert!(matches!(read_all(&mut ours).await, Err(StreamError::TunnelLost)));
            assert!(matches!(read_all(&mut theirs).await, Err(StreamError::TunnelLost)));
            drop((ours, theirs));
            for end in [west, east] {
                let ended = end.end.await.unwrap();
                assert!(matches!(ended, TunnelEnd::Closed | TunnelEnd::PeerClosed), "{ended}");
                assert_eq!((end.tunnel.health(), end.budget.granted()), (TunnelHealth::Closed, 0));
            }
        }
    });
}
