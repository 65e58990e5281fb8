//! Our record layer against rustls', and against itself, over real sockets.

use super::{record::ContentType, stream::TlsStream, *};
use isthmus_certs::{AllowedClusters, Authority, Identity, IdentityStore, TrustAnchors, TrustDomain, tls as configs};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const ALPN: &[&[u8]] = &[b"isthmus/1"];

/// Two linked clusters: the configuration that west dials east with, and the one that east accepts with.
pub(crate) struct Configs {
    pub(crate) client: Arc<rustls::ClientConfig>,
    pub(crate) server: Arc<rustls::ServerConfig>,
    pub(crate) name: rustls::pki_types::ServerName<'static>,
}

impl Configs {
    pub(crate) fn new() -> Self {
        let [west, east] = ["west", "east"].map(authority);
        let (west_id, east_id) =
            (IdentityStore::new(identity(&west, &[&east])), IdentityStore::new(identity(&east, &[&west])));
        let east = "east".parse().unwrap();
        Self {
            client: configs::client_config(&west_id, &east, ALPN).unwrap(),
            server: configs::server_config(&east_id, AllowedClusters::every_trusted(), ALPN).unwrap(),
            name: configs::server_name(&west_id, &east).unwrap(),
        }
    }

    /// Both ends of ours: the dialler's, the acceptor's.
    pub(crate) async fn pair(&self) -> (Handshaken, Handshaken) {
        let (dialler, acceptor) = connection().await;
        let dialled = handshake::dial(self.client.clone(), self.name.clone(), dialler);
        tokio::try_join!(dialled, handshake::accept(self.server.clone(), acceptor)).unwrap()
    }
}

/// The CA of a cluster in the clusterset demo.
pub(crate) fn authority(cluster: &str) -> Authority {
    let domain = TrustDomain::new(cluster.parse().unwrap(), "demo".parse().unwrap());
    Authority::create(domain, SystemTime::now()).unwrap()
}

/// A gateway's identity, with the bundles of the peers that it trusts.
pub(crate) fn identity(own: &Authority, peers: &[&Authority]) -> Identity {
    let svid = own.issue(&own.domain().gateway(), Duration::from_hours(1), SystemTime::now()).unwrap();
    let bundle = |peer: &&Authority| TrustAnchors::new(peer.domain().clone(), vec![peer.certificate().clone()]);
    Identity::new(svid, peers.iter().map(|peer| bundle(peer).unwrap())).unwrap()
}

/// A TCP connection: the end that dialled it, and the other.
pub(crate) async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialling = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::try_join!(dialling, listener.accept()).unwrap();
    (dialled, accepted.0)
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// A connection of ours with rustls at its other end.
async fn with_rustls(ours_dials: bool, update_after: u64) -> (TlsStream, tokio_rustls::TlsStream<TcpStream>) {
    let configs = Configs::new();
    let (dialler, acceptor) = connection().await;
    let (mut ours, theirs) = if ours_dials {
        let theirs = tokio_rustls::TlsAcceptor::from(configs.server).accept(acceptor);
        let ours = handshake::dial(configs.client, configs.name, dialler);
        let (ours, theirs) = tokio::join!(ours, theirs);
        (ours.unwrap(), theirs.unwrap().into())
    } else {
        let theirs = tokio_rustls::TlsConnector::from(configs.client).connect(configs.name, dialler);
        let (ours, theirs) = tokio::join!(handshake::accept(configs.server, acceptor), theirs);
        (ours.unwrap(), theirs.unwrap().into())
    };
    assert_eq!(ours.alpn, ALPN[0]);
    assert_eq!(ours.certificates.len(), 1);
    ours.keys = ours.keys.updating_after(update_after);
    (TlsStream::new(ours), theirs)
}

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// Sends a message through a connection and compares what comes out.
async fn pass(from: &mut (impl AsyncWrite + Unpin), to: &mut (impl AsyncRead + Unpin), length: usize) {
    let (sent, mut received) = (message(length), vec![0; length]);
    let sending = async {
        from.write_all(&sent).await.unwrap();
        from.flush().await.unwrap();
    };
    let (_, read) = tokio::join!(sending, to.read_exact(&mut received));
    read.unwrap();
    assert!(sent == received, "{length} bytes differ");
}

#[test]
fn messages_of_any_length_pass_to_and_from_rustls() {
    run(async {
        for ours_dials in [true, false] {
            let (mut ours, mut theirs) = with_rustls(ours_dials, u64::MAX).await;
            for length in [1, 2, 100, 16_383, 16_384, 16_385, 65_536, 100_000, 1 << 20] {
                pass(&mut ours, &mut theirs, length).await;
                pass(&mut theirs, &mut ours, length).await;
            }
        }
    });
}

#[test]
fn keys_are_updated_by_us_and_by_rustls() {
    run(async {
        for ours_dials in [true, false] {
            let (mut ours, mut theirs) = with_rustls(ours_dials, 3).await;
            for round in 0..20 {
                pass(&mut ours, &mut theirs, 200_000).await;
                pass(&mut theirs, &mut ours, 200_000).await;
                if round % 3 == 0 {
                    // It asks for an update of ours, too, and reads nothing before it has answered.
                    match &mut theirs {
                        tokio_rustls::TlsStream::Client(client) => client.get_mut().1.refresh_traffic_keys().unwrap(),
                        tokio_rustls::TlsStream::Server(server) => server.get_mut().1.refresh_traffic_keys().unwrap(),
                    }
                }
            }
        }
    });
}

