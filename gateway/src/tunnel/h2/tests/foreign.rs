//! Peers that are not ours, as Envoy behaves and as nobody should.

use super::*;
use crate::tunnel::StreamError;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// East's tunnel from a client that is not ours.
fn from_foreign() -> (DuplexStream, Rc<Offers>, impl Future<Output = Result<TunnelEnd, TunnelEnd>>) {
    let (foreign, east) = tokio::io::duplex(64 * 1024);
    let offers = Rc::new(Offers::default());
    let ingress = offers.clone();
    let serve = async move {
        let (_tunnel, driver) = accept(east, identity("west"), ingress, &config()).await?;
        Ok(driver.run().await)
    };
    (foreign, offers, serve)
}

async fn client(io: DuplexStream) -> h2::client::SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(io).await.unwrap();
    spawn(async move {
        let _ = connection.await;
    });
    sender
}

async fn ask(sender: &mut h2::client::SendRequest<Bytes>, request: Request<()>) -> Response<h2::RecvStream> {
    let (answer, _send) = sender.send_request(request, false).unwrap();
    answer.await.unwrap()
}

#[test]
fn a_client_without_our_headers_is_served_as_itself() {
    on_a_core(async {
        let (foreign, offers, serve) = from_foreign();
        spawn(serve);
        let mut sender = client(foreign).await;
        let connect = Request::connect("api.shop.svc.clusterset.local:80").body(()).unwrap();
        let (answer, mut send) = sender.send_request(connect, false).unwrap();
        send.send_data("hello".into(), true).unwrap();
        let (asked, mut east) = offers.next().await;
        assert_eq!(asked.source.id, identity("west").id);
        east.accept();
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
        assert_eq!(read_all(&mut east).await.unwrap(), b"hello");
    });
}

/// What a peer has sent and we have not read would reset the connection, and our last bytes with it.
#[test]
fn a_drained_tunnel_is_read_until_its_peer_has_closed_it() {
    on_a_core(async {
        let (mut foreign, east) = tokio::io::duplex(64 * 1024);
        foreign.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        // SETTINGS, empty.
        foreign.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let (tunnel, driver) = accept(east, identity("west"), Rc::new(Offers::default()), &config()).await.unwrap();
        let end = spawn(driver.run());
        tunnel.drain();
        // Its goodbye has a PING that tells it when the peer has heard: the peer answers, as all do.
        let mut said = vec![];
        loop {
            let mut head = [0; 9];
            if foreign.read_exact(&mut head).await.is_err() {
                break;
            }
            let mut payload = vec![0; usize::from(head[2])];
            foreign.read_exact(&mut payload).await.unwrap();
            if (head[3], head[4]) == (6, 0) {
                foreign.write_all(&[0, 0, 8, 6, 1, 0, 0, 0, 0]).await.unwrap();
                foreign.write_all(&payload).await.unwrap();
            }
            said.push(head[3]);
        }
        assert!(said.contains(&7), "there was no GOAWAY in {said:?}");
        for _ in 0..1000 {
            // WINDOW_UPDATE of the connection: more than lies in between.
            let update = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            foreign.write_all(&update.repeat(100)).await.unwrap();
        }
        assert!(!end.is_finished());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(tunnel.flushed().as_mut().poll(&mut cx).is_pending(), "a core that drains waits for that");
        drop(foreign);
        assert!(matches!(end.await.unwrap(), TunnelEnd::Drained));
        tunnel.flushed().await;
    });
}

#[test]
fn what_is_no_connect_to_a_service_is_refused_and_the_tunnel_goes_on() {
    on_a_core(async {
        let (foreign, _offers, serve) = from_foreign();
        spawn(serve);
        let mut sender = client(foreign).await;
        for request in [
            Request::get("http://api.shop.svc.clusterset.local:80/").body(()).unwrap(),
            Request::connect("10.0.0.1:80").body(()).unwrap(),
            Request::connect("api.shop.svc.cluster.local:80").body(()).unwrap(),
        ] {
            let answer = ask(&mut sender, request).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND);
            assert!(answer.headers()[refusal::REASON].to_str().unwrap().starts_with("no_such_export final "));
        }
    });
}

