//! Who stands between two clusters: relays that listen, record, and pretend; and the conversation's bytes, said by hand.

use super::clusters::{Cluster, Inviting};
use isthmus_certs::introduce;
use isthmus_control_api::PeerAddress;
use isthmus_link::{
    ALPN, Refusal, Token,
    proof::{LABEL, Role, prove},
};
use prost::Message;
use rustls_pki_types::ServerName;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

fn endpoint(address: SocketAddr) -> PeerAddress {
    PeerAddress { host: address.ip().to_string(), port: address.port() }
}

async fn listen() -> (TcpListener, PeerAddress) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = endpoint(listener.local_addr().unwrap());
    (listener, endpoint)
}

fn acceptor(shown: &Cluster) -> TlsAcceptor {
    introduce::server_config(&shown.store(), &shown.bundle(), ALPN).unwrap().into()
}

async fn dial(to: SocketAddr, pinned: &Cluster, as_whom: &Cluster) -> TlsStream<TcpStream> {
    let config = introduce::client_config(&as_whom.store(), &pinned.domain, pinned.ca(), ALPN).unwrap();
    let socket = TcpStream::connect(to).await.unwrap();
    TlsConnector::from(config).connect(ServerName::try_from("east.demo").unwrap(), socket).await.unwrap()
}

/// Ends TLS on both sides, with its own papers, and hands on what is inside.
pub(crate) struct TerminatingRelay {
    pub(crate) endpoint: PeerAddress,
    _tasks: JoinSet<()>,
}

impl TerminatingRelay {
    pub(crate) async fn start(shown: &Cluster, as_whom: &Cluster, to: &Inviting) -> Self {
        let (listener, endpoint) = listen().await;
        let (acceptor, as_whom, inviter, address) = (acceptor(shown), as_whom.clone(), to.cluster.clone(), to.address);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut victim) = acceptor.accept(socket).await else { continue };
                let mut inviter = dial(address, &inviter, &as_whom).await;
                let _ = copy_bidirectional(&mut victim, &mut inviter).await;
            }
        });
        Self { endpoint, _tasks: tasks }
    }
}

/// Hands bytes on, and keeps those of the dialler.
pub(crate) struct Recorder {
    pub(crate) endpoint: PeerAddress,
    recorded: Arc<Mutex<Vec<u8>>>,
    _tasks: JoinSet<()>,
}

impl Recorder {
    pub(crate) async fn start(to: &Inviting) -> Self {
        let (listener, endpoint) = listen().await;
        let (address, recorded) = (to.address, Arc::<Mutex<Vec<u8>>>::default());
        let keep = recorded.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut dialler, _) = listener.accept().await.unwrap();
            let mut inviter = TcpStream::connect(address).await.unwrap();
            let ((mut from_dialler, mut to_dialler), (mut from_inviter, mut to_inviter)) =
                (dialler.split(), inviter.split());
            let there = async {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = from_dialler.read(&mut buffer).await {
                    keep.lock().unwrap().extend_from_slice(&buffer[..n]);
                    if to_inviter.write_all(&buffer[..n]).await.is_err() {
                        break;
                    }
                }
                let _ = to_inviter.shutdown().await;
            };
            let back = tokio::io::copy(&mut from_inviter, &mut to_dialler);
            let _ = tokio::join!(there, back);
        });
        Self { endpoint, recorded, _tasks: tasks }
    }

    pub(crate) fn recorded(&self) -> Vec<u8> {
        self.recorded.lock().unwrap().clone()
    }
}

/// Sends recorded bytes again, and reads what comes to its end.
pub(crate) async fn replay(to: &Inviting, recorded: &[u8]) {
    let mut socket = TcpStream::connect(to.address).await.unwrap();
    let _ = socket.write_all(recorded).await;
    let _ = socket.shutdown().await;
    let _ = socket.read_to_end(&mut Vec::new()).await;
}

/// Has the right CA and welcomes everybody, without knowing the secret.
pub(crate) struct Careless {
    pub(crate) endpoint: PeerAddress,
    _tasks: JoinSet<()>,
}

impl Careless {
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        let (listener, endpoint) = listen().await;
        let (acceptor, bundle) = (acceptor(cluster), cluster.bundle());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(socket).await.unwrap();
            let hello = receive(&mut stream).await.unwrap();
            // The joiner's own proof, shown back to it, is the best guess there is.
            let proof = hello.hello.unwrap().proof;
            let bundle = bundle.certificates().map(|certificate| certificate.to_vec()).collect();
            let welcome = Frame { welcome: Some(Welcome { proof, bundle }), ..Frame::default() };
            send(&mut stream, &welcome).await;
            let _ = stream.read(&mut [0]).await;
        });
        Self { endpoint, _tasks: tasks }
    }
}

/// Says hello with any proof; the refusal that comes.
pub(crate) async fn hello_with(to: &Inviting, from: &Cluster, token: &Token, proof: &[u8]) -> Option<Refusal> {
    let stream = dial(to.address, &to.cluster, from).await;
    refused(stream, token, proof).await
}

/// Says hello with the proof that only the inviter should give.
pub(crate) async fn hello_as_inviter(to: &Inviting, from: &Cluster, token: &Token) -> Option<Refusal> {
    let stream = dial(to.address, &to.cluster, from).await;
    let exporter = stream.get_ref().1.export_keying_material([0; 32], LABEL, None).unwrap();
    let proof = prove(&token.secret, Role::Inviter, &exporter);
    refused(stream, token, &proof).await
}

async fn refused(mut stream: TlsStream<TcpStream>, token: &Token, proof: &[u8]) -> Option<Refusal> {
    let hello = Hello { version: 1, invite: token.id.0.to_vec(), proof: proof.to_vec() };
    send(&mut stream, &Frame { hello: Some(hello), ..Frame::default() }).await;
    let refused = receive(&mut stream).await?.refused?;
    // 1 is the number of a wrong proof.
    (refused.reason == 1).then_some(Refusal::WrongProof)
}

/// Sends bytes inside TLS, and ends.
pub(crate) async fn say(to: &Inviting, from: &Cluster, bytes: &[u8]) {
    let mut stream = dial(to.address, &to.cluster, from).await;
    stream.write_all(bytes).await.unwrap();
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), frame: &Frame) {
    let bytes = frame.encode_to_vec();
    to.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes()).await.unwrap();
    to.write_all(&bytes).await.unwrap();
    to.flush().await.unwrap();
}

async fn receive(from: &mut (impl AsyncReadExt + Unpin)) -> Option<Frame> {
    let length = from.read_u32().await.ok()?;
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await.ok()?;
    Frame::decode(bytes.as_slice()).ok()
}

/// The messages as another implementation would write them: a oneof is no more than optional fields.
#[derive(Clone, PartialEq, Message)]
struct Frame {
    #[prost(message, optional, tag = "1")]
    hello: Option<Hello>,
    #[prost(message, optional, tag = "2")]
    welcome: Option<Welcome>,
    #[prost(message, optional, tag = "5")]
    refused: Option<Refused>,
}

#[derive(Clone, PartialEq, Message)]
struct Hello {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    invite: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    proof: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Welcome {
    #[prost(bytes = "vec", tag = "1")]
    proof: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    bundle: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Refused {
    #[prost(uint32, tag = "1")]
    reason: u32,
}
