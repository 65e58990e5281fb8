//! The endpoints that a core dials from.

use crate::socket::udp;
use quinn::{ClientConfig, ConnectError, Connecting, Endpoint, EndpointConfig, TokioRuntime};
use std::{cell::RefCell, collections::BTreeMap, io, net::SocketAddr, sync::Arc};

/// What a core dials from, by whether it is of IPv6: made when first needed, each on a port of its own.
#[derive(Default)]
pub(super) struct Diallers(RefCell<BTreeMap<bool, Endpoint>>);

impl Diallers {
    /// Dials.
    ///
    /// # Errors
    /// There is no socket to dial from, or the address or the name is none.
    pub(super) fn connect(&self, config: &ClientConfig, peer: SocketAddr, name: &str) -> io::Result<Connecting> {
        let dial = || self.endpoint(peer)?.connect_with(config.clone(), peer, name).map_err(io::Error::other);
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

    fn endpoint(&self, peer: SocketAddr) -> io::Result<Endpoint> {
        let mut endpoints = self.0.borrow_mut();
        if let Some(endpoint) = endpoints.get(&peer.is_ipv6()) {
            return Ok(endpoint.clone());
        }
        let endpoint = new_endpoint(peer)?;
        endpoints.insert(peer.is_ipv6(), endpoint.clone());
        Ok(endpoint)
    }
}

/// Dials from a port that nothing else is dialled from. It is open as long as the connection.
///
/// # Errors
/// As [`Diallers::connect`].
pub(super) fn connect_anew(config: &ClientConfig, peer: SocketAddr, name: &str) -> io::Result<Connecting> {
    new_endpoint(peer)?.connect_with(config.clone(), peer, name).map_err(io::Error::other)
}

fn new_endpoint(peer: SocketAddr) -> io::Result<Endpoint> {
    Endpoint::new(EndpointConfig::default(), None, udp::bind_any(peer)?, Arc::new(TokioRuntime))
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
            diallers.endpoint(peer).unwrap().close(0u32.into(), b"");
            let name = configs.name.to_str();
            assert!(diallers.endpoint(peer).unwrap().connect_with(config.clone(), peer, &name).is_err());
            assert!(diallers.connect(&config, peer, &name).is_ok());
        });
    }
}
