//! Strangers who come with an invitation: told apart by what they ask for (ALPN) in their first message, and handed over before
//! anything of theirs is believed. What becomes of them is not the data plane's business.

use rustls::server::Acceptor;
use std::{io, net::SocketAddr};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc},
};

/// Their protocol's name (ALPN). They offer no other.
pub const JOIN: &[u8] = b"isthmus-join/1";

/// The longest first message that is looked at: with a post-quantum key share they have two thousand bytes.
const LONGEST: usize = 16 * 1024;

/// A connection of somebody who wants to join.
#[derive(Debug)]
pub struct IncomingJoin {
    /// The connection. Non-blocking.
    pub socket: std::net::TcpStream,
    /// What came of it already.
    pub received: Vec<u8>,
    /// Who, for logs.
    pub from: SocketAddr,
    /// Held as long as its handshake lasts: one of those that may be under way.
    pub permit: OwnedSemaphorePermit,
}

/// Hands them over. Those that are not taken in time are refused.
#[derive(Debug)]
pub(crate) struct Joins(pub(crate) mpsc::Sender<IncomingJoin>);

/// A connection's first bytes.
pub(super) enum First {
    /// Somebody who wants to join.
    Join(Vec<u8>),
    /// Everybody else, whatever they sent.
    Other(Vec<u8>),
}

/// Reads a connection's first message. What is wrong with it, the handshake will say.
pub(super) async fn first(socket: &mut TcpStream) -> io::Result<First> {
    let (mut acceptor, mut received) = (Acceptor::default(), Vec::with_capacity(4096));
    loop {
        let before = received.len();
        if socket.read_buf(&mut received).await? == 0 || received.len() > LONGEST {
            return Ok(First::Other(received));
        }
        let mut new = &received[before..];
        while !new.is_empty() {
            if !acceptor.read_tls(&mut new).is_ok_and(|n| n > 0) {
                return Ok(First::Other(received));
            }
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let joins = accepted.client_hello().alpn().is_some_and(|names| names.eq([JOIN]));
                return Ok(if joins { First::Join(received) } else { First::Other(received) });
            }
            Err(_) => return Ok(First::Other(received)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_certs::tls::provider;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
    use std::sync::Arc;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    /// A client's first message that offers these protocols.
    fn hello(alpn: &[&[u8]]) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(provider().clone()).with_safe_default_protocol_versions();
        let mut config = config.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("east.demo").unwrap();
        let mut bytes = Vec::new();
        ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
        bytes
    }

    /// What is made of `bytes`, sent in pieces, and then the end.
    async fn told(bytes: &[u8]) -> First {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let send = async {
            let mut socket = TcpStream::connect(address).await.unwrap();
            for piece in bytes.chunks(500) {
                // It may have heard enough.
                let _ = socket.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            socket
        };
        let receive = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            first(&mut socket).await.unwrap()
        };
        // The sender ends when it has sent all; what it holds open is closed then.
        let (_, first) = tokio::join!(async { drop(send.await) }, receive);
        first
    }

    #[tokio::test]
    async fn who_offers_to_join_and_nothing_else_is_told_apart() {
        let join = hello(&[JOIN]);
        assert!(matches!(told(&join).await, First::Join(received) if received == join));
        for alpn in [&[][..], &[&b"isthmus/1"[..]], &[b"isthmus/1", b"h2"], &[JOIN, b"h2"]] {
            let other = hello(alpn);
            assert!(matches!(told(&other).await, First::Other(received) if received == other), "{alpn:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_first_message_is_left_to_the_handshake() {
        let hello = hello(&[JOIN]);
        let (cut, noise) = (&hello[..hello.len() - 1], vec![0x16; 64 * 1024]);
        for bytes in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", cut, &noise] {
            let First::Other(received) = told(bytes).await else { panic!("{} bytes", bytes.len()) };
            assert!(bytes.starts_with(&received));
        }
    }
}
