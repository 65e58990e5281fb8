//! Streams between two local sockets.

use super::*;
use crate::{
    core::tests::{East, fill, give_up_soon, local, read_all, reset, service},
    metrics::streams::Side,
    tunnel::driver::tests::pair::{on_a_core, spawn, until},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

/// A local stream that is being copied.
struct Copied {
    client: TcpStream,
    endpoint: TcpStream,
    end: JoinHandle<Closed>,
}

async fn copied(east: &East, prepare: impl FnOnce(&Socket)) -> Copied {
    let ((near, client), (far, endpoint)) = (local().await, local().await);
    prepare(&far);
    let core = east.core.clone();
    let end = spawn(async move {
        let mut meter = StreamMeter::new(&core, Side::Egress, service());
        let closed = copy(&core, (&near, &far), Early::default(), &mut meter).await;
        meter.close(closed);
        closed
    });
    Copied { client, endpoint, end }
}

/// Waits until a socket knows that it has failed, whatever came before.
async fn fails(socket: &TcpStream) {
    until(|| socket.take_error().unwrap().is_some()).await;
}

#[test]
fn a_reset_behind_a_half_close_resets_the_other_side() {
    on_a_core(async {
        let east = East::new();
        for by_client in [true, false] {
            let Copied { client, endpoint, end } = copied(&east, |_| ()).await;
            let (mut one, mut other) = if by_client { (client, endpoint) } else { (endpoint, client) };
            one.shutdown().await.unwrap();
            assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
            reset(one);
            assert_eq!(end.await.unwrap(), Closed::ResetLocal);
            fails(&other).await;
        }
    });
}

#[test]
fn a_reset_behind_bytes_that_nobody_takes_resets_the_other_side() {
    on_a_core(async {
        let east = East::new();
        for by_client in [true, false] {
            let Copied { client, endpoint, end } = copied(&east, |_| ()).await;
            let (one, mut other) = if by_client { (client, endpoint) } else { (endpoint, client) };
            fill(&one).await;
            reset(one);
            assert_eq!(end.await.unwrap(), Closed::ResetLocal);
            read_all(&mut other).await.1.unwrap_err();
        }
    });
}

#[test]
fn an_endpoint_that_does_not_answer_any_more_is_counted_as_a_timeout() {
    on_a_core(async {
        let east = East::new();
        let Copied { mut client, endpoint: _reads_nothing, end } = copied(&east, give_up_soon).await;
        fill(&client).await;
        assert_eq!(end.await.unwrap(), Closed::Timeout);
        read_all(&mut client).await.1.unwrap_err();
        let labels = r#"service="shop/api:80",peer="_local",direction="egress",reason="timeout""#;
        assert!(east.counted(&format!("isthmus_streams_closed_total{{{labels}}} 1")));
    });
}

/// Bytes that lie in a socket.
fn waiting(socket: &TcpStream) -> usize {
    let mut room = [std::mem::MaybeUninit::uninit(); 1 << 16];
    socket2::SockRef::from(socket).peek(&mut room).unwrap_or(0)
}

#[test]
fn a_way_with_much_to_move_lets_the_other_have_its_turn() {
    const PIECE: usize = 1024;
    on_a_core(async {
        let east = East::new();
        east.core.scratch.replace(vec![0; PIECE]);
        let ((near, mut client), (far, mut endpoint)) = (local().await, local().await);
        // All of it fits the sockets: it could be moved at one go.
        client.write_all(&[7; 4 * ROUNDS * PIECE]).await.unwrap();
        endpoint.write_all(b"!").await.unwrap();
        let mut meter = StreamMeter::new(&east.core, Side::Egress, service());
        {
            let mut copied = pin!(copy(&east.core, (&near, &far), Early::default(), &mut meter));
            poll_fn(|cx| {
                assert!(copied.as_mut().poll(cx).is_pending());
                if waiting(&client) == 0 { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            let moved = waiting(&endpoint);
            assert!((1..=ROUNDS * PIECE).contains(&moved), "{moved} bytes had gone up before one came down");
            poll_fn(|cx| {
                assert!(copied.as_mut().poll(cx).is_pending());
                if waiting(&endpoint) < 4 * ROUNDS * PIECE { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        }
        meter.close(Closed::Fin);
    });
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 65_521).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

async fn says_and_ends(mut socket: tokio::net::tcp::OwnedWriteHalf, bytes: Vec<u8>) {
    socket.write_all(&bytes).await.unwrap();
    socket.shutdown().await.unwrap();
}

#[test]
fn bulk_is_spliced_both_ways_and_its_bytes_and_ends_arrive() {
    on_a_core(async {
        let east = East::new();
        let Copied { client, endpoint, end } = copied(&east, |_| ()).await;
        let ((mut client, to_endpoint), (mut endpoint, to_client)) = (client.into_split(), endpoint.into_split());
        let (up, down) = (pattern(9_000_001), pattern(5_000_003));
        let says = [spawn(says_and_ends(to_endpoint, up.clone())), spawn(says_and_ends(to_client, down.clone()))];
        let (mut at_endpoint, mut at_client) = (Vec::new(), Vec::new());
        let (one, other) = tokio::join!(endpoint.read_to_end(&mut at_endpoint), client.read_to_end(&mut at_client));
        assert_eq!((one.unwrap(), other.unwrap()), (up.len(), down.len()));
        assert!(at_endpoint == up && at_client == down);
        for says in says {
            says.await.unwrap();
        }
        assert_eq!(end.await.unwrap(), Closed::Fin);
        assert!(east.core.counters.spliced_bytes.get() > 1_000_000);
        assert_eq!(east.core.counters.splice_pipes.get(), 0);
    });
}

#[test]
fn what_follows_bulk_is_copied_again() {
    on_a_core(async {
        let east = East::new();
        let Copied { mut client, endpoint, end } = copied(&east, |_| ()).await;
        let (mut from_client, to_client) = endpoint.into_split();
        let bulk = pattern(4_000_000);
        let says = {
            let bulk = bulk.clone();
            spawn(async move {
                let mut to_client = to_client;
                to_client.write_all(&bulk).await.unwrap();
                to_client
            })
        };
        let mut heard = vec![0; bulk.len()];
        client.read_exact(&mut heard).await.unwrap();
        assert!(heard == bulk);
        let mut to_client = says.await.unwrap();
        let spliced = || east.core.counters.spliced_bytes.get();
        assert!(spliced() > 0);
        for round in 0..3_u8 {
            let before = spliced();
            for byte in [round; 4] {
                client.write_all(&[byte]).await.unwrap();
                assert_eq!(from_client.read_u8().await.unwrap(), byte);
                to_client.write_all(&[byte]).await.unwrap();
                assert_eq!(client.read_u8().await.unwrap(), byte);
            }
            assert!(spliced() - before <= 1, "one that was little ends it");
        }
        drop((client, from_client, to_client));
        end.await.unwrap();
    });
}

#[test]
fn a_reader_that_has_stopped_stops_the_writer_of_bulk_and_gets_all_of_it() {
    on_a_core(async {
        let east = East::new();
        let Copied { mut client, mut endpoint, end } = copied(&east, |_| ()).await;
        let said = fill(&client).await;
        assert!(east.core.counters.spliced_bytes.get() > 0 && east.core.counters.splice_pipes.get() == 1);
        client.shutdown().await.unwrap();
        let (heard, result) = read_all(&mut endpoint).await;
        result.unwrap();
        assert!(heard == vec![7; said]);
        drop(endpoint);
        end.await.unwrap();
        assert_eq!(east.core.counters.splice_pipes.get(), 0);
    });
}

#[test]
fn streams_beyond_the_bound_of_pipes_are_copied() {
    on_a_core(async {
        let east = East::new();
        east.core.counters.splice_pipes.set(pipe::MOST);
        let Copied { client, mut endpoint, end } = copied(&east, |_| ()).await;
        let bulk = pattern(4_000_000);
        let says = spawn(says_and_ends(client.into_split().1, bulk.clone()));
        let mut heard = vec![0; bulk.len()];
        endpoint.read_exact(&mut heard).await.unwrap();
        assert!(heard == bulk);
        says.await.unwrap();
        drop(endpoint);
        end.await.unwrap();
        assert_eq!(east.core.counters.spliced_bytes.get(), 0);
    });
}

#[test]
fn urgent_data_amid_bulk_loses_nothing_else_and_stops_nothing() {
    on_a_core(async {
        let east = East::new();
        for ends in [true, false] {
            let Copied { client, mut endpoint, end } = copied(&east, |_| ()).await;
            let (bulk, spliced) = (pattern(3_000_000), east.core.counters.spliced_bytes.get());
            let says = {
                let bulk = bulk.clone();
                spawn(async move {
                    let mut client = client;
                    for piece in bulk.chunks(1_000_000) {
                        client.write_all(piece).await.unwrap();
                        client.writable().await.unwrap();
                        rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB).unwrap();
                    }
                    if ends {
                        client.shutdown().await.unwrap();
                    }
                    client
                })
            };
            // The urgent bytes themselves are not carried, but for one that a later one took the place of: that is one of the stream.
            let mut heard = Vec::new();
            let whole = |heard: &[u8]| {
                let mut rest = heard.iter().copied().peekable();
                bulk.iter().enumerate().all(|(at, byte)| {
                    if at > 0 && at % 1_000_000 == 0 && *byte != b'!' {
                        rest.next_if_eq(&b'!');
                    }
                    rest.next() == Some(*byte)
                })
            };
            if ends {
                endpoint.read_to_end(&mut heard).await.unwrap();
            } else {
                while heard.len() < bulk.len() || !whole(&heard) {
                    assert!(endpoint.read_buf(&mut heard).await.unwrap() > 0, "it ended after {} bytes", heard.len());
                }
            }
            assert!(whole(&heard), "{} bytes of {}", heard.len(), bulk.len());
            assert!(east.core.counters.spliced_bytes.get() > spliced);
            drop((endpoint, says.await.unwrap()));
            end.await.unwrap();
        }
    });
}

#[test]
fn streams_that_wait_leave_pipes_to_those_that_move() {
    on_a_core(async {
        let east = East::new();
        let pipes = || east.core.counters.splice_pipes.get();
        let mut idle = Vec::new();
        for _ in 0..60 {
            let Copied { mut client, mut endpoint, end } = copied(&east, |_| ()).await;
            let bulk = pattern(600_000);
            let mut heard = vec![0; bulk.len()];
            let (said, read) = tokio::join!(client.write_all(&bulk), endpoint.read_exact(&mut heard));
            said.unwrap();
            read.unwrap();
            assert!(heard == bulk);
            idle.push((client, endpoint, end));
        }
        assert!(pipes() <= 48, "{} pipes of streams that wait", pipes());
        for (client, endpoint, end) in idle {
            drop((client, endpoint));
            end.await.unwrap();
        }
        assert_eq!(pipes(), 0);
    });
}
