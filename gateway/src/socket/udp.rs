//! The UDP sockets that QUIC runs on.

use crate::tunnel::quic::steer;
use rustix::{io::Errno, net::sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
};

/// What the kernel should hold for a socket each way: bursts of a fat path, while the core is busy with something else.
const BUFFER: usize = 4 << 20;
/// Below this a burst is likely to be cut, and it is worth a word.
const ENOUGH: usize = 1 << 20;

/// One socket for each core, all on the same address: the kernel hands a datagram to the core that its connection id names, see
/// [`steer`]. They must stay open as long as any of them is used: the kernel counts them by their order.
///
/// Nobody else may have a socket there, of a gateway that drains for example: the kernel would hand it some of our datagrams, and us
/// some of its. So the first is bound as one that shares with nobody, and shares from then on.
///
/// # Errors
/// The address cannot be had, or the kernel does not take the program.
pub fn bind_cores(address: SocketAddr, cores: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(cores);
    for core in 0..cores {
        let socket = new_socket(address)?;
        if core > 0 {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        if core == 0 && cores > 1 {
            socket.set_reuse_port(true)?;
        }
        if core == 1 {
            // There is a group to give the program to from the second socket on.
            steer_group(&socket, &steer::program(cores))?;
        }
        sockets.push(socket.into());
    }
    Ok(sockets)
}

/// A socket to dial from, of the same family as `peer`.
///
/// # Errors
/// The kernel has none.
pub fn bind_any(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any = match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = new_socket(any)?;
    socket.bind(&any.into())?;
    Ok(socket.into())
}

/// Whether the kernel knows a way to `address`, of a family that it has. Nothing is sent.
pub fn has_route(address: IpAddr) -> bool {
    // Any port will do: only the route is looked for.
    let peer = SocketAddr::new(address, 9);
    let connected = bind_any(peer).and_then(|socket| socket.connect(peer));
    let none = |error| matches!(error, Errno::NETUNREACH | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT);
    !connected.is_err_and(|error| Errno::from_io_error(&error).is_some_and(none))
}

/// Whether the kernel holds as much for a socket as bursts want.
pub fn has_room(socket: &impl AsFd) -> bool {
    // The kernel tells twice what it was asked for.
    sockopt::socket_recv_buffer_size(socket).is_ok_and(|size| size / 2 >= ENOUGH)
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    set_buffers(&socket, BUFFER);
    Ok(socket)
}

/// Has the kernel hold so many bytes for a socket each way, or as many as it may. With the capability that is as wanted; without it
/// up to net.core.rmem_max and wmem_max. Less works, too.
pub(super) fn set_buffers(socket: &Socket, bytes: usize) {
    if sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_err() {
        let _ = socket.set_recv_buffer_size(bytes);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, bytes).is_err() {
        let _ = socket.set_send_buffer_size(bytes);
    }
}

/// Has `program` choose among the sockets that share this one's address, by their order.
fn steer_group(socket: &Socket, program: &[SockFilter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SockFilter is sock_filter, as socket2 says; the kernel only reads it.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let size = libc::socklen_t::try_from(size_of_val(&program)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `program` is a sock_fprog of `size` bytes, its filter points to `len` instructions, and both outlive the call, which
    // copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::quic::steer::CoreIds;
    use quinn::ConnectionIdGenerator;

    const CORES: usize = 3;

    #[test]
    fn an_address_that_somebody_shares_is_not_had() {
        for cores in [1, 2] {
            let stranger = new_socket("127.0.0.1:0".parse().unwrap()).unwrap();
            stranger.set_reuse_port(true).unwrap();
            stranger.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            let address = stranger.local_addr().unwrap().as_socket().unwrap();
            let taken = || bind_cores(address, cores).unwrap_err().kind();
            assert_eq!(taken(), io::ErrorKind::AddrInUse);
            drop(stranger);
            let _ours = bind_cores(address, cores).unwrap();
            assert_eq!(taken(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn there_is_a_way_to_oneself() {
        assert!(has_route([127, 0, 0, 1].into()));
    }

    #[test]
    fn a_datagram_reaches_the_core_that_its_id_names_wherever_it_comes_from() {
        let first = bind_cores("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = first[0].local_addr().unwrap();
        drop(first);
        let sockets = bind_cores(address, CORES).unwrap();
        for (core, socket) in sockets.iter().enumerate() {
            socket.set_nonblocking(false).unwrap();
            for long in [true, false] {
                for _ in 0..20 {
                    let id = CoreIds::new(core, CORES).generate_cid();
                    let head: &[u8] = if long { &[0xc0, 0, 0, 0, 1, 12] } else { &[0x40] };
                    let datagram = [head, &id, b"more"].concat();
                    let from = bind_any(address).unwrap();
                    from.send_to(&datagram, address).unwrap();
                    let mut read = [0; 64];
                    assert_eq!(socket.recv(&mut read).unwrap(), datagram.len());
                }
            }
        }
    }
}
