//! Tunnels: refusals, limits, stalled readers, drain.

use super::*;
use crate::tunnel::mux::Budget;
use std::time::Duration;

#[test]
fn each_refusal_is_told_as_it_was_meant() {
    on_a_core(async {
        let pair = pair(&config()).await;
        for reason in [
            RefusalReason::Denied,
            RefusalReason::NoSuchExport,
            RefusalReason::NoEndpoint,
            RefusalReason::Timeout,
            RefusalReason::Limit,
            RefusalReason::Draining,
            RefusalReason::TunnelLost,
        ] {
            for retry in [true, false] {
                let refusal = Refusal { reason, message: "says the test".into(), retry };
                let mut west = pair.west.open(&request()).unwrap();
                write(&mut west, b"early data that nobody wants").await.unwrap();
                let (_, mut east) = pair.offers.next().await;
                east.refuse(&refusal);
                drop(east);
                assert_eq!(opened(&mut west).await, Err(refusal));
            }
        }
        assert_eq!((pair.west.status().streams_out, pair.east.status().streams_in), (0, 0));
    });
}

#[test]
fn more_than_a_window_is_read_into_memory() {
    on_a_core(async {
        let pair = pair(&config()).await;
        let (mut west, mut east) = pair.stream().await;
        let sent: Vec<u8> = (0..600_000u32).map(|i| (i % 251) as u8).collect();
        let (bytes, mut read) = (sent.clone(), Vec::new());
        let writing = async {
            write(&mut west, &bytes).await.unwrap();
            west.finish();
        };
        let reading = async {
            let mut room = [0; 1000];
            while let n @ 1.. = poll_fn(|cx| east.poll_read(cx, &mut room)).await.unwrap() {
                read.extend_from_slice(&room[..n]);
            }
        };
        tokio::join!(writing, reading);
        assert!(read == sent);
    });
}

#[test]
fn a_udp_flow_is_refused() {
    on_a_core(async {
        let pair = pair(&config()).await;
        let mut flow = request();
        flow.service.protocol = isthmus_control_api::Protocol::Udp;
        let refusal = pair.west.open(&flow).err().unwrap();
        assert!(refusal.retry && refusal.message.contains("UDP"), "{refusal}");
    });
}

#[test]
fn only_the_side_that_dialled_opens() {
    on_a_core(async {
        let pair = pair(&config()).await;
        let refusal = pair.east.open(&request()).err().unwrap();
        assert!(refusal.retry && refusal.message.contains("dialled"), "{refusal}");
    });
}

#[test]
fn streams_beyond_the_limit_are_refused_until_one_ends() {
    on_a_core(async {
        let pair = pair(&limited(2, 256 << 20)).await;
        let (one, _east_one) = pair.stream().await;
        let _two = pair.stream().await;
        assert_eq!(pair.west.open(&request()).err().unwrap().reason, RefusalReason::Limit);
        drop(one);
        let _three = pair.stream().await;
    });
}

#[test]
fn many_stalled_readers_do_not_lock_a_busy_one_out() {
    on_a_core(async {
        let pair = pair(&config()).await;
        let mut stalled = vec![];
        for _ in 0..64 {
            let (west, east) = pair.proxied().await;
            stalled.push((spawn(fill(west.socket)), east));
        }
        // A busy stream moves far more than the stalled ones hold together.
        let (mut west, mut east) = pair.proxied().await;
        for _ in 0..2000 {
            say(&mut west.socket, &[7; 16 * 1024]).await;
            hear(&mut east.socket, &[7; 16 * 1024]).await;
        }
        for (filling, east) in stalled {
            assert!(!filling.is_finished(), "a stalled stream has taken all");
            filling.abort();
            drop(east);
        }
    });
}

/// Writes far more than a stream's window and all socket buffers hold.
async fn fill(mut socket: tokio::net::UnixStream) {
    say(&mut socket, &vec![1; 16 * 1024 * 1024]).await;
}

#[test]
fn a_stalled_reader_holds_its_window_and_no_more() {
    on_a_core(async {
        let pair = pair(&config()).await;
        let (mut west, _east) = pair.stream().await;
        // Nobody asks `_east` for anything: what it is sent stays in the tunnel.
        let mut taken = 0;
        loop {
            let write = poll_fn(|cx| match west.poll_write(cx, &[1; 4096]) {
                Poll::Ready(n) => Poll::Ready(Some(n.unwrap())),
                Poll::Pending => Poll::Ready(None),
            });
            match write.await {
                Some(n) => taken += n,
                // Both drivers run until they have nothing more to do: then only the window holds the writer back.
                None if quiet(&pair).await => break,
                None => {}
            }
        }
        assert_eq!(taken, 64 * 1024);
    });
}

