//! Connections of the gateway's, and what goes through them.

use isthmus_ebpf::Programs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
};

/// No wait of a test is longer. Emulated machines, which `make kernels` has, take their time.
pub(crate) const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// Which of the two ends is the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ours {
    Client,
    Server,
    None,
}

/// Both ends, the one that has connected first.
pub(crate) type Pair = (TcpStream, TcpStream);

/// Both ends of a new connection with `listener`.
pub(crate) fn connect(programs: &Programs, listener: &TcpListener, ours: Ours) -> Pair {
    connect_from(programs, &socket(listener.local_addr().unwrap()), listener, ours)
}

pub(crate) fn socket(to: SocketAddr) -> Socket {
    Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap()
}

/// The same by this socket, which may be in another network namespace.
pub(crate) fn connect_from(programs: &Programs, client: &Socket, listener: &TcpListener, ours: Ours) -> Pair {
    match ours {
        Ours::Client => programs.mark(client.as_fd()).unwrap(),
        Ours::Server => programs.open_door(listener.as_fd()).unwrap(),
        Ours::None => {}
    }
    client.connect(&listener.local_addr().unwrap().into()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let client: TcpStream = client.try_clone().unwrap().into();
    for end in [&client, &server] {
        end.set_nodelay(true).unwrap();
        end.set_nonblocking(true).unwrap();
    }
    (client, server)
}

/// Whether each of both takes part.
pub(crate) fn joined(programs: &Programs, (client, server): &Pair) -> (bool, bool) {
    (programs.noted(client.as_fd()).unwrap().joined, programs.noted(server.as_fd()).unwrap().joined)
}

/// Bytes that differ from place to place, by a seed.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(u64);

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 56) as u8;
        }
    }

    /// Writes the next `bytes`, `piece` at a time.
    pub(crate) fn write(&mut self, to: &TcpStream, bytes: usize, piece: usize) {
        let mut buffer = vec![0; piece];
        let mut left = bytes;
        while left > 0 {
            let length = left.min(piece);
            self.fill(&mut buffer[..length]);
            send(to, &buffer[..length]).unwrap();
            left -= length;
        }
    }

    /// Reads the next `bytes`, at most `piece` at a time, and compares them.
    pub(crate) fn read(&mut self, from: &TcpStream, bytes: usize, piece: usize) {
        let (mut found, mut expected) = (vec![0; piece], vec![0; piece]);
        let mut left = bytes;
        while left > 0 {
            let length = receive(from, &mut found[..left.min(piece)]).unwrap();
            assert!(length > 0, "it ended {left} bytes early");
            self.fill(&mut expected[..length]);
            assert!(found[..length] == expected[..length], "{} bytes before the end of {bytes}", left);
            left -= length;
        }
    }
}

/// Reads the end.
pub(crate) fn read_end(from: &TcpStream) {
    let mut more = [0; 16];
    assert_eq!(receive(from, &mut more).unwrap(), 0);
}

/// Writes all of it.
pub(crate) fn send(mut to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = patiently(to, PollFlags::OUT, || to.write(bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Reads once.
pub(crate) fn receive(mut from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    patiently(from, PollFlags::IN, || from.read(buffer))
}

fn patiently(
    socket: &TcpStream,
    event: PollFlags,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
        let ready = poll(&mut [PollFd::new(socket, event)], Some(&PATIENCE)).unwrap();
        assert!(ready > 0, "nothing happens");
    }
}
