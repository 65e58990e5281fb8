//! UDP endpoints and clients.

use crate::netns::Netns;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How long a client waits for an answer. A lost one costs a failing test this much.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an endpoint looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// An endpoint that sends each datagram back, with its own name before it.
#[derive(Debug)]
pub struct UdpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Serves inside `netns`, under the name `name`.
    ///
    /// # Panics
    /// If the address cannot be had.
    pub fn serve(netns: &Netns, address: SocketAddr, name: &'static str) -> Self {
        let socket = bind(netns, address);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut room = vec![0; 65_535];
            while !stopped.load(Relaxed) {
                if let Ok((n, from)) = socket.recv_from(&mut room) {
                    // An answer that is too long is no answer: its client is missing it.
                    let answer = if n + name.len() > 65_507 {
                        room[..n].to_vec()
                    } else {
                        [name.as_bytes(), &room[..n]].concat()
                    };
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client inside `netns` that sends to `service`, and hears nobody else.
///
/// # Panics
/// If there is no socket, or no route.
pub fn client(netns: &Netns, service: SocketAddr) -> UdpSocket {
    let any = if service.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = netns.run(move || UdpSocket::bind(any).and_then(|socket| socket.connect(service).map(|()| socket)));
    let socket = socket.unwrap_or_else(|e| panic!("netns {}: a client of {service}: {e}", netns.name()));
    set_patience(&socket, PATIENCE);
    socket
}

/// Sends a datagram and waits for one.
///
/// # Errors
/// As send(2) and recv(2) have them; nothing comes in time.
pub fn ask(client: &UdpSocket, question: &[u8]) -> io::Result<Vec<u8>> {
    client.send(question)?;
    let mut answer = vec![0; 65_535];
    let n = receive(client, &mut answer)?;
    answer.truncate(n);
    Ok(answer)
}

/// Waits for a datagram. That a process which the tests have started ends is no reason to stop.
///
/// # Errors
/// As recv(2) has them; nothing comes in time.
pub fn receive(client: &UdpSocket, room: &mut [u8]) -> io::Result<usize> {
    loop {
        // With a timeout the kernel never goes on by itself after a signal (signal(7)).
        match client.recv(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// Has a client wait for so long.
///
/// # Panics
/// If the kernel does not do it.
pub fn set_patience(client: &UdpSocket, patience: Duration) {
    client.set_read_timeout(Some(patience)).unwrap_or_else(|e| panic!("a read timeout: {e}"));
}

fn bind(netns: &Netns, address: SocketAddr) -> UdpSocket {
    let socket = netns.run(move || UdpSocket::bind(address));
    let socket = socket.unwrap_or_else(|e| panic!("netns {}: UDP {address}: {e}", netns.name()));
    set_patience(&socket, LOOK);
    socket
}
