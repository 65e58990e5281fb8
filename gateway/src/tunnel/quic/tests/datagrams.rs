//! Datagrams beside the streams, and streams that are read into memory.

use super::*;
use crate::tunnel::DatagramError;
use std::future::poll_fn;

/// A stream that both sides take datagrams of.
async fn flow(from: &End, to: &mut End) -> (Stream, Stream) {
    let (mut ours, mut theirs) = stream(from, to).await;
    ours.take_datagrams();
    theirs.take_datagrams();
    (ours, theirs)
}

async fn send(stream: &mut Stream, datagram: &[u8]) -> Result<(), DatagramError> {
    poll_fn(|cx| stream.poll_send_datagram(cx, datagram)).await
}

async fn next(stream: &mut Stream) -> (Vec<u8>, u64) {
    let (datagram, dropped) = poll_fn(|cx| stream.poll_receive_datagram(cx)).await;
    (datagram.to_vec(), dropped)
}

#[test]
fn each_flow_gets_its_own_datagrams_either_way() {
    on_a_core(async {
        let (mut west, mut east) = pair().await;
        let (mut one, mut one_there) = flow(&west, &mut east).await;
        let (mut two_there, mut two) = flow(&east, &mut west).await;
        for round in 0..50u8 {
            for (from, to, name) in [(&mut one, &mut one_there, 1), (&mut two, &mut two_there, 2)] {
                send(from, &[name, round]).await.unwrap();
                assert_eq!(next(to).await.0, [name, round]);
                send(to, &[name, round, 0]).await.unwrap();
                assert_eq!(next(from).await.0, [name, round, 0]);
            }
        }
    });
}

#[test]
fn one_that_no_packet_holds_is_given_back_with_the_limit() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (mut ours, mut theirs) = flow(&west, &mut east).await;
        let Err(DatagramError::TooLarge(most)) = send(&mut ours, &[7; 65_507]).await else { panic!("it was sent") };
        assert!((1000..65_000).contains(&most), "{most}");
        send(&mut ours, &vec![7; most]).await.unwrap();
        assert_eq!(next(&mut theirs).await.0.len(), most);
    });
}

#[test]
fn datagrams_that_nobody_takes_are_dropped_and_counted() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (mut ours, mut theirs) = flow(&west, &mut east).await;
        let (mut other, mut other_there) = flow(&west, &mut east).await;
        let sent = 2 * crate::flow::queue::ROOM / 1000;
        for _ in 0..sent {
            send(&mut ours, &[7; 1000]).await.unwrap();
        }
        // It comes behind all of them, and they are not in its way.
        send(&mut other, b"and I?").await.unwrap();
        assert_eq!(next(&mut other_there).await.0, b"and I?");
        let (first, dropped) = next(&mut theirs).await;
        assert_eq!(first.len(), 1000);
        assert!(dropped > 0 && dropped < sent as u64, "{dropped} of {sent}");
    });
}

#[test]
fn a_flow_that_is_over_is_forgotten() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (mut ours, theirs) = flow(&west, &mut east).await;
        drop(theirs);
        // Its tunnel goes on, whatever still comes for it.
        let _ = send(&mut ours, b"too late").await;
        let (mut next_one, mut there) = flow(&west, &mut east).await;
        send(&mut next_one, b"in time").await.unwrap();
        assert_eq!(next(&mut there).await.0, b"in time");
    });
}

#[test]
fn more_than_a_window_is_read_into_memory() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (mut ours, mut theirs) = stream(&west, &mut east).await;
        let sent: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let (bytes, mut read) = (sent.clone(), Vec::new());
        let writing = async {
            write(&mut ours, &bytes).await.unwrap();
            ours.finish();
        };
        let reading = async {
            let mut room = [0; 1000];
            while let n @ 1.. = poll_fn(|cx| theirs.poll_read(cx, &mut room)).await.unwrap() {
                read.extend_from_slice(&room[..n]);
            }
        };
        tokio::join!(writing, reading);
        assert!(read == sent);
    });
}

#[test]
fn a_new_tunnel_does_not_flood_a_narrow_path() {
    on_a_core(async {
        let (west, _east) = pair().await;
        // It has grown by what the handshake took.
        let window = west.tunnel.0.connection.stats().path.cwnd;
        assert!(window < 64 * 1200, "{window}");
    });
}
