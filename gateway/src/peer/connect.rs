//! Dials a peer once, over whichever transport.

use super::setup::{self, Running, SetupError};
use crate::{
    core::Core,
    socket,
    tunnel::{
        Direction, PeerIdentity,
        tls::{HandshakeError, handshake},
    },
};
use isthmus_certs::{HandshakeRefusal, tls};
use isthmus_control_api::{ClusterName, TransportChoice};
use std::{cell::Cell, net::SocketAddr, os::fd::AsFd, rc::Rc, time::Instant};

/// How and where a peer is dialled.
pub(super) struct Dial {
    /// Over what.
    pub(super) transport: TransportChoice,
    pub(super) address: SocketAddr,
    /// From a port that nothing has been dialled from before.
    pub(super) anew: bool,
    /// With small packets only, both ways. Over QUIC they are as large as was found to get through anyway.
    pub(super) small: bool,
}

/// Dials a peer: a tunnel that takes streams.
pub(super) async fn dial(
    core: &Rc<Core>,
    cluster: &ClusterName,
    dial: &Dial,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    let (mut running, peer) = match dial.transport {
        TransportChoice::Quic => super::quic::dial(core, cluster, dial).await,
        TransportChoice::Auto | TransportChoice::Tls | TransportChoice::H2 => dial_tcp(core, cluster, dial).await,
    }?;
    running.address = Some(dial.address);
    running.common_port = dial.transport == TransportChoice::Quic && !dial.anew;
    Ok((running, peer))
}

async fn dial_tcp(
    core: &Rc<Core>,
    cluster: &ClusterName,
    dial: &Dial,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    let connected = Cell::new(false);
    let dialled = setup::within(core, async {
        let begun = Instant::now();
        let socket = socket::dial(dial.address, dial.small).await.map_err(SetupError::Connect)?;
        socket::tune_tunnel(&socket, Some(begun.elapsed()))?;
        connected.set(true);
        let config = core.common.tls.client(cluster, dial.transport).map_err(HandshakeError::from)?;
        let name = tls::server_name(&core.common.identity, cluster).map_err(HandshakeError::from)?;
        let stuck = socket::info::stuck(socket.as_fd().try_clone_to_owned()?);
        let handshaken = tokio::select! {
            handshaken = handshake::dial(config, name, socket) => handshaken?,
            () = stuck => return Err(SetupError::Stalled),
        };
        let running = setup::start(core, handshaken, Direction::Dialled).await?;
        core.counters.handshake(Direction::Dialled);
        Ok(running)
    })
    .await;
    dialled.map_err(|error| match error {
        SetupError::Timeout(_) if connected.get() => SetupError::Stalled,
        error if error.refusal() == Some(HandshakeRefusal::Alpn) => SetupError::Protocol,
        error => error,
    })
}
