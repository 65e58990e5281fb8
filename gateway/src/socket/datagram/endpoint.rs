//! A flow's socket to its endpoint.

use super::{allow_fragments, new_socket, overflowed};
use crate::socket::Socket;
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, sockopt},
};
use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    task::{Context, Poll},
};
use tokio::io::{Interest, Ready};

/// What the kernel should hold for one flow while the core is busy with something else.
const BUFFER: usize = 256 * 1024;

/// A socket to an endpoint, of one flow.
///
/// # Errors
/// No route leads there, or the kernel has no socket. Whether anybody is there, only datagrams tell.
pub fn connect(endpoint: SocketAddr) -> io::Result<Socket> {
    let socket = new_socket(endpoint, BUFFER)?;
    // So that a router that takes less cuts a datagram instead of returning it, which would look like a failure of the endpoint.
    allow_fragments(&socket, endpoint, libc::IP_PMTUDISC_DONT)?;
    socket.connect(&endpoint.into())?;
    Socket::new(socket.into())
}

impl Socket {
    /// Reads a datagram; its length, which may be 0.
    pub fn poll_recv_datagram(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |fd| {
            match rustix::net::recv(fd, &mut *room, RecvFlags::empty()) {
                // How long it is says nothing of whether there is another one.
                Ok((read, _)) => Ok((read, false)),
                // What became of a datagram that was sent, not of the endpoint: what it says comes with the next call.
                Err(Errno::MSGSIZE) => Err(Errno::INTR),
                Err(error) => Err(error),
            }
        })
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// As [`super::Listener::send`]; or what became of an earlier one.
    pub fn send_datagram(&self, payload: &[u8]) -> io::Result<()> {
        loop {
            match rustix::net::send(self.as_fd(), payload, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the endpoint's host, or a router, says that nobody is there; what it says. That a datagram was too long for the
    /// path does not count.
    pub async fn refused(&self) -> io::Error {
        // Without a reactor the core is ending, and its flows with it.
        while let Ok(mut guard) = self.fd.ready(Interest::ERROR).await {
            // Before the error is taken: one that comes later is told of anew.
            guard.clear_ready_matching(Ready::ERROR);
            match sockopt::socket_error(self.as_fd()) {
                Ok(Ok(()) | Err(Errno::MSGSIZE)) => {}
                Ok(Err(error)) | Err(error) => return error.into(),
            }
        }
        io::ErrorKind::ConnectionReset.into()
    }

    /// Datagrams that the kernel had no room for, from the beginning.
    pub fn overflowed(&self) -> u64 {
        overflowed(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, net::UdpSocket};

    #[tokio::test(flavor = "local")]
    async fn an_endpoint_that_is_not_there_is_noticed() {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = connect(gone).unwrap();
        socket.send_datagram(b"anybody?").unwrap();
        assert_eq!(socket.refused().await.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Here the kernel tells of a datagram that is too long by an event without an error; routers' words come as one.
    #[tokio::test(flavor = "local")]
    async fn a_datagram_that_was_too_long_is_no_refusal() {
        let endpoint = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = connect(endpoint.local_addr().unwrap()).unwrap();
        super::super::set(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1).unwrap();
        let too_long = socket.send_datagram(&[0; 65_508]).unwrap_err();
        assert_eq!(too_long.raw_os_error(), Some(libc::EMSGSIZE));
        socket.send_datagram(b"who?").unwrap();
        let (_, from) = endpoint.recv_from(&mut [0; 64]).unwrap();
        endpoint.send_to(b"I", from).unwrap();
        let mut room = [0; 64];
        let answer = poll_fn(|cx| socket.poll_recv_datagram(cx, &mut room));
        tokio::select! {
            biased;
            error = socket.refused() => panic!("{error}"),
            answer = answer => assert_eq!(answer.unwrap(), 1),
        }
        drop(endpoint);
        socket.send_datagram(b"anybody?").unwrap();
        assert_eq!(socket.refused().await.kind(), io::ErrorKind::ConnectionRefused);
    }
}
