//! Bytes, and how streams end.

use super::*;
use crate::tunnel::StreamError;
use tokio::io::AsyncWriteExt;

#[test]
fn what_is_said_before_the_answer_arrives_first() {
    on_a_core(async {
        let pair = pair(&config()).await;
        let mut west = pair.west.open(&request()).unwrap();
        write(&mut west, b"early").await.unwrap();
        let (asked, mut east) = pair.offers.next().await;
        assert_eq!(asked, request());
        east.accept();
        opened(&mut west).await.unwrap();
        write(&mut west, b", late").await.unwrap();
        west.finish();
        assert_eq!(read_all(&mut east).await.unwrap(), b"early, late");
        assert!(east.first_byte().is_some());
    });
}

#[test]
fn much_passes_unchanged_both_ways_at_once() {
    on_a_core(async {
        let pair = pair(&config()).await;
        let (west, east) = pair.proxied().await;
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
                let (_, read) = tokio::join!(writing, tokio::io::AsyncReadExt::read_to_end(&mut read, &mut received));
                read.unwrap();
                assert!(received == *sent, "the bytes differ");
                end.copied.await.unwrap().unwrap();
            })
        };
        let (west, east) = tokio::join!(pump(west), pump(east));
        west.unwrap();
        east.unwrap();
    });
}

#[test]
fn half_close_by_either_side_leaves_the_other_way_open() {
    on_a_core(async {
        let pair = pair(&config()).await;
        for first_is_west in [true, false] {
            let (west, east) = pair.proxied().await;
            let (mut first, mut second) = if first_is_west { (west, east) } else { (east, west) };
            say(&mut first.socket, b"the whole request").await;
            first.socket.shutdown().await.unwrap();
            assert_eq!(hear_end(&mut second.socket).await.unwrap(), b"the whole request");
            say(&mut second.socket, b"and the answer, later").await;
            second.socket.shutdown().await.unwrap();
            assert_eq!(hear_end(&mut first.socket).await.unwrap(), b"and the answer, later");
            first.copied.await.unwrap().unwrap();
            second.copied.await.unwrap().unwrap();
        }
        assert_eq!((pair.west.status().streams_out, pair.east.status().streams_in), (0, 0));
    });
}

#[test]
fn a_reset_by_either_side_is_no_end() {
    on_a_core(async {
        let pair = pair(&config()).await;
        for first_is_west in [true, false] {
            for half_closed in [true, false] {
                let (west, east) = pair.stream().await;
                let (mut first, mut second) = if first_is_west { (west, east) } else { (east, west) };
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
        let pair = pair(&config()).await;
        let (mut west, east) = pair.stream().await;
        let mut east = proxied(east);
        write(&mut west, b"all").await.unwrap();
        west.finish();
        assert_eq!(hear_end(&mut east.socket).await.unwrap(), b"all");
        west.reset();
        assert!(matches!(east.copied.await.unwrap(), Err(StreamError::Reset)));
    });
}

#[test]
fn dropping_a_stream_resets_it() {
    on_a_core(async {
        let pair = pair(&config()).await;
        let (west, mut east) = pair.stream().await;
        drop(west);
        assert!(matches!(read_all(&mut east).await, Err(StreamError::Reset)));
        let mut west = pair.west.open(&request()).unwrap();
        drop(pair.offers.next().await);
        assert_eq!(opened(&mut west).await.unwrap_err().reason, RefusalReason::NoEndpoint);
    });
}

#[test]
fn a_reset_reaches_a_side_whose_reader_is_stalled() {
    on_a_core(async {
        let pair = pair(&config()).await;
        let (mut west, east) = pair.stream().await;
        // Nobody reads `stalled.socket`.
        let stalled = proxied(east);
        write(&mut west, &[1; 300_000]).await.unwrap();
        west.reset();
        assert!(matches!(stalled.copied.await.unwrap(), Err(StreamError::Reset)));
    });
}

#[test]
fn a_tunnel_that_ends_is_no_end_of_its_streams() {
    on_a_core(async {
        for close_west in [true, false] {
            let pair = pair(&config()).await;
            let (mut west, mut east) = pair.stream().await;
            write(&mut west, b"part").await.unwrap();
            write(&mut east, b"part").await.unwrap();
            if close_west {
                pair.west.close();
            } else {
                pair.east.close();
            }
            assert!(matches!(read_all(&mut west).await, Err(StreamError::TunnelLost)));
            assert!(matches!(read_all(&mut east).await, Err(StreamError::TunnelLost)));
            for (tunnel, end) in [(pair.west, pair.west_end), (pair.east, pair.east_end)] {
                end.await.unwrap();
                assert_eq!(tunnel.status().health, TunnelHealth::Closed);
            }
        }
    });
}
