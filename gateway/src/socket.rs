//! Local sockets: non-blocking, with readiness from the core's reactor. Every socket option is set here.

use crate::hop::{Share, Unread, part::Part};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType, sockopt},
};
use socket2::SockFilter;
use std::{
    cell::{Cell, OnceCell},
    io::{self, IoSlice},
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{Interest, unix::AsyncFd};

pub mod congestion;
pub mod datagram;
pub mod info;
pub mod transparent;
pub mod udp;

/// A connected stream socket (TCP, or a Unix pair for the exchange) on this core's reactor.
#[derive(Debug)]
pub struct Socket {
    fd: AsyncFd<OwnedFd>,
    /// There if its service asks for the local hop.
    hop: OnceCell<Box<Share>>,
    /// How it failed, where that was met by somebody who could not tell: the kernel says it once.
    failure: Cell<Option<Errno>>,
}

impl Socket {
    /// Takes a non-blocking stream socket into this core's reactor.
    ///
    /// # Errors
    /// The reactor cannot take it (out of memory or descriptors).
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let fd = register(fd, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { fd, hop: OnceCell::new(), failure: Cell::default() })
    }

    /// Takes it out of this core's reactor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd.into_inner()
    }

    /// Reads once; 0 is the end.
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let length = buf.len();
        let mut read = |fd: BorrowedFd<'_>| Ok(rustix::net::recv(fd, &mut *buf, RecvFlags::empty())?.0);
        self.poll_read_with(cx, |fd| read(fd).map(|n| (n, n < length)))
    }

    /// Waits until there is something to read, without reading it.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fd.poll_read_ready(cx).map_ok(drop)
    }

    /// Reads once by `read`, which says how many bytes it got, and whether it had room for more.
    pub fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(BorrowedFd<'_>) -> Result<(usize, bool), Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx))?;
            match read(self.fd.as_fd()) {
                Ok((n, short)) => {
                    // A short read has emptied the socket: the next bytes raise a new edge, so the next call need not ask. But in the
                    // local hop bytes may have come by TCP behind those that were redirected, with an edge that has passed.
                    if n > 0 && short && self.part().is_none() {
                        guard.clear_ready();
                    }
                    self.has_read(Ok(n));
                    return Poll::Ready(self.unless_failed(n));
                }
                Err(Errno::AGAIN) => {
                    self.has_read(Err(Errno::AGAIN));
                    guard.clear_ready();
                }
                Err(Errno::INTR) => {}
                Err(e) => return Poll::Ready(Err(self.why(e))),
            }
        }
    }

    /// Has it counted for the local hop, and read as one that takes part in it, if it does: once.
    pub(crate) fn take_part(&self, share: Share) {
        // It is asked once, where its stream begins.
        let _ = self.hop.set(Box::new(share));
    }

    fn part(&self) -> Option<&Part> {
        self.hop.get().and_then(|share| share.part())
    }

    /// What is done every second, if it is looked at.
    pub(crate) fn check_part(&self) {
        if let Some(part) = self.part() {
            part.beat(self.as_fd());
        }
    }

    /// Whether what was written lies unread for seconds, if it is looked at.
    pub(crate) fn unread_part(&self) -> Option<Unread> {
        self.part()?.unread()
    }

    fn has_read(&self, result: Result<usize, Errno>) {
        let Some(share) = self.hop.get() else { return };
        match (result, share.part()) {
            (Ok(bytes), part) => {
                share.moved(bytes);
                part.inspect(|part| part.read(self.as_fd(), bytes));
            }
            (Err(_), Some(part)) => part.found_nothing(),
            (Err(_), None) => {}
        }
    }

    /// Whether it takes part in the local hop.
    pub(crate) fn is_in_local_hop(&self) -> bool {
        self.part().is_some()
    }

    /// Writes once.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = match self.part() {
            Some(part) => ready!(part.poll_room(cx, self.as_fd()))?,
            None => bytes.len(),
        };
        let bytes = &bytes[..bytes.len().min(most)];
        self.poll_write_with(cx, |fd| rustix::net::send(fd, bytes, SendFlags::NOSIGNAL))
    }

    /// Writes once by `write`, which says how many bytes it wrote.
    pub fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx))?;
            match write(self.fd.as_fd()) {
                Ok(n) => {
                    self.has_written(n);
                    return Poll::Ready(Ok(n));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(e) => return Poll::Ready(Err(self.why(e))),
            }
        }
    }

    fn has_written(&self, bytes: usize) {
        let Some(share) = self.hop.get() else { return };
        share.moved(bytes);
        if let Some(part) = share.part() {
            part.written(self.as_fd(), bytes);
        }
    }

    /// What may be written without waiting.
    fn room(&self) -> usize {
        self.part().map_or(usize::MAX, Part::room)
    }

    /// Writes what fits now, without waiting and without noting interest; 0 if nothing fits or the socket failed (the next
    /// [`Self::poll_send`] says which).
    pub fn try_send(&self, bytes: &[u8]) -> usize {
        let bytes = &bytes[..bytes.len().min(self.room())];
        if bytes.is_empty() {
            return 0;
        }
        self.noted(rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL))
    }

    /// As [`Self::try_send`], for bytes that lie apart.
    pub fn try_send_vectored(&self, slices: &[IoSlice<'_>]) -> usize {
        let mut room = self.room();
        let fit = slices.iter().take_while(|slice| {
            let fits = slice.len() <= room;
            room = room.saturating_sub(slice.len());
            fits
        });
        let slices = &slices[..fit.count()];
        if slices.is_empty() {
            return 0;
        }
        let mut none = SendAncillaryBuffer::default();
        self.noted(rustix::net::sendmsg(&self.fd, slices, &mut none, SendFlags::NOSIGNAL))
    }

    fn noted(&self, sent: Result<usize, Errno>) -> usize {
        match sent {
            Ok(bytes) => {
                self.has_written(bytes);
                bytes
            }
            // Nothing is said of the socket by these: it is tried again.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOMEM | Errno::NOBUFS) => 0,
            Err(error) => {
                self.failure.set(self.failure.get().or(Some(error)));
                0
            }
        }
    }

    /// Why it failed, of which `error` may be no more than a trace.
    fn why(&self, error: Errno) -> io::Error {
        self.failure.get().unwrap_or(error).into()
    }

    /// So many bytes were read. Once its failure has been told, the kernel says that the socket has ended in order.
    fn unless_failed(&self, bytes: usize) -> io::Result<usize> {
        self.failure.get().filter(|_| bytes == 0).map_or(Ok(bytes), |failure| Err(failure.into()))
    }

    /// Reads what is there now, without waiting and without noting interest; `None` if nothing is.
    ///
    /// # Errors
    /// The socket failed.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::net::recv(&self.fd, buf, RecvFlags::empty()) {
            Ok((n, _)) => {
                self.has_read(Ok(n));
                self.unless_failed(n).map(Some)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(e) => Err(self.why(e)),
        }
    }

    /// Waits until the socket has failed (it was reset, or its other side is gone), even while nobody reads or writes it.
    pub async fn failed(&self) {
        // No reactor any more: the core is ending, and its streams with it.
        let _ = self.fd.ready(Interest::ERROR).await;
    }

    /// Why it has failed.
    pub fn take_error(&self) -> io::Error {
        let error = self.failure.get().or_else(|| sockopt::socket_error(self.fd.as_fd()).ok()?.err());
        error.map_or_else(|| io::ErrorKind::ConnectionReset.into(), io::Error::from)
    }

    /// Ends the writing side (FIN).
    pub fn finish(&self) {
        if let Some(part) = self.part() {
            part.finished();
        }
        // The peer may have reset it already, which the next read reports.
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Write);
    }

    /// Makes the coming close a reset (RST).
    pub fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(self.fd.as_fd(), Some(Duration::ZERO));
    }
}

