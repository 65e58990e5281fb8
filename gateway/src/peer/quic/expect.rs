//! Being dialled where this core dials from: there a NAT lets in whom we have sent something.

use super::{accept, admit, dialler::Dialler};
use crate::core::Core;
use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

/// What opens a NAT: no QUIC, and too short to be answered by anybody who takes it for some.
const OPENER: [u8; 8] = [0; 8];

/// Somebody may dial us, for as long as this lives.
pub(in crate::peer) struct Expecting {
    dialler: Dialler,
    peer: IpAddr,
}

/// Lets the host at `peer` dial us, whatever its port: a NAT may give it another one for us.
///
/// # Errors
/// There is no socket.
pub(in crate::peer) fn expect(core: &Core, peer: SocketAddr) -> io::Result<Expecting> {
    let dialler = core.quic.diallers.dialler(peer)?;
    dialler.expected.borrow_mut().push(peer.ip());
    dialler.endpoint.set_server_config(Some(core.common.quic.server.clone()));
    Ok(Expecting { dialler, peer: peer.ip() })
}

impl Expecting {
    /// Sends a datagram that says nothing. That it may not arrive is what it is for.
    pub(in crate::peer) fn send_opener(&self, to: SocketAddr) {
        let _ = self.dialler.socket.send_to(&OPENER, to);
    }

    /// Takes those who dial and are expected, within the bounds that hold at the tunnel port.
    pub(in crate::peer) async fn accept(&self, core: &Rc<Core>) -> Infallible {
        while let Some(incoming) = self.dialler.endpoint.accept().await {
            if !self.dialler.expected.borrow().contains(&incoming.remote_address().ip()) {
                incoming.ignore();
            } else if let Some((incoming, permits)) = admit(core, incoming) {
                accept(core, incoming, permits);
            }
        }
        // The socket has failed: it is replaced when it is dialled from again.
        std::future::pending().await
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        let mut expected = self.dialler.expected.borrow_mut();
        if let Some(index) = expected.iter().position(|ip| *ip == self.peer) {
            expected.swap_remove(index);
        }
        if expected.is_empty() {
            self.dialler.endpoint.set_server_config(None);
        }
    }
}
