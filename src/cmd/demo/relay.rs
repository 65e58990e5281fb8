//! The WAN of `--loopback`: a relay of TCP connections that can stop to forward.
//!
//! A cut does what dropped packets do as far as TCP can see it: nothing arrives, and nothing is closed. Neither a FIN nor an RST
//! passes, and a new connection gets no further than the relay.

use super::{error::Error, place::Place};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread::JoinHandle,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Connections beyond this are not accepted before another has ended: the demonstration's tunnels are far fewer.
const CONNECTIONS: usize = 1024;
/// How much is read at once.
const BUFFER: usize = 256 * 1024;

/// A running relay; dropping it closes everything.
#[derive(Debug)]
pub(super) struct Relay {
    open: watch::Sender<bool>,
    stop: CancellationToken,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Relay {
    /// Forwards what `listener` accepts to `target`, on a thread of its own.
    pub(super) fn start(listener: TcpListener, target: SocketAddr) -> io::Result<Self> {
        let (open, gate) = watch::channel(true);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = Place::here().thread("relay", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(stopped.run_until_cancelled(serve(listener, target, gate))).unwrap_or(Ok(()))
        })?;
        Ok(Self { open, stop, thread: Some(thread) })
    }

    /// Stops or goes on forwarding.
    pub(super) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// An error if it has ended by itself.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) { Err(Error::Thread("relay")) } else { Ok(()) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Its end is all that matters here.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, gate: watch::Receiver<bool>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                // An error here is one connection's: its client has given up.
                if let Ok((client, _)) = accepted {
                    connections.spawn(relay(client, target, gate.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(client: TcpStream, target: SocketAddr, mut gate: watch::Receiver<bool>) -> io::Result<()> {
    wait_open(&mut gate).await?;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let (up, down) = (forward(client_reads, server_writes, gate.clone()), forward(server_reads, client_writes, gate));
    tokio::try_join!(up, down).map(drop)
}

/// Copies to the end. It returns only while the gate is open: what closes sockets is then seen no earlier than a packet would be.
async fn forward(from: OwnedReadHalf, to: OwnedWriteHalf, mut gate: watch::Receiver<bool>) -> io::Result<()> {
    let end = copy(from, to, &mut gate).await;
    wait_open(&mut gate).await?;
    end
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, gate: &mut watch::Receiver<bool>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = from.read(&mut buffer).await?;
        wait_open(gate).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..n]).await?;
    }
}

async fn wait_open(gate: &mut watch::Receiver<bool>) -> io::Result<()> {
    gate.wait_for(|open| *open).await.map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{ErrorKind, Read, Write},
        net::TcpStream,
        time::Duration,
    };

    fn loopback() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_cut_stalls_and_loses_nothing() {
        let (front, back) = (loopback(), loopback());
        let address = front.local_addr().unwrap();
        let relay = Relay::start(front, back.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = back.accept().unwrap();
        let mut byte = [0];
        client.write_all(b"1").unwrap();
        server.read_exact(&mut byte).unwrap();

        relay.set_open(false);
        client.write_all(b"2").unwrap();
        drop(client);
        server.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(server.read(&mut byte).unwrap_err().kind(), ErrorKind::WouldBlock);

        relay.set_open(true);
        server.set_read_timeout(None).unwrap();
        let mut rest = String::new();
        server.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "2");
        relay.check().unwrap();
    }
}
