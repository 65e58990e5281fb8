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
        let closed = copy(&core, (&near, &far), vec![], false, &mut meter).await;
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
            let mut copied = pin!(copy(&east.core, (&near, &far), vec![], false, &mut meter));
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
