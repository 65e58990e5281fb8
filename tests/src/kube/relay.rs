//! A way into a namespace: what connects to it outside is connected with an address inside.

use crate::netns::Netns;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Handle,
    task::{AbortHandle, JoinSet, spawn_blocking},
};

/// A listener on this machine's loopback. Dropping it closes it and all its connections.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    task: AbortHandle,
}

impl Relay {
    pub(super) fn start(netns: &Arc<Netns>, inside: SocketAddr, tasks: &Handle) -> Self {
        let _entered = tasks.enter();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let listener = listener.unwrap_or_else(|e| panic!("a relay into {}: {e}", netns.name()));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("a relay into {}: {e}", netns.name()));
        let netns = Arc::clone(netns);
        let task = tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((outside, _)) = listener.accept().await {
                connections.spawn(join(outside, Arc::clone(&netns), inside));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, task: task.abort_handle() }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Copies until either side has ended. Nobody listening inside: the connection outside is closed at once.
async fn join(mut outside: TcpStream, netns: Arc<Netns>, inside: SocketAddr) {
    let connected = spawn_blocking(move || {
        let stream = netns.connect(inside)?;
        stream.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(stream)
    });
    if let Ok(Ok(stream)) = connected.await
        && let Ok(mut stream) = TcpStream::from_std(stream)
    {
        let _ = copy_bidirectional(&mut outside, &mut stream).await;
    }
}
