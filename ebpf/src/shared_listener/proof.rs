//! Whether a connection comes to the listeners through the program: it may be loaded, and another one in the same namespace decide.

use super::SharedListener;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, accept_with, bind, getsockname, socket_with},
};
use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

/// How long anything may take that takes microseconds where all is well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes a connection to a free port of `host`, and finds it at one of the listeners.
pub(super) fn check(shared: &SharedListener, host: IpAddr, listeners: &[BorrowedFd<'_>]) -> io::Result<()> {
    let family = if host.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // Nobody else can listen there as long as this is bound.
    let holds_port = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&holds_port, &SocketAddr::new(host, 0))?;
    let to = local_address(holds_port.as_fd())?;
    shared.open(to)?;
    let found =
        TcpStream::connect_timeout(&to, PATIENCE).and_then(|client| arrives(listeners, to).map(|()| drop(client)));
    shared.close(to)?;
    found
}

/// Waits until a connection to `to` can be accepted. Those of others, who have found the listeners' own port, are closed.
fn arrives(listeners: &[BorrowedFd<'_>], to: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
        let mut ready: Vec<_> = listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
        if poll(&mut ready, Some(&left))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a connection came to none of the listeners"));
        }
        for listener in listeners {
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(server) if local_address(server.as_fd())? == to => return Ok(()),
                Ok(_) | Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    Ok(SocketAddrAny::try_into(getsockname(socket)?)?)
}
