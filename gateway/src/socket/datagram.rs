//! The UDP sockets of local clients and endpoints.

use super::register;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Type};
use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    task::{Context, Poll, ready},
};
use tokio::io::{Interest, unix::AsyncFd};

mod endpoint;

pub use endpoint::connect;

/// The longest datagram there is, over IPv6: 65,535 without UDP's header.
pub const LONGEST: usize = 65_527;
/// Datagrams read at once.
pub const BATCH: usize = 8;
/// What the kernel should hold for a listener while the core is busy with something else.
const BUFFER: usize = 4 << 20;

/// A listener for clients' datagrams, one of many on the same port: the kernel spreads clients over the cores' listeners.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<OwnedFd>,
    state: UdpSocketState,
    address: SocketAddr,
}

/// One datagram that came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'b> {
    /// From whom.
    pub from: SocketAddr,
    /// The address that it was sent to, where the listener has several: answers come from there.
    pub to: Option<IpAddr>,
    /// What it is.
    pub payload: &'b [u8],
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(address, BUFFER)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        // Of what this does we want the address that a datagram was sent to, not the rest, which is for QUIC.
        let state = UdpSocketState::new((&socket).into())?;
        allow_fragments(&socket, address, libc::IP_PMTUDISC_WANT)?;
        // Pieces of one client's would come as one, and fill a flow's queue at once.
        set(&socket, libc::SOL_UDP, libc::UDP_GRO, 0)?;
        Ok(Self { socket: register(socket.into(), Interest::READABLE | Interest::WRITABLE)?, state, address })
    }

    /// Reads some datagrams into `room`, [`BATCH`] times 64 KiB, and shows each to `take`; how many bytes they had.
    ///
    /// # Errors
    /// The socket failed, which one that is not connected does not by what others do.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        room: &mut [u8],
        mut take: impl FnMut(Arrived<'_>),
    ) -> Poll<io::Result<usize>> {
        let mut meta = [RecvMeta::default(); BATCH];
        let size = room.len() / BATCH;
        let count = loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let mut parts = room.chunks_exact_mut(size);
            // There are as many chunks as BATCH says.
            let mut slices = [(); BATCH].map(|()| IoSliceMut::new(parts.next().unwrap_or_default()));
            match self.state.recv((&self.socket).into(), &mut slices, &mut meta) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        };
        let mut bytes = 0;
        for (part, meta) in room.chunks_exact(size).zip(&meta[..count]) {
            let to = meta.dst_ip.filter(|_| self.address.ip().is_unspecified());
            // What one client sends in one go, the kernel may hand over in one piece.
            let stride = meta.stride.max(1);
            bytes += meta.len;
            if meta.len == 0 {
                take(Arrived { from: meta.addr, to, payload: &[] });
            }
            for payload in part[..meta.len].chunks(stride) {
                take(Arrived { from: meta.addr, to, payload });
            }
        }
        Poll::Ready(Ok(bytes))
    }

    /// Sends a datagram to a client, from the address that the client knows.
    ///
    /// # Errors
    /// The kernel does not take it now (`WouldBlock`), or not at all.
    pub fn send(&self, to: SocketAddr, from: Option<IpAddr>, payload: &[u8]) -> io::Result<()> {
        let transmit = Transmit { destination: to, ecn: None, contents: payload, segment_size: None, src_ip: from };
        self.state.try_send((&self.socket).into(), &transmit)
    }

    /// Takes no more from clients, but can still answer them. Whoever else listens on the address gets what they send; if nobody
    /// does, they are told.
    ///
    /// # Errors
    /// The kernel does not do it.
    pub fn take_no_more(&self) -> io::Result<()> {
        // A connected socket hears its peer only, and nobody sends from a port that one cannot bind without being root: 1, or 9.
        let nobody = match self.address {
            SocketAddr::V4(at) if at.ip().is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, NOBODY)),
            SocketAddr::V6(at) if at.ip().is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, NOBODY)),
            at => SocketAddr::new(at.ip(), NOBODY),
        };
        SockRef::from(&self.socket).connect(&nobody.into())
    }

    /// Datagrams that the kernel had no room for, from the beginning.
    pub fn overflowed(&self) -> u64 {
        overflowed(&self.socket)
    }
}

/// A port that nobody sends from.
const NOBODY: u16 = 1;

fn new_socket(address: SocketAddr, buffer: usize) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    super::udp::set_buffers(&socket, buffer);
    Ok(socket)
}

/// Lets what is longer than the path takes be cut, as it is for everybody: large questions and answers are expected to come. With
/// IP_PMTUDISC_WANT the kernel cuts it once it has been told of the path; with IP_PMTUDISC_DONT routers may, too.
fn allow_fragments(socket: &socket2::Socket, address: SocketAddr, discover: libc::c_int) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discover)?;
    if address.is_ipv6() {
        // The same numbers as over IPv4.
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, discover)?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0)?;
    }
    Ok(())
}

