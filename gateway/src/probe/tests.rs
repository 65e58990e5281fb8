use super::*;
use crate::{
    core::tests::{East, service as shop},
    tunnel::{
        StreamError,
        driver::tests::pair::{Offer, SETTINGS, on_a_core, opened, spawn},
    },
};

/// What west asks east's core for.
fn echo_request() -> OpenRequest {
    let mut request = crate::tunnel::driver::tests::pair::request("west");
    request.service = Reserved::Echo.service();
    request
}

fn refusal(reason: RefusalReason) -> Refusal {
    Refusal { reason, message: "so it is".into(), retry: false }
}

fn query() -> ServiceQuery {
    ServiceQuery { cluster: "west".parse().unwrap(), service: shop(), client: None }
}

#[test]
fn what_a_peer_sends_to_be_given_back_comes_back() {
    on_a_core(async {
        let east = East::new();
        let west = east.peer(SETTINGS).await;
        let mut stream = west.tunnel.open(&echo_request()).unwrap();
        opened(&mut stream).await.unwrap();
        assert_eq!(echo::ask(&mut *stream).await, Ok(()));
    });
}

#[test]
fn echoes_are_bounded_and_those_that_end_make_room() {
    on_a_core(async {
        let east = East::new();
        let west = east.peer(SETTINGS).await;
        let mut held = Vec::new();
        let refused = loop {
            let mut stream = west.tunnel.open(&echo_request()).unwrap();
            match opened(&mut stream).await {
                Ok(()) => held.push(stream),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!((held.len(), refused.reason), (32, RefusalReason::Limit));
        assert!(east.counted("isthmus_refusals_total{bound=\"probes\"} 1"));
        drop(held);
        crate::tunnel::driver::tests::pair::until(|| east.core.echoes.get() == 0).await;
        let mut stream = west.tunnel.open(&echo_request()).unwrap();
        opened(&mut stream).await.unwrap();
    });
}

#[test]
fn a_peer_that_knows_no_echo_has_answered() {
    on_a_core(async {
        let east = East::new();
        let mut west = east.peer(SETTINGS).await;
        let probed = spawn({
            let core = east.core.clone();
            async move { links(&core).await }
        });
        let Offer(asked, mut stream) = west.offers.recv().await.unwrap();
        assert_eq!(asked.service, Reserved::Echo.service());
        stream.refuse(&refusal(RefusalReason::NoSuchExport));
        let [(cluster, tunnel)] = probed.await.unwrap().try_into().unwrap();
        assert_eq!((cluster.as_str(), tunnel.transport.as_str()), ("west", "tls"));
        assert!(tunnel.answered_ms.is_some() && tunnel.echoed_ms.is_none() && tunnel.error.is_none(), "{tunnel:?}");
    });
}

#[test]
fn a_peer_that_breaks_off_is_told() {
    on_a_core(async {
        let east = East::new();
        let mut west = east.peer(SETTINGS).await;
        let probed = spawn({
            let core = east.core.clone();
            async move { links(&core).await }
        });
        let Offer(_, mut stream) = west.offers.recv().await.unwrap();
        stream.accept();
        stream.reset();
        let [(_, tunnel)] = probed.await.unwrap().try_into().unwrap();
        assert_eq!(tunnel.error.as_deref(), Some("reset by the peer"));
    });
}

#[test]
fn a_stream_to_a_service_is_opened_and_left() {
    on_a_core(async {
        let east = East::new();
        assert!(service(&east.core, &query()).await.is_none(), "there is no tunnel yet");
        let mut west = east.peer(SETTINGS).await;
        let core = east.core.clone();
        let probe = move || {
            let core = core.clone();
            spawn(async move { service(&core, &query()).await })
        };
        let probed = probe();
        let Offer(asked, mut stream) = west.offers.recv().await.unwrap();
        assert_eq!(asked.service, shop());
        stream.accept();
        assert!(matches!(probed.await.unwrap(), Some(Ok(_))));
        let left = poll_fn(|cx| stream.poll_read(cx, &mut [0])).await;
        assert!(matches!(left, Err(StreamError::Reset)), "{left:?}");
        let probed = probe();
        west.offers.recv().await.unwrap().1.refuse(&refusal(RefusalReason::Denied));
        assert_eq!(probed.await.unwrap(), Some(Err(refusal(RefusalReason::Denied))));
    });
}
