//! Tunnels: refusals, limits, stalled readers, drain, paths that change and fail.

use super::*;
use crate::tunnel::driver::TunnelEnd;
use std::future::poll_fn;

#[test]
fn each_refusal_is_told_as_it_was_meant() {
    on_a_core(async {
        let (west, mut east) = pair().await;
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
                let mut ours = west.tunnel.open(&request("west")).unwrap();
                write(&mut ours, b"early data that nobody wants").await.unwrap();
                let Offer(_, mut theirs) = east.offers.recv().await.unwrap();
                theirs.refuse(&refusal);
                drop(theirs);
                assert_eq!(opened(&mut ours).await, Err(refusal));
            }
        }
        assert_eq!((west.tunnel.load(), east.tunnel.load()), (0, 0));
    });
}

#[test]
fn a_peer_cannot_speak_for_another_trust_domain() {
    on_a_core(async {
        let (west, _east) = pair().await;
        let mut ours = west.tunnel.open(&request("north")).unwrap();
        assert_eq!(opened(&mut ours).await.unwrap_err().reason, RefusalReason::Denied);
    });
}

#[test]
fn streams_beyond_the_limit_are_refused_until_one_ends() {
    on_a_core(async {
        let (west, mut east) = pair_with(Settings { max_streams: 2, ..SETTINGS }, 64 << 20).await;
        let (one, _east_one) = stream(&west, &mut east).await;
        let _two = stream(&west, &mut east).await;
        assert_eq!(west.tunnel.open(&request("west")).err().unwrap().reason, RefusalReason::Limit);
        drop((one, _east_one));
        let _three = stream(&west, &mut east).await;
    });
}

#[test]
fn more_streams_than_quic_begins_with_open_at_once() {
    on_a_core(async {
        let many = endpoint::FIRST_STREAMS as u32 + 1000;
        let (west, mut east) = pair_with(Settings { max_streams: many, ..SETTINGS }, 2 << 30).await;
        let mut open = vec![];
        for _ in 0..many {
            open.push(stream(&west, &mut east).await);
        }
        assert_eq!((west.tunnel.load(), east.tunnel.load()), (many as usize, many as usize));
    });
}

#[test]
fn a_peers_streams_stay_within_the_memory_budget() {
    on_a_core(async {
        // Three quarters of it are for peers: three windows.
        let (west, mut east) = pair_with(SETTINGS, 4 * 64 * 1024).await;
        let mut open = vec![];
        for _ in 0..3 {
            open.push(stream(&west, &mut east).await);
        }
        let mut fourth = west.tunnel.open(&request("west")).unwrap();
        assert_eq!(opened(&mut fourth).await.unwrap_err().reason, RefusalReason::Limit);
        drop(fourth);
        open.pop();
        // The other side may learn of the end a moment later.
        while east.budget.granted() > 2 * 64 * 1024 {
            tokio::task::yield_now().await;
        }
        let _third = stream(&west, &mut east).await;
    });
}

#[test]
fn many_stalled_readers_do_not_lock_a_busy_one_out() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let mut stalled = vec![];
        for _ in 0..64 {
            let (ours, theirs) = proxied(&west, &mut east).await;
            stalled.push((spawn(fill(ours.socket)), theirs));
        }
        // A busy stream moves far more than the stalled ones hold together.
        let (mut ours, mut theirs) = proxied(&west, &mut east).await;
        for _ in 0..1000 {
            say(&mut ours.socket, &[7; 16 * 1024]).await;
            hear(&mut theirs.socket, &[7; 16 * 1024]).await;
        }
        for (filling, theirs) in stalled {
            assert!(!filling.is_finished(), "a stalled stream has taken all");
            filling.abort();
            drop(theirs);
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
        let (west, mut east) = pair().await;
        let (mut ours, _theirs) = stream(&west, &mut east).await;
        // Nobody asks `_theirs` for anything: it gives no new credit.
        let mut taken = 0;
        while let Poll::Ready(n) = poll_fn(|cx| Poll::Ready(ours.poll_write(cx, &[1; 4096]))).await {
            taken += n.unwrap();
        }
        assert_eq!(taken, SETTINGS.window as usize);
    });
}