#[test]
fn streams_have_as_much_memory_as_there_is_and_give_it_back() {
    on_a_core(async {
        let (west, east) = (config(), limited(4096, 1 << 20));
        let pair = pair_of(&west, &east).await;
        let mut streams = vec![];
        let mut refused = None;
        // Windows shrink where one is refused, as soon as the peer has heard of it.
        for _ in 0..1000 {
            let mut west = pair.west.open(&request()).unwrap();
            tokio::select! {
                (_, mut east) = pair.offers.next() => {
                    east.accept();
                    opened(&mut west).await.unwrap();
                    streams.push((west, east));
                }
                refusal = opened(&mut west) => refused = refusal.err(),
            }
        }
        let refused = refused.unwrap();
        assert_eq!(refused.reason, RefusalReason::Limit);
        assert!(refused.message.contains("memory budget"), "{}", refused.message);
        // A window is 16 KiB at least, and a quarter of the budget is not for peers.
        assert_eq!((streams.len(), east.budget.granted()), (48, 768 << 10));
        streams.clear();
        let (mut near, mut far) = pair.stream().await;
        write(&mut near, b"still works").await.unwrap();
        near.finish();
        assert_eq!(read_all(&mut far).await.unwrap(), b"still works");
        drop((near, far));
        while east.budget.granted() + west.budget.granted() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_busy_stream_gets_a_larger_window() {
    on_a_core(async {
        let config = config();
        let pair = pair(&config).await;
        let (mut west, mut east) = pair.proxied().await;
        // At most 1 GiB.
        for _ in 0..16 * 1024 {
            say(&mut west.socket, &[7; 64 * 1024]).await;
            hear(&mut east.socket, &[7; 64 * 1024]).await;
            if config.budget.granted() > 2 * 1024 * 1024 {
                return;
            }
        }
        panic!("its window is still {}", config.budget.granted());
    });
}

#[test]
fn streams_that_come_together_wait_until_a_busy_one_has_made_room() {
    const STREAMS: usize = 24;
    on_a_core(async {
        let (west, east) = (limited(4096, 4 << 20), limited(4096, 4 << 20));
        let pair = Rc::new(pair_of(&west, &east).await);
        let (mut near, mut far) = pair.proxied().await;
        // At most 1 GiB.
        for _ in 0..16 * 1024 {
            say(&mut near.socket, &[7; 64 * 1024]).await;
            hear(&mut far.socket, &[7; 64 * 1024]).await;
            say(&mut far.socket, &[7; 64 * 1024]).await;
            hear(&mut near.socket, &[7; 64 * 1024]).await;
            if west.budget.granted().min(east.budget.granted()) > 1 << 20 {
                break;
            }
        }
        let at_once = |budget: &Budget| STREAMS * budget.granted() > budget.limit();
        assert!(at_once(&west.budget) && at_once(&east.budget), "at this size there is no room for them");
        let open = |pair: Rc<Pair>| async move {
            loop {
                match pair.west.open(&request()) {
                    Ok(mut stream) => return opened(&mut stream).await.map(|()| stream),
                    Err(refusal) if !poll_fn(|cx| pair.west.poll_room(cx)).await => return Err(refusal),
                    Err(_) => {}
                }
            }
        };
        let opening: Vec<_> = (0..STREAMS).map(|_| spawn(open(pair.clone()))).collect();
        let mut streams = vec![];
        for _ in 0..STREAMS {
            let (_, mut offered) = pair.offers.next().await;
            offered.accept();
            streams.push(offered);
        }
        for opening in opening {
            streams.push(opening.await.unwrap().unwrap());
        }
    });
}

/// Lets everything else run; true once another stream's echo has passed, so that whatever was on its way before has arrived.
async fn quiet(pair: &Pair) -> bool {
    let (mut west, mut east) = pair.stream().await;
    write(&mut west, b"x").await.unwrap();
    west.finish();
    read_all(&mut east).await.unwrap();
    write(&mut east, b"y").await.unwrap();
    east.finish();
    read_all(&mut west).await.is_ok()
}

#[test]
fn a_draining_tunnel_finishes_its_streams_and_takes_no_more() {
    on_a_core(async {
        for west_drains in [true, false] {
            let pair = pair(&config()).await;
            let (mut west, mut east) = pair.proxied().await;
            say(&mut west.socket, b"before").await;
            hear(&mut east.socket, b"before").await;
            if west_drains {
                pair.west.drain();
            } else {
                pair.east.drain();
            }
            let mut health = pair.west.watch();
            let left = *health.wait_for(|&health| health != TunnelHealth::Live).await.unwrap();
            assert_eq!(left, TunnelHealth::Draining);
            assert_eq!(pair.west.open(&request()).err().unwrap().reason, RefusalReason::Draining);
            say(&mut east.socket, b"after").await;
            hear(&mut west.socket, b"after").await;
            drop((west.socket, east.socket));
            west.copied.await.unwrap().unwrap();
            east.copied.await.unwrap().unwrap();
            assert!(matches!(pair.west_end.await.unwrap(), TunnelEnd::Drained));
            pair.east_end.await.unwrap();
        }
    });
}

#[test]
fn the_round_trip_is_measured() {
    on_a_core(async {
        let pair = pair(&config()).await;
        while pair.west.status().rtt.is_none() || pair.east.status().rtt.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_peer_that_falls_silent_is_doubted_and_given_up() {
    on_a_core(async {
        let (tunnel, end) = to_foreign(|io| {
            Box::pin(async move {
                let mut connection = h2::server::handshake(io).await.unwrap();
                // It lives until the first stream, and is silent from then on, with the connection open.
                let first = connection.accept().await;
                std::future::pending::<()>().await;
                drop((first, connection));
            })
        })
        .await;
        let mut stream = tunnel.open(&request()).unwrap();
        let mut health = tunnel.watch();
        let left = *health.wait_for(|&health| health != TunnelHealth::Live).await.unwrap();
        assert_eq!(left, TunnelHealth::Unresponsive);
        assert!(matches!(end.await.unwrap(), TunnelEnd::Unresponsive));
        assert_eq!(opened(&mut stream).await.unwrap_err().reason, RefusalReason::TunnelLost);
    });
}
