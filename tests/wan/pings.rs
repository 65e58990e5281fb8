//! UDP echoes from west's edge to east's, each of which knows when it was sent.

use isthmus_tests::{Netns, Topology};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long nothing may come before no more is waited for.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);

/// Room for more pings than any test sends, so that a busy machine loses none of them in a socket.
const BUFFER: usize = 16 << 20;

/// Answers everything in east, until it is told to end.
pub(crate) struct Echo {
    address: SocketAddr,
    client: UdpSocket,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

/// What came back, in its order: which ping, and after how long.
pub(crate) type Answers = Vec<(u32, Duration)>;

impl Echo {
    /// Starts the answering side, with a client in west.
    pub(crate) fn start(topology: &Topology) -> Self {
        let (west, east) = (topology.cluster("west"), topology.cluster("east"));
        let address = SocketAddr::new(east.tunnel_address().ip(), 7);
        let server = bind(east.edge(), address);
        let client = bind(west.edge(), SocketAddr::new(west.tunnel_address().ip(), 0));
        client.set_read_timeout(Some(SILENCE)).unwrap();
        server.set_read_timeout(Some(SILENCE / 20)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Some(std::thread::spawn(move || answer(&server, &stopped)));
        Self { address, client, stop, thread }
    }

    /// Sends `count` pings of `length` bytes, one every `gap`, and collects what comes back.
    pub(crate) fn ping(&self, count: u32, length: usize, gap: Duration) -> Answers {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let collecting = scope.spawn(move || self.collect(begun, count));
            let mut packet = vec![0; length];
            for number in 0..count {
                std::thread::sleep((gap * number).saturating_sub(begun.elapsed()));
                packet[..4].copy_from_slice(&number.to_be_bytes());
                let sent = u64::try_from(begun.elapsed().as_nanos()).unwrap();
                packet[4..12].copy_from_slice(&sent.to_be_bytes());
                // An ICMP error of an earlier packet is reported here.
                let _ = self.client.send_to(&packet, self.address);
            }
            collecting.join().unwrap()
        })
    }

    /// Until `count` are there, or nothing has come for [`SILENCE`].
    fn collect(&self, begun: Instant, count: u32) -> Answers {
        let (mut answers, mut packet) = (Vec::new(), [0; 2048]);
        while answers.len() < count as usize {
            match self.client.recv(&mut packet) {
                Ok(_) => {
                    let now = begun.elapsed();
                    let number = u32::from_be_bytes(*packet.first_chunk().unwrap());
                    let sent = Duration::from_nanos(u64::from_be_bytes(*packet[4..].first_chunk().unwrap()));
                    answers.push((number, now - sent));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        answers
    }

    /// How many pings have arrived in east.
    pub(crate) fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(server: &UdpSocket, stop: &AtomicBool) -> u64 {
    let (mut packet, mut arrived) = ([0; 2048], 0);
    loop {
        match server.recv_from(&mut packet) {
            Ok((n, from)) => {
                arrived += 1;
                let _ = server.send_to(&packet[..n], from);
            }
            Err(_) if stop.load(Ordering::Relaxed) => return arrived,
            Err(_) => {}
        }
    }
}

fn bind(netns: &Netns, address: SocketAddr) -> UdpSocket {
    let socket = netns.run(move || UdpSocket::bind(address)).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap();
    socket
}