/// Takes a descriptor into this core's reactor.
///
/// # Errors
/// The reactor cannot take it.
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the AsyncFd owns the descriptor, so it stays open, and the same, as long as it is registered.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}

/// A listener for local clients, one of many on the same port: the kernel spreads connections over the cores' listeners.
///
/// Accepted sockets inherit what is set here, which spares a call for each.
///
/// # Errors
/// The address cannot be listened on.
pub fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = new_socket(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    tune_local(&socket)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The addresses that a listener at this one would take connections to, itself first, if nobody has any of them; not by `SO_REUSEPORT`
/// either, by which [`listen`] would share it.
///
/// # Errors
/// Somebody has one, or it cannot be listened on.
pub fn free(address: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    let socket = new_socket(address)?;
    // Connections of one that has closed are nobody's claim.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    let both = address.is_ipv6() && address.ip().is_unspecified() && !sockopt::ipv6_v6only(&socket)?;
    let v4 = both.then(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()));
    Ok(std::iter::once(address).chain(v4).collect())
}

/// Lets a listener finish the handshakes under way and begin no more: a SYN is dropped, and by the time that its client sends it
/// again the listener is closed. Closing at once would reset clients that believe themselves connected.
///
/// # Errors
/// The kernel does not take the filter.
pub fn begin_no_more(listener: &impl AsFd) -> io::Result<()> {
    // Classic BPF on the TCP header: of byte 13, the flags, SYN (0x02) without ACK (0x10) drops the packet.
    let dropping_syns = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    socket2::SockRef::from(listener).attach_filter(&dropping_syns)
}

