//! Where control's exchange with its peers enters and leaves the data plane: as byte streams, one a direction and link.

use crate::{board::Board, core::Mail};
use isthmus_control_api::{ClusterName, GatewayId};
use std::{io, os::fd::OwnedFd, os::unix::net::UnixStream};
use tokio::sync::mpsc;

/// An exchange that a peer has opened.
#[derive(Debug)]
pub struct Incoming {
    /// The peer's cluster, as its certificate proved.
    pub cluster: ClusterName,
    /// Which of its gateways, as that said itself.
    pub gateway: GatewayId,
    /// What it sends, and where to answer. Non-blocking.
    pub stream: UnixStream,
}

/// Hands exchanges that peers open to control. Those that it does not take in time are refused.
#[derive(Debug)]
pub(crate) struct Exchanges(pub(crate) mpsc::Sender<Incoming>);

impl Exchanges {
    /// Hands one to control; the gateway's end of it. `None` if control does not take any more now.
    pub(crate) fn hand_over(&self, cluster: ClusterName, gateway: GatewayId) -> io::Result<Option<OwnedFd>> {
        let (ours, theirs) = pair()?;
        Ok(self.0.try_send(Incoming { cluster, gateway, stream: theirs }).is_ok().then_some(ours))
    }
}

/// Opens an exchange with one of `cluster`'s gateways: control's end of it.
///
/// # Errors
/// There is no live tunnel, or the core that has one takes no mail.
pub(crate) fn open(
    board: &Board,
    mailboxes: &[mpsc::Sender<Mail>],
    cluster: &ClusterName,
    gateway: GatewayId,
) -> io::Result<UnixStream> {
    let core = board.core_to(cluster, gateway, 0);
    let core = core.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, format!("no tunnel to {cluster}")))?;
    let (ours, theirs) = pair()?;
    let sent = mailboxes[core].try_send(Mail::Exchange(cluster.clone(), gateway, ours));
    sent.map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "the core is busy"))?;
    Ok(theirs)
}

/// A pair of sockets, neither of which blocks.
pub(crate) fn pair() -> io::Result<(OwnedFd, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((ours.into(), theirs))
}