fn set(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // An int is four bytes.
    let size = size_of_val(&value) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `value` is an int of `size` bytes that outlives the call, which copies it.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What SO_MEMINFO tells, of which the last is how many datagrams were dropped.
const MEMINFO: usize = 9;

fn overflowed(socket: &impl AsFd) -> u64 {
    let mut info = [0u32; MEMINFO];
    let mut size = size_of_val(&info) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `info` has room for `size` bytes, `size` says so, and both outlive the call, which writes no more than that.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, info.as_mut_ptr().cast(), &raw mut size) };
    // A kernel that does not tell has counted none.
    if result == 0 { u64::from(info[MEMINFO - 1]) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, net::UdpSocket, time::Duration};

    fn listener(address: &str) -> (Listener, u16) {
        let listener = Listener::bind(address.parse().unwrap()).unwrap();
        let port = SockRef::from(&listener.socket).local_addr().unwrap().as_socket().unwrap().port();
        (listener, port)
    }

    async fn next(listener: &Listener) -> (SocketAddr, Option<IpAddr>, Vec<u8>) {
        let (mut room, mut arrived) = (vec![0; BATCH * 65536], Vec::new());
        poll_fn(|cx| listener.poll_read(cx, &mut room, |one| arrived.push((one.from, one.to, one.payload.to_vec()))))
            .await
            .unwrap();
        arrived.remove(0)
    }

    fn client() -> UdpSocket {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    #[tokio::test(flavor = "local")]
    async fn a_wildcard_listener_answers_from_the_address_that_was_asked() {
        for wildcard in ["0.0.0.0:0", "[::]:0"] {
            let (listener, port) = listener(wildcard);
            for asked in ["127.0.0.1", "127.0.0.7"] {
                let client = client();
                // Connected: the kernel gives it only what comes from there.
                client.connect((asked, port)).unwrap();
                client.send(b"who?").unwrap();
                let (from, to, payload) = next(&listener).await;
                assert_eq!(payload, b"who?");
                listener.send(from, to, asked.as_bytes()).unwrap();
                let mut read = [0; 64];
                let n = client.recv(&mut read).unwrap();
                assert_eq!(&read[..n], asked.as_bytes());
            }
        }
    }

    #[tokio::test(flavor = "local")]
    async fn datagrams_of_every_length_are_whole() {
        let (listener, port) = listener("127.0.0.1:0");
        for length in [0, 1, 1500, 65_507] {
            let client = client();
            client.send_to(&vec![7; length], ("127.0.0.1", port)).unwrap();
            let (from, to, payload) = next(&listener).await;
            assert_eq!((payload.len(), to), (length, None));
            listener.send(from, to, &payload).unwrap();
            assert_eq!(client.recv(&mut vec![0; 65_535]).unwrap(), length);
        }
        let too_long = listener.send("127.0.0.1:1".parse().unwrap(), None, &[0; 65_508]).unwrap_err();
        assert_eq!(too_long.raw_os_error(), Some(libc::EMSGSIZE));
    }

    #[tokio::test(flavor = "local")]
    async fn who_takes_no_more_still_answers_and_a_successor_gets_what_is_sent() {
        for wildcard in ["127.0.0.1:0", "0.0.0.0:0"] {
            let (old, port) = listener(wildcard);
            let client = client();
            client.connect(("127.0.0.1", port)).unwrap();
            client.send(b"one").unwrap();
            let (from, to, _) = next(&old).await;
            old.take_no_more().unwrap();
            old.send(from, to, b"answer").unwrap();
            assert_eq!(client.recv(&mut [0; 64]).unwrap(), 6);
            assert_eq!(
                client.send(b"lost").and_then(|_| client.recv(&mut [0; 64])).unwrap_err().kind(),
                io::ErrorKind::ConnectionRefused
            );

            let address = SocketAddr::new(wildcard.parse::<SocketAddr>().unwrap().ip(), port);
            let successor = Listener::bind(address).unwrap();
            for _ in 0..20 {
                client.send(b"two").unwrap();
                assert_eq!(next(&successor).await.2, b"two");
            }
        }
    }

    #[tokio::test(flavor = "local")]
    async fn what_the_kernel_had_no_room_for_is_counted() {
        let (listener, port) = listener("127.0.0.1:0");
        let client = client();
        let mut sent = 0;
        while listener.overflowed() == 0 && sent < 10_000 {
            client.send_to(&[0; 60_000], ("127.0.0.1", port)).unwrap();
            sent += 1;
        }
        assert!(listener.overflowed() > 0);
    }
}