#[test]
fn close_notify_ends_a_connection_each_way() {
    run(async {
        for ours_dials in [true, false] {
            let (mut ours, mut theirs) = with_rustls(ours_dials, u64::MAX).await;
            pass(&mut ours, &mut theirs, 10).await;
            ours.shutdown().await.unwrap();
            // rustls takes the end of TCP without close_notify for an error.
            assert_eq!(theirs.read(&mut [0; 10]).await.unwrap(), 0);
            pass(&mut theirs, &mut ours, 10).await;
            theirs.shutdown().await.unwrap();
            assert_eq!(ours.read(&mut [0; 10]).await.unwrap(), 0);
        }
    });
}

/// Seals one record of `content`, alone.
fn seal(keys: &mut TrafficKeys, content: ContentType, payload: &[u8]) -> Vec<u8> {
    let mut buffer = RecordBuffer::default();
    buffer.push(content, payload);
    let end = keys.seal(&mut buffer, 0, usize::MAX / 2).unwrap();
    buffer.slice(0, end).to_vec()
}

#[test]
fn messages_behind_the_handshake_are_dealt_with_or_refused() {
    run(async {
        let configs = Configs::new();
        let cases: &[(ContentType, &[u8], &str)] = &[
            (ContentType::Alert, &[1, 0], "closed"),
            (ContentType::Alert, &[2, 0], "closed"),
            (ContentType::Alert, &[2, 49], "access_denied"),
            (ContentType::Alert, &[1, 90], "90"),
            (ContentType::Alert, &[1], "bad header or content"),
            (ContentType::Alert, &[], "bad header or content"),
            (ContentType::Handshake, &[], "out of place"),
            (ContentType::Handshake, &[24, 0, 0], "out of place"),
            (ContentType::Handshake, &[24, 0, 0, 1, 2], "out of place"),
            (ContentType::Handshake, &[24, 0, 0, 2, 0, 0], "out of place"),
            (ContentType::Handshake, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], "out of place"),
            (ContentType::Handshake, &[20, 0, 0, 1, 0], "out of place"),
            (ContentType::Handshake, &[1, 0, 0, 0], "out of place"),
            (ContentType::Handshake, &[4, 0, 0, 9, 0], "out of place"),
            (ContentType::Data, &[], "data"),
        ];
        for &(content, payload, expected) in cases {
            let (mut west, mut east) = configs.pair().await;
            let mut record = if content == ContentType::Handshake {
                // `seal` would follow a KeyUpdate, which this may not be.
                west.keys.seal_raw(content, payload)
            } else {
                seal(&mut west.keys, content, payload)
            };
            let found = match east.keys.open(&mut record) {
                Ok(Opened::Closed) => "closed".to_owned(),
                Ok(Opened::Handled) => "handled".to_owned(),
                Ok(Opened::Data(_)) => "data".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expected), "{content:?} {payload:?}: {found}");
        }
    });
}

#[test]
fn tickets_are_for_diallers() {
    run(async {
        let (mut west, mut east) = Configs::new().pair().await;
        let ticket = [4, 0, 0, 2, 7, 7];
        let mut to_west = east.keys.seal_raw(ContentType::Handshake, &ticket);
        assert_eq!(west.keys.open(&mut to_west).unwrap(), Opened::Handled);
        let mut to_east = west.keys.seal_raw(ContentType::Handshake, &ticket);
        assert!(matches!(east.keys.open(&mut to_east), Err(TlsError::Unexpected)));
    });
}

#[test]
fn an_update_that_is_asked_for_is_made_once() {
    run(async {
        let (mut west, mut east) = Configs::new().pair().await;
        for _ in 0..5 {
            let mut asks = seal(&mut west.keys, ContentType::Handshake, &[24, 0, 0, 1, 1]);
            assert_eq!(east.keys.open(&mut asks).unwrap(), Opened::Handled);
        }
        let mut buffer = RecordBuffer::default();
        for _ in 0..3 {
            east.keys.queue_update(&mut buffer);
        }
        let end = east.keys.seal(&mut buffer, 0, usize::MAX / 2).unwrap();
        assert_eq!(record::whole_record(buffer.slice(0, end)), Ok(Some(end)), "one record");
        assert_eq!(west.keys.open(&mut buffer.slice(0, end).to_vec()).unwrap(), Opened::Handled);
        // And both go on with the new keys.
        let mut data = seal(&mut east.keys, ContentType::Data, b"on");
        assert_eq!(west.keys.open(&mut data).unwrap(), Opened::Data(&mut b"on"[..].to_vec()));
        let mut data = seal(&mut west.keys, ContentType::Data, b"and on");
        assert_eq!(east.keys.open(&mut data).unwrap(), Opened::Data(&mut b"and on"[..].to_vec()));
    });
}
