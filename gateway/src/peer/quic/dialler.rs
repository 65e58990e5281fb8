//! The endpoints that a core dials from.

use crate::socket::udp;
use quinn::{ClientConfig, ConnectError, Connecting, Endpoint, EndpointConfig, TokioRuntime};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
};

/// What a core dials from, by whether it is of IPv6: made when first needed, each on a port of its own.
#[derive(Default)]
pub(super) struct Diallers(RefCell<BTreeMap<bool, Dialler>>);

/// One of them.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) endpoint: Endpoint,
    /// The endpoint's, for datagrams that are no QUIC.
    pub(super) socket: Rc<UdpSocket>,
    /// Whose dialling is awaited here, see [`super::expect()`].
    pub(super) expected: Rc<RefCell<Vec<IpAddr>>>,
}

impl Diallers {
    /// Dials.
    ///
    /// # Errors
    /// There is no socket to dial from, or the address or the name is none.
    pub(super) fn connect(&self, config: &ClientConfig, peer: SocketAddr, name: &str) -> io::Result<Connecting> {
        let dial = || self.dialler(peer)?.endpoint.connect_with(config.clone(), peer, name).map_err(io::Error::other);
        let is_stopped = |error: &io::Error| {
            let error = error.get_ref().and_then(|error| error.downcast_ref());
            matches!(error, Some(ConnectError::EndpointStopping))
        };
        dial().or_else(|error| {
            if !is_stopped(&error) {
                return Err(error);
            }
            tracing::warn!("the socket that QUIC is dialled from has failed: another is opened");
            self.0.borrow_mut().remove(&peer.is_ipv6());
            dial()
        })
    }

    /// The one that dials `peer`.
    ///
    /// # Errors
    /// There is no socket for it.
    pub(super) fn dialler(&self, peer: SocketAddr) -> io::Result<Dialler> {
        let mut diallers = self.0.borrow_mut();
        if let Some(dialler) = diallers.get(&peer.is_ipv6()) {
            return Ok(dialler.clone());
        }
        let socket = udp::bind_any(peer)?;
        let copy = Rc::new(socket.try_clone()?);
        let dialler = Dialler { endpoint: endpoint_on(socket)?, socket: copy, expected: Rc::default() };
        diallers.insert(peer.is_ipv6(), dialler.clone());
        Ok(dialler)
    }
}

/// Dials from a port that nothing else is dialled from. It is open as long as the connection.
///
/// # Errors
/// As [`Diallers::connect`].
pub(super) fn connect_anew(config: &ClientConfig, peer: SocketAddr, name: &str) -> io::Result<Connecting> {
    endpoint_on(udp::bind_any(peer)?)?.connect_with(config.clone(), peer, name).map_err(io::Error::other)
}

fn endpoint_on(socket: UdpSocket) -> io::Result<Endpoint> {
    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::{driver::tests::pair::on_a_core, tls::tests::Configs};
    use quinn::crypto::rustls::QuicClientConfig;

    #[test]
    fn an_endpoint_that_has_failed_is_replaced() {
        on_a_core(async {
            let configs = Configs::new();
            let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(configs.client.clone()).unwrap()));
            let (diallers, peer) = (Diallers::default(), "127.0.0.1:1".parse().unwrap());
            diallers.dialler(peer).unwrap().endpoint.close(0u32.into(), b"");
            let name = configs.name.to_str();
            assert!(diallers.dialler(peer).unwrap().endpoint.connect_with(config.clone(), peer, &name).is_err());
            assert!(diallers.connect(&config, peer, &name).is_ok());
        });
    }
}