#[test]
fn a_draining_tunnel_finishes_its_streams_and_takes_no_more() {
    on_a_core(async {
        for west_drains in [true, false] {
            let (west, mut east) = pair().await;
            let (mut ours, mut theirs) = proxied(&west, &mut east).await;
            say(&mut ours.socket, b"before").await;
            hear(&mut theirs.socket, b"before").await;
            let draining = if west_drains { &west } else { &east };
            draining.tunnel.drain();
            let mut health = west.tunnel.watch();
            let left = *health.wait_for(|&health| health != TunnelHealth::Live).await.unwrap();
            assert_eq!(left, TunnelHealth::Draining);
            assert_eq!(west.tunnel.open(&request("west")).err().unwrap().reason, RefusalReason::Draining);
            // The last bytes are many, and the tunnel ends right behind them.
            let last = vec![9; 3_000_000];
            let saying = async {
                say(&mut theirs.socket, &last).await;
                drop(theirs.socket);
            };
            let hearing = async {
                assert!(hear_end(&mut ours.socket).await == last, "the last bytes are not whole");
                drop(ours.socket);
            };
            tokio::join!(saying, hearing);
            ours.copied.await.unwrap().unwrap();
            theirs.copied.await.unwrap().unwrap();
            assert!(matches!(west.end.await.unwrap(), TunnelEnd::Drained));
            assert!(matches!(east.end.await.unwrap(), TunnelEnd::Drained));
        }
    });
}

#[test]
fn a_peer_whose_tunnel_is_declined_is_told_how_many_it_may_have() {
    on_a_core(async {
        let (west, east) = pair().await;
        east.tunnel.decline(85);
        assert!(matches!(west.end.await.unwrap(), TunnelEnd::Drained));
        assert_eq!((west.tunnel.declined(), east.tunnel.declined()), (Some(85), None));
    });
}

#[test]
fn the_round_trip_is_measured() {
    on_a_core(async {
        let (west, east) = pair().await;
        while west.tunnel.status().rtt.is_none() || east.tunnel.status().rtt.is_none() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn each_side_learns_what_the_other_has_counted() {
    on_a_core(async {
        let (west, east) = pair().await;
        for end in [&west, &east] {
            while !end.tunnel.packets_each_way().is_some_and(|each_way| each_way.iter().all(|of| of.sent > 0)) {
                [&west, &east].iter().for_each(|end| end.tunnel.look());
                tokio::task::yield_now().await;
            }
        }
    });
}

#[test]
fn a_tunnel_goes_on_from_another_address() {
    on_a_core(async {
        let (west, mut east) = pair().await;
        let (mut ours, mut theirs) = proxied(&west, &mut east).await;
        for _ in 0..3 {
            say(&mut ours.socket, b"before").await;
            hear(&mut theirs.socket, b"before").await;
            let moved = crate::socket::udp::bind_any("127.0.0.1:1".parse().unwrap()).unwrap();
            west.endpoint.rebind(moved).unwrap();
            say(&mut ours.socket, b"after").await;
            hear(&mut theirs.socket, b"after").await;
            say(&mut theirs.socket, b"and back").await;
            hear(&mut ours.socket, b"and back").await;
        }
        assert_eq!(east.tunnel.health(), TunnelHealth::Live);
    });
}

#[test]
fn a_peer_that_falls_silent_is_doubted_and_given_up() {
    on_a_core(async {
        let (west, east) = pair().await;
        // Datagrams go where nobody is.
        let nowhere = crate::socket::udp::bind_any("127.0.0.1:1".parse().unwrap()).unwrap();
        east.endpoint.rebind(nowhere).unwrap();
        let mut ours = west.tunnel.open(&request("west")).unwrap();
        let mut health = west.tunnel.watch();
        let left = *health.wait_for(|&health| health != TunnelHealth::Live).await.unwrap();
        assert_eq!(left, TunnelHealth::Unresponsive);
        assert!(matches!(west.end.await.unwrap(), TunnelEnd::Unresponsive));
        assert_eq!(opened(&mut ours).await.unwrap_err().reason, RefusalReason::TunnelLost);
    });
}