#[test]
fn bare_statuses_are_refusals() {
    on_a_core(async {
        let (tunnel, _end) = to_foreign(|io| {
            Box::pin(async move {
                let mut connection = h2::server::handshake(io).await.unwrap();
                let mut statuses = [403, 404, 503, 504].into_iter();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let status = StatusCode::from_u16(statuses.next().unwrap()).unwrap();
                    respond.send_response(Response::builder().status(status).body(()).unwrap(), true).unwrap();
                }
            })
        })
        .await;
        for reason in
            [RefusalReason::Denied, RefusalReason::NoSuchExport, RefusalReason::NoEndpoint, RefusalReason::Timeout]
        {
            let mut stream = tunnel.open(&request()).unwrap();
            assert_eq!(opened(&mut stream).await.unwrap_err().reason, reason);
        }
    });
}

#[test]
fn a_server_that_ends_and_takes_no_more_has_not_reset() {
    on_a_core(async {
        let (tunnel, _end) = to_foreign(|io| {
            Box::pin(async move {
                let mut connection = h2::server::handshake(io).await.unwrap();
                let (request, mut respond) = connection.accept().await.unwrap().unwrap();
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                send.send_data(Bytes::from_static(b"the whole answer"), true).unwrap();
                // Dropped with the client's way still open: `h2` resets with NO_ERROR.
                drop((request, respond, send));
                while connection.accept().await.is_some() {}
            })
        })
        .await;
        let mut stream = tunnel.open(&request()).unwrap();
        opened(&mut stream).await.unwrap();
        let mut client = proxied(stream);
        assert_eq!(hear_end(&mut client.socket).await.unwrap(), b"the whole answer");
        say(&mut client.socket, &[1; 100_000]).await;
        client.socket.shutdown().await.unwrap();
        client.copied.await.unwrap().unwrap();
    });
}

/// A server that answers with a part, waits until the client has said something, and does `then`.
fn server_of_a_part(then: fn(&mut h2::SendStream<Bytes>), goes_on: bool) -> impl FnOnce(DuplexStream) -> Foreign {
    move |io| {
        Box::pin(async move {
            let mut connection = h2::server::handshake(io).await.unwrap();
            let (mut request, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(b"part"), false).unwrap();
            let said = poll_fn(|cx| {
                let _ = connection.poll_closed(cx);
                request.body_mut().poll_data(cx)
            });
            said.await.unwrap().unwrap();
            then(&mut send);
            while goes_on && connection.accept().await.is_some() {}
        })
    }
}

#[test]
fn a_server_that_resets_with_no_error_before_its_end_has_reset() {
    on_a_core(async {
        let server = server_of_a_part(|send| send.send_reset(h2::Reason::NO_ERROR), true);
        let (tunnel, _end) = to_foreign(server).await;
        let mut stream = tunnel.open(&request()).unwrap();
        opened(&mut stream).await.unwrap();
        write(&mut stream, b"go").await.unwrap();
        assert!(matches!(read_all(&mut stream).await, Err(StreamError::Reset)));
    });
}

#[test]
fn a_connection_that_is_cut_leaves_no_stream_that_looks_whole() {
    on_a_core(async {
        let (tunnel, end) = to_foreign(server_of_a_part(|_| {}, false)).await;
        let mut stream = tunnel.open(&request()).unwrap();
        opened(&mut stream).await.unwrap();
        write(&mut stream, b"go").await.unwrap();
        assert!(matches!(read_all(&mut stream).await, Err(StreamError::TunnelLost)));
        end.await.unwrap();
    });
}

#[test]
fn bytes_that_are_no_http2_end_the_handshake() {
    on_a_core(async {
        for garbage in
            [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff"]
        {
            let (mut foreign, _offers, serve) = from_foreign();
            foreign.write_all(garbage).await.unwrap();
            foreign.shutdown().await.unwrap();
            let mut said = vec![];
            let (end, _) = tokio::join!(serve, foreign.read_to_end(&mut said));
            end.map_or_else(drop, drop);
        }
        // A server that speaks something else.
        let (west, mut foreign) = tokio::io::duplex(1024);
        foreign.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        assert!(connect(west, identity("east"), &config()).await.is_err());
    });
}

#[test]
fn a_head_that_is_too_long_is_refused_and_the_tunnel_goes_on() {
    on_a_core(async {
        let (foreign, offers, serve) = from_foreign();
        spawn(serve);
        let mut sender = client(foreign).await;
        let connect = |padding: usize| {
            Request::connect("api.shop.svc.clusterset.local:80")
                .header("x-padding", "x".repeat(padding))
                .body(())
                .unwrap()
        };
        let (answer, _send) = sender.send_request(connect(HEADERS as usize), false).unwrap();
        assert!(answer.await.map_or(true, |answer| answer.status().is_client_error()));
        let (_answer, _send) = sender.send_request(connect(100), false).unwrap();
        offers.next().await;
    });
}
