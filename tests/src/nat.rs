//! A NAT for UDP that can forget what it knows, as real ones do.

use crate::Netns;
use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::Arc,
};
use tokio::{net::UdpSocket, runtime::Handle, sync::Notify, task::JoinSet};

/// Forwards datagrams from an address in its namespace to a target, from a port of its own for each client. Dropping it ends it.
#[derive(Debug)]
pub struct Nat {
    forget: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl Nat {
    /// Starts one in `netns`, between `outside` and `target`.
    ///
    /// # Panics
    /// If the address cannot be had.
    pub fn start(netns: &Arc<Netns>, tasks: &Handle, outside: SocketAddr, target: SocketAddr) -> Self {
        let _inside = tasks.enter();
        let socket = Arc::new(bind(netns, outside));
        let forget = Arc::new(Notify::new());
        let (netns, forgets) = (Arc::clone(netns), Arc::clone(&forget));
        let mut owner = JoinSet::new();
        owner.spawn(async move {
            let (mut clients, mut replies) = (HashMap::<SocketAddr, Arc<UdpSocket>>::new(), JoinSet::new());
            let mut bytes = vec![0; 65_536];
            loop {
                tokio::select! {
                    received = socket.recv_from(&mut bytes) => {
                        // An unreachable client's ICMP message ends nothing.
                        let Ok((n, client)) = received else { continue };
                        let port = clients.entry(client).or_insert_with(|| {
                            let port = Arc::new(bind(&netns, SocketAddr::from(([0, 0, 0, 0], 0))));
                            replies.spawn(reply(Arc::clone(&socket), Arc::clone(&port), client));
                            port
                        });
                        let _ = port.send_to(&bytes[..n], target).await;
                    }
                    () = forgets.notified() => {
                        clients.clear();
                        replies.shutdown().await;
                    }
                }
            }
        });
        Self { forget, tasks: owner }
    }

    /// Forgets every client: each gets another port with its next datagram, and what is on its way back is lost.
    pub fn forget(&self) {
        self.forget.notify_one();
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

async fn reply(outside: Arc<UdpSocket>, port: Arc<UdpSocket>, client: SocketAddr) {
    let mut bytes = vec![0; 65_536];
    loop {
        if let Ok((n, _)) = port.recv_from(&mut bytes).await {
            let _ = outside.send_to(&bytes[..n], client).await;
        }
    }
}

fn bind(netns: &Netns, address: SocketAddr) -> UdpSocket {
    let bound = netns.run(move || {
        let socket = StdSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        std::io::Result::Ok(socket)
    });
    let registered = bound.and_then(UdpSocket::from_std);
    registered.unwrap_or_else(|e| panic!("a NAT on {address}: {e}"))
}
