//! What a peer may do and our own gateway does not: another order, another pace, strangers that join in.

use super::*;
use crate::tunnel::{StreamError, driver::TunnelEnd, mux::Budget};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig, SendStream};
use std::{future::poll_fn, sync::Arc};

fn hello() -> Vec<u8> {
    Outbox::new(&SETTINGS).take()
}

/// Waits until the peer's connection has all that was sent so far on a stream, and its driver had many a turn.
async fn has_come_in(connection: &Connection) {
    let acks = connection.stats().frame_rx.acks;
    while connection.stats().frame_rx.acks == acks {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn say(stream: &mut SendStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
}

#[test]
fn an_open_that_overtakes_hello_gets_its_credit() {
    on_a_core(async {
        let (west, _endpoint, mut east) = by_hand().await;
        let (mut control, _heard) = west.open_bi().await.unwrap();
        let (mut send, mut receive) = west.open_bi().await.unwrap();
        say(&mut send, &head::open(&request("west")).unwrap()).await;
        has_come_in(&west).await;
        say(&mut control, &hello()).await;
        let Offer(_, mut theirs) = east.offers.recv().await.unwrap();
        theirs.accept();
        write(&mut theirs, b"answer").await.unwrap();
        let mut heard = [0; 9];
        receive.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard[3..], b"answer");
    });
}

#[test]
fn who_is_done_waits_for_the_peer_whatever_it_asks() {
    on_a_core(async {
        let (west, _endpoint, east) = by_hand().await;
        let (mut control, mut heard) = west.open_bi().await.unwrap();
        let mut goodbye = Outbox::new(&SETTINGS);
        goodbye.goaway();
        say(&mut control, &goodbye.take()).await;
        while heard.read_chunk(1024, true).await.unwrap().is_some() {}
        goodbye.ping(1);
        say(&mut control, &goodbye.take()).await;
        has_come_in(&west).await;
        assert!(!east.end.is_finished(), "it did not wait");
        control.finish().unwrap();
        assert!(matches!(east.end.await.unwrap(), TunnelEnd::Drained));
    });
}

#[test]
fn stop_sending_alone_ends_a_sender_without_credit() {
    on_a_core(async {
        let (west, _endpoint, mut east) = by_hand().await;
        let (mut control, _heard) = west.open_bi().await.unwrap();
        say(&mut control, &hello()).await;
        let (mut send, mut receive) = west.open_bi().await.unwrap();
        say(&mut send, &head::open(&request("west")).unwrap()).await;
        let Offer(_, mut theirs) = east.offers.recv().await.unwrap();
        theirs.accept();
        write(&mut theirs, &[1; SETTINGS.window as usize]).await.unwrap();
        let writing = spawn(async move { write(&mut theirs, b"more").await });
        has_come_in(&west).await;
        receive.stop(NOTHING).unwrap();
        assert!(matches!(writing.await.unwrap(), Err(StreamError::Reset)));
    });
}

/// Two that say what they are for, and as many that do not: one of each is one too many.
#[test]
fn streams_beyond_the_limit_are_told_of() {
    on_a_core(async {
        let (west, _endpoint, mut east) = by_hand_with(Settings { max_streams: 1, ..SETTINGS }).await;
        let (mut control, _heard) = west.open_bi().await.unwrap();
        say(&mut control, &hello()).await;
        let request = head::open(&request("west")).unwrap();
        let mut streams = vec![west.open_bi().await.unwrap()];
        say(&mut streams[0].0, &request).await;
        let _taken = east.offers.recv().await.unwrap();
        streams.push(west.open_bi().await.unwrap());
        say(&mut streams[1].0, &request).await;
        while east.full.get() < 1 {
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            streams.push(west.open_bi().await.unwrap());
            say(&mut streams.last_mut().unwrap().0, &request[..1]).await;
        }
        while east.full.get() < 2 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_connection_holds_little_more_than_its_streams_were_granted() {
    on_a_core(async {
        let (west, _endpoint, mut east) = by_hand().await;
        let (mut control, _heard) = west.open_bi().await.unwrap();
        say(&mut control, &hello()).await;
        let window = || east.tunnel.0.window.get();
        let mut offered = vec![];
        for _ in 0..4 {
            let (mut send, _receive) = west.open_bi().await.unwrap();
            say(&mut send, &head::open(&request("west")).unwrap()).await;
            offered.push((send, _receive, east.offers.recv().await.unwrap()));
        }
        // It cares for no credit, and nobody looks at what it sends.
        let mut sent = 0;
        for (send, ..) in &mut offered {
            let quiet = Duration::from_millis(200);
            while let Ok(written) = tokio::time::timeout(quiet, send.write(&[1; 65_536])).await {
                sent += written.unwrap();
            }
        }
        assert!(sent <= endpoint::FIRST_WINDOW + 4 * 65_536 + (4 << 20), "{sent} bytes are held");
        assert_eq!(window(), endpoint::connection_window(4 * 65_536));
    });
}

#[test]
fn a_connections_window_grows_with_its_streams() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let mut open = vec![];
        for _ in 0..100 {
            open.push(stream(&west, &mut east).await);
        }
        for end in [&west, &east] {
            let shared = &end.tunnel.0;
            assert_eq!(shared.granted.get(), 100 * SETTINGS.window as usize);
            assert!(shared.window.get() > shared.granted.get());
        }
        drop(open);
        assert_eq!((west.tunnel.0.granted.get(), east.tunnel.0.granted.get()), (0, 0));
    });
}

/// Connection ids that a stranger can guess.
struct Guessable(u8);

impl ConnectionIdGenerator for Guessable {
    fn generate_cid(&mut self) -> ConnectionId {
        self.0 += 1;
        ConnectionId::new(&[self.0; 8])
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[test]
fn a_strangers_datagrams_are_no_sign_of_life() {
    on_a_core(async {
        let config = MuxConfig { settings: SETTINGS, budget: Arc::new(Budget::new(64 << 20)) };
        let mut guessable = EndpointConfig::default();
        guessable.cid_generator(|| Box::new(Guessable(0)));
        let ((dialled, endpoint), (accepted, east)) = connect(guessable).await;
        let address: std::net::SocketAddr = ([127, 0, 0, 1], endpoint.local_addr().unwrap().port()).into();
        let west = start(dialled, endpoint, Direction::Dialled, "east", config);
        let (mut control, _heard) = accepted.accept_bi().await.unwrap();
        say(&mut control, &hello()).await;
        west.tunnel.watch().wait_for(|&health| health == TunnelHealth::Live).await.unwrap();
        // East falls silent.
        let nowhere = crate::socket::udp::bind_any(address).unwrap();
        east.rebind(nowhere).unwrap();
        let stranger = crate::socket::udp::bind_any(address).unwrap();
        let noise = spawn(async move {
            loop {
                for id in 1..20 {
                    let datagram = [&[0x40][..], &[id; 8], &[7; 40]].concat();
                    stranger.send_to(&datagram, address).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(matches!(west.end.await.unwrap(), TunnelEnd::Unresponsive));
        noise.abort();
    });
}

#[test]
fn the_last_bytes_are_awaited_behind_the_peers_own_end() {
    on_a_core(async {
        for of_the_opener in [true, false] {
            let (west, mut east) = pair().await;
            let (ours, theirs) = stream(&west, &mut east).await;
            let (mut first, mut last, saying) =
                if of_the_opener { (theirs, ours, &west) } else { (ours, theirs, &east) };
            first.finish();
            assert_eq!(read_all(&mut last).await.unwrap(), b"");
            let (socket, mut far) = sockets();
            let reading = spawn(async move {
                while poll_fn(|cx| first.poll_receive(cx, &socket)).await? > 0 {}
                Ok::<_, StreamError>(first)
            });
            let heard = spawn(async move { hear(&mut far, &[3; 60_000]).await });
            write(&mut last, &[3; 60_000]).await.unwrap();
            last.finish();
            drop(last);
            saying.tunnel.drain();
            saying.tunnel.flushed().await;
            saying.tunnel.close();
            reading.await.unwrap().unwrap();
            heard.await.unwrap();
        }
    });
}
