//! Serving on a core, where others take the port, the handshakes or the endpoint.

use super::*;
use crate::{
    core::tests::East,
    tunnel::driver::tests::pair::{on_a_core, spawn, until},
};
use quinn::ConnectionError;

/// East, which listens; and where.
fn east() -> (East, SocketAddr) {
    let listen = udp::bind_any(([127, 0, 0, 1], 1).into()).unwrap();
    let address = ([127, 0, 0, 1], listen.local_addr().unwrap().port()).into();
    drop(listen);
    (East::with(|config| config.tunnel_listen = Some(address)), address)
}

/// West's connection to east.
async fn dial(east: &East, address: SocketAddr) -> Result<quinn::Connection, ConnectionError> {
    dial_from(east.client_config(), udp::bind_any(address).unwrap(), address).await
}

async fn dial_from(
    (config, name): (Arc<rustls::ClientConfig>, String),
    socket: UdpSocket,
    address: SocketAddr,
) -> Result<quinn::Connection, ConnectionError> {
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).unwrap();
    endpoint.connect_with(config, address, &name).unwrap().await
}

#[test]
fn a_port_that_was_taken_is_served_once_it_is_free() {
    on_a_core(async {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let east = East::with(|config| config.tunnel_listen = Some(address));
        serve(&east.core);
        assert!(east.core.quic.serving.borrow().is_none());
        drop(taken);
        serve(&east.core);
        dial(&east, address).await.unwrap();
    });
}

#[test]
fn an_endpoint_that_has_failed_is_replaced() {
    on_a_core(async {
        let (east, address) = east();
        serve(&east.core);
        dial(&east, address).await.unwrap();
        let endpoint = east.core.quic.serving.borrow().clone().unwrap();
        endpoint.close(0u32.into(), b"");
        drop(endpoint);
        until(|| east.core.quic.serving.borrow().is_none()).await;
        serve(&east.core);
        dial(&east, address).await.unwrap();
    });
}

#[test]
fn no_core_does_more_than_its_share_of_the_handshakes() {
    on_a_core(async {
        let (east, address) = east();
        serve(&east.core);
        let share = u32::try_from(east.core.common.config.limits.handshakes).unwrap();
        let under_way = east.core.quic.handshakes.clone().acquire_many_owned(share).await.unwrap();
        assert!(matches!(dial(&east, address).await, Err(ConnectionError::ConnectionClosed(_))));
        assert!(east.counted("isthmus_refusals_total{bound=\"handshakes\"} 1"));
        drop(under_way);
        dial(&east, address).await.unwrap();
    });
}

/// Whoever is not expected dials first, and hears nothing, though the other one is served.
#[test]
fn only_who_is_expected_may_dial_where_we_dial_from() {
    on_a_core(async {
        let east = East::new();
        let expecting = Rc::new(expect(&east.core, "127.0.0.1:9".parse().unwrap()).unwrap());
        let dialler = east.core.quic.diallers.dialler("127.0.0.1:9".parse().unwrap()).unwrap();
        let address: SocketAddr = ([127, 0, 0, 1], dialler.endpoint.local_addr().unwrap().port()).into();
        let (core, accepting) = (east.core.clone(), expecting.clone());
        let accepting = spawn(async move { accepting.accept(&core).await });
        let [stranger, peer] = ["127.0.0.9:0", "127.0.0.1:0"].map(|from| UdpSocket::bind(from).unwrap());
        let stranger = spawn(dial_from(east.client_config(), stranger, address));
        tokio::task::yield_now().await;
        let connection = dial_from(east.client_config(), peer, address).await.unwrap();
        assert!(!stranger.is_finished());
        accepting.abort();
        let _ = accepting.await;
        drop(expecting);
        assert!(dialler.expected.borrow().is_empty());
        drop(connection);
    });
}
