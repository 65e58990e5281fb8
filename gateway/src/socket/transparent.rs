//! Sockets that connect from an address of somebody else, and whether the answers would come to this host.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink};
use socket2::{SockAddr, SockRef};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _},
};

/// The mark of packets that answer such sockets, in the rules that docs/transparent-source.md and `isthmus check` have.
pub const MARK: u32 = 0x1571;
/// The routing table that such packets go by, in the same.
pub const TABLE: u32 = 5489;

/// Has a TCP socket that is not connected yet connect from `address`, and a port of the kernel's choice.
///
/// # Errors
/// The kernel wants CAP_NET_RAW or CAP_NET_ADMIN for it; or nobody can have the address. The socket can still be connected from an
/// address of this host.
pub fn bind(socket: &impl AsFd, address: IpAddr) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match address {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }?;
    choose_port_late(&socket)?;
    socket.bind(&SockAddr::from(SocketAddr::new(address, 0)))
}

/// The port is chosen where the destination is known: each pair of addresses has all ports for itself.
fn choose_port_late(socket: &SockRef<'_>) -> io::Result<()> {
    let yes: libc::c_int = 1;
    // An int is four bytes.
    let size = size_of_val(&yes) as libc::socklen_t;
    // SAFETY: `yes` is an int of `size` bytes that outlives the call, which copies it. Over IPv6 it is the same option.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const yes).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a packet to `address` with the mark is for this host: what the kernel's routes say (rtnetlink(7)).
///
/// # Errors
/// The kernel does not answer.
pub fn is_delivered(address: IpAddr, mark: u32) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &question(address, mark), SendFlags::empty(), &kernel)?;
    // The kernel has answered when sending returns.
    let mut answer = [0; 4096];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    Ok(is_local(&answer[..length]))
}

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_MARK: u16 = 16;
const RTN_LOCAL: u8 = 2;
/// Of a message's header, and of what describes a route.
const HEADER: usize = 16;
const ROUTE: usize = 12;

/// `ip route get ADDRESS mark MARK`.
fn question(address: IpAddr, mark: u32) -> Vec<u8> {
    let (family, destination) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let mut route = [0; ROUTE];
    route[0] = u8::try_from(family).unwrap_or_default();
    route[1] = u8::try_from(destination.len() * 8).unwrap_or_default();
    let mut message = vec![0; HEADER];
    message.extend_from_slice(&route);
    for (kind, value) in [(RTA_DST, &destination[..]), (RTA_MARK, &mark.to_ne_bytes()[..])] {
        // Both are a multiple of four bytes long, as what follows has to begin at one.
        let length = u16::try_from(4 + value.len()).unwrap_or_default();
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(value);
    }
    let length = u32::try_from(message.len()).unwrap_or_default();
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_GETROUTE.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message
}

/// Whether an answer has a route to this host; an error is none.
fn is_local(answer: &[u8]) -> bool {
    let kind = answer.get(4..6).and_then(|kind| kind.first_chunk()).map(|kind| u16::from_ne_bytes(*kind));
    kind == Some(RTM_NEWROUTE) && answer.get(HEADER + 7) == Some(&RTN_LOCAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_is_for_this_host() {
        let is_here = |address: &str| is_delivered(address.parse().unwrap(), MARK).unwrap();
        assert!(is_here("127.0.0.1") && is_here("127.9.9.9"));
        // RFC 5737 and 3849: addresses that nobody has.
        assert!(!is_here("192.0.2.1") && !is_here("2001:db8::1"));
    }
}