/// A connection to a local endpoint that is being made.
#[derive(Debug)]
pub struct Connecting {
    socket: Socket,
    /// Whether the endpoint has taken it already.
    taken: bool,
}

impl Connecting {
    /// Begins to connect. `prepare` has the socket before that.
    ///
    /// # Errors
    /// There is no descriptor for it, or no route.
    pub fn begin(address: SocketAddr, prepare: impl FnOnce(BorrowedFd<'_>)) -> io::Result<Self> {
        let socket = new_socket(address)?;
        tune_local(&socket)?;
        prepare(socket.as_fd());
        let mut taken = match rustix::net::connect(&socket, &address) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(e) => return Err(e.into()),
        };
        if !taken {
            // An endpoint on this node has mostly answered by now, which spares a turn of the reactor.
            let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
            let ready = poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0);
            taken = ready && !fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        }
        Ok(Self { socket: Socket::new(socket)?, taken })
    }

    /// Waits until it is made; then [`Self::into_socket`] has it. There is no time limit here: the caller has one.
    ///
    /// # Errors
    /// The endpoint refuses, or cannot be reached.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.taken {
            let _ = ready!(self.socket.fd.poll_write_ready(cx))?;
            sockopt::socket_error(self.socket.fd.as_fd())??;
        }
        Poll::Ready(Ok(()))
    }

    /// The connection, which was made.
    pub fn into_socket(self) -> Socket {
        self.socket
    }
}

/// Whether there was no socket to be had, of this process or of this host: that says nothing of whom it was for.
pub fn is_out_of_sockets(error: &io::Error) -> bool {
    let out = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS].map(|errno| Some(errno.raw_os_error()));
    out.contains(&error.raw_os_error())
}

/// Dials a peer. `small`: neither side sends packets of more than [`SMALL`] bytes.
///
/// # Errors
/// It refuses, or cannot be reached. There is no time limit here: the caller has one.
pub async fn dial(address: SocketAddr, small: bool) -> io::Result<tokio::net::TcpStream> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    if small {
        let headers = if address.is_ipv4() { 20 + 20 } else { 40 + 20 };
        // What is said in the SYN binds both sides (RFC 9293 section 3.7.1).
        socket2::SockRef::from(&socket).set_tcp_mss(SMALL - headers)?;
    }
    socket.connect(address).await
}

/// Makes a connection fit for a tunnel.
///
/// # Errors
/// The kernel refuses an option.
pub fn tune_tunnel(socket: &impl AsFd, round_trip: Option<Duration>) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    // What the kernel holds unsent cannot be overtaken by a small stream's bytes, nor by a PING.
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT)?;
    if round_trip.is_some_and(|rtt| rtt < SHORT_PATH) {
        tune_short_path(socket);
    }
    Ok(())
}

/// Makes a tunnel's connection fit for a path within a site: pacing, as BBR does it, costs more there than it brings.
pub fn tune_short_path(socket: &impl AsFd) {
    // Not every kernel has it; its default works, too.
    let _ = sockopt::set_tcp_congestion(socket, "cubic");
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Connections that the kernel holds until they are accepted; it caps this at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// The size of a packet that gets through everywhere: what every IPv6 path must carry (RFC 8200 section 5).
pub const SMALL: u32 = 1280;
/// Unsent bytes in the kernel above which a tunnel's socket is not writable.
const UNSENT: u32 = 128 * 1024;
/// Paths with a shorter round trip are within a site.
pub const SHORT_PATH: Duration = Duration::from_millis(2);
/// How long a local connection may be silent before the kernel asks whether the other side is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

fn new_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

fn tune_local(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE)?;
    // Not every kernel has it; its default works, too.
    let _ = sockopt::set_tcp_congestion(socket, "cubic");
    Ok(())
}
