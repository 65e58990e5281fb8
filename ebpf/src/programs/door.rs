//! Where a listener is, as the programs look for it.

use crate::{map::words, shared::Door};
use rustix::net::{SocketAddrAny, sockopt};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
};

/// The doors of a listener: two, if it listens for IPv4 and IPv6.
pub(super) fn of(listener: BorrowedFd<'_>) -> io::Result<Vec<Door>> {
    let address = rustix::net::getsockname(listener)?;
    let address: SocketAddr = SocketAddrAny::try_into(address)?;
    let both = address.is_ipv6() && address.ip().is_unspecified() && !sockopt::ipv6_v6only(listener)?;
    let netns = netns(listener)?;
    let mut doors = vec![at(netns, address)];
    if both {
        doors.push(at(netns, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())));
    }
    Ok(doors)
}

pub(super) fn at(netns: u64, address: SocketAddr) -> Door {
    Door { netns, address: words(address.ip()), port: address.port().into(), ..Door::default() }
}

/// The cookie of the namespace that a socket is in: Linux 5.14.
pub(super) fn netns(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

const SO_NETNS_COOKIE: i32 = 71;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_listener_for_both_families_has_two_doors() {
        let listen = |v6only| {
            let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
            socket.set_only_v6(v6only).unwrap();
            socket.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            socket.listen(1).unwrap();
            of(socket.as_fd()).unwrap()
        };
        assert_eq!(listen(true).len(), 1);
        let both = listen(false);
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].address, [0; 4]);
        assert_eq!(both[1].address, [0, 0, 0xffff_u32.to_be(), 0]);
        assert!(both[0].netns != 0 && both[0].port == both[1].port);
    }

    #[test]
    fn addresses_lie_in_network_order() {
        let door = at(1, "10.1.2.3:80".parse().unwrap());
        assert_eq!(door.address[3].to_ne_bytes(), [10, 1, 2, 3]);
        assert_eq!(door.port, 80);
        let door = at(1, "[2001:db8::1]:80".parse().unwrap());
        assert_eq!(door.address[0].to_ne_bytes(), [0x20, 1, 0xd, 0xb8]);
        assert_eq!(door.address[3].to_ne_bytes(), [0, 0, 0, 1]);
    }
}
