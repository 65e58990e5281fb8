//! East's core at one end of a relay that the test plays, as a hub that may be a liar.

use super::*;
use crate::{
    core::tests::{East, linked},
    metrics::reasons::DialFailure,
    peer::Target,
    tunnel::{
        OpenRequest, Tunnel,
        driver::tests::pair::{self, End, Offer, SETTINGS, Stream, on_a_core, opened, proxy, spawn, until},
        tls::tests::{authority, identity},
    },
};
use isthmus_certs::{AllowedClusters, Authority, HandshakeRefusal, IdentityStore};
use isthmus_control_api::{Link, Table};
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

/// A link with hub, and links with west and alpha that hub relays.
fn table() -> Table {
    let mut table = linked();
    let relayed = Link { relay: Some(name("hub")), ..Link::default() };
    table.links.extend(
        [("west", &relayed), ("alpha", &relayed), ("hub", &Link::default())]
            .map(|(cluster, link)| (name(cluster), link.clone())),
    );
    table
}

/// East, whose hub is the test.
pub(in crate::peer) struct Hub {
    pub(in crate::peer) east: East,
    authority: Authority,
    end: End,
}

impl Hub {
    async fn new() -> Self {
        let [authority, alpha] = ["hub", "alpha"].map(authority);
        let east = East::new();
        east.trust(&[&east.west, &authority, &alpha]);
        east.apply(table());
        let end = east.peer_of(&authority).await;
        Self { east, authority, end }
    }

    /// Has east dial west through here: its attempt, and what comes here.
    async fn asked(&mut self) -> (JoinHandle<Result<(Running, Rc<PeerIdentity>), SetupError>>, UnixStream) {
        let core = self.east.core.clone();
        let dialling = spawn(async move { dial(&core, &name("west"), &name("hub")).await });
        let Offer(request, mut stream) = self.end.offers.recv().await.unwrap();
        assert_eq!(Reserved::parse(&request.service), Some(Reserved::RelayTo(name("west"))));
        stream.accept();
        (dialling, proxy(stream).socket)
    }

    /// A stream that says it comes from a cluster.
    fn from(&self, cluster: &str) -> Stream {
        let service = Reserved::RelayedFrom(name(cluster)).service();
        self.end.tunnel.open(&OpenRequest { service, ..pair::request("hub") }).unwrap()
    }

    fn accepts_as(&self, cluster: &Authority) -> Arc<rustls::ServerConfig> {
        let identity = IdentityStore::new(identity(cluster, &[&self.east.east]));
        tls::server_config(&identity, AllowedClusters::every_trusted(), &[b"isthmus/1"]).unwrap()
    }
}

/// Passes bytes on and keeps a copy, as a hub could.
async fn tap(mut from: ReadHalf<UnixStream>, mut to: WriteHalf<UnixStream>, seen: Rc<RefCell<Vec<u8>>>) {
    let mut bytes = vec![0; 4096];
    while let Ok(n) = from.read(&mut bytes).await {
        seen.borrow_mut().extend_from_slice(&bytes[..n]);
        if n == 0 || to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
}

/// A tunnel from east to west through a hub that listens in: east's hub, west's end, and what was heard.
pub(in crate::peer) async fn tapped() -> (Hub, End, Rc<RefCell<Vec<u8>>>) {
    let mut hub = Hub::new().await;
    let (dialling, socket) = hub.asked().await;
    let (far, west) = UnixStream::pair().unwrap();
    let seen = Rc::new(RefCell::default());
    let (east_reads, east_writes) = tokio::io::split(socket);
    let (west_reads, west_writes) = tokio::io::split(far);
    spawn(tap(east_reads, west_writes, Rc::clone(&seen)));
    spawn(tap(west_reads, east_writes, Rc::clone(&seen)));
    let west = handshake::accept(hub.accepts_as(&hub.east.west), west).await.unwrap();
    let west = pair::start_over(west, Direction::Accepted, "east", SETTINGS);
    let (running, peer) = dialling.await.unwrap().unwrap();
    let core = hub.east.core.clone();
    spawn(async move { running.live(&core, &peer).await });
    west.tunnel_is(TunnelHealth::Live).await;
    until(|| hub.east.core.peers.is_live(&name("west"))).await;
    (hub, west, seen)
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

#[test]
fn a_hub_sees_a_handshake_and_ciphertext() {
    on_a_core(async {
        let (hub, mut west, seen) = tapped().await;
        assert!(!hub.east.core.peers.is_direct(&name("west")));
        let (mut ours, _) = hub.east.core.peers.open(&Target::any(&name("west")), &pair::request("east")).unwrap();
        let Offer(asked, mut theirs) = west.offers.recv().await.unwrap();
        assert_eq!(asked, pair::request("east"));
        theirs.accept();
        opened(&mut ours).await.unwrap();
        let (mut ours, mut theirs) = (proxy(ours), proxy(theirs));
        let (secret, mut read) = (b"attack at dawn".repeat(100), vec![0; 1400]);
        ours.socket.write_all(&secret).await.unwrap();
        theirs.socket.read_exact(&mut read).await.unwrap();
        theirs.socket.write_all(&read).await.unwrap();
        ours.socket.read_exact(&mut read).await.unwrap();
        assert_eq!(read, secret);
        let seen = seen.borrow();
        assert!(seen.len() > 2 * secret.len(), "the hub carried it");
        for secret in [&b"attack"[..], b"dawn", b"shop", b"api", b"spiffe"] {
            assert!(!contains(&seen, secret), "{}", String::from_utf8_lossy(secret));
        }
        // Who is dialled, TLS itself says (SNI); so it does to everybody on a direct path.
        assert!(contains(&seen, b"west.demo"));
    });
}

/// Polls it once.
pub(in crate::peer) async fn is_pending(future: Pin<&mut impl Future>) -> bool {
    let mut future = Some(future);
    poll_fn(|cx| Poll::Ready(future.take().is_some_and(|future| future.poll(cx).is_pending()))).await
}

/// One over HTTP/2 is live as it comes, so nothing else tells of it.
#[test]
fn that_there_is_a_tunnel_is_told_at_once() {
    on_a_core(async {
        let mut hub = Hub::new().await;
        let (dialling, socket) = hub.asked().await;
        let west = handshake::accept(hub.accepts_as(&hub.east.west), socket).await.unwrap();
        let (running, peer) = dialling.await.unwrap().unwrap();
        let core = hub.east.core.clone();
        let mut told = pin!(core.changed.notified());
        assert!(is_pending(told.as_mut()).await);
        let mut life = pin!(running.live(&core, &peer));
        assert!(is_pending(life.as_mut()).await);
        assert!(!is_pending(told).await);
        drop(west);
    });
}

#[test]
fn nothing_is_asked_of_a_relay_that_is_linked_over_http2() {
    on_a_core(async {
        let hub = Hub::new().await;
        let mut over_h2 = table();
        over_h2.links.insert(name("hub"), Link { transport: TransportChoice::H2, ..Link::default() });
        hub.east.apply(over_h2);
        let (core, relay, state) = (&hub.east.core, name("hub"), RefCell::new(State::new(Instant::now())));
        let mut waiting = pin!(reachable(core, &relay, &state));
        assert!(is_pending(waiting.as_mut()).await);
        let said = state.borrow().link.state().last_error().map(str::to_owned);
        assert_eq!(said, Some(format!("relay hub: {ONE_WAY}")));
        hub.east.apply(table());
        waiting.await;
    });
}

#[test]
fn a_hub_that_answers_in_the_peers_place_is_refused() {
    on_a_core(async {
        let mut hub = Hub::new().await;
        let (dialling, socket) = hub.asked().await;
        let config = hub.accepts_as(&hub.authority);
        let answered = handshake::accept(config, socket).await;
        let Err(refused) = dialling.await.unwrap() else { panic!("the hub is not west") };
        assert_eq!(refused.refusal(), Some(HandshakeRefusal::WrongTrustDomain), "{refused}");
        assert_eq!(refused.dial_failure(), DialFailure::Handshake);
        drop(answered);
        assert!(!hub.east.core.peers.is_live(&name("west")));
    });
}

#[test]
fn a_hub_that_dials_in_a_clusters_name_is_refused() {
    on_a_core(async {
        let hub = Hub::new().await;
        let mut stream = hub.from("alpha");
        opened(&mut stream).await.unwrap();
        let dialled = hub.east.handshake_of(&hub.authority, proxy(stream).socket).await;
        let end = pair::start_over(dialled, Direction::Dialled, "east", SETTINGS);
        let _ = end.end.await.unwrap();
        assert!(hub.east.counted("isthmus_handshakes_refused_total{reason=\"bad_svid\"} 1"));
        assert!(!hub.east.core.peers.is_live(&name("alpha")));
        assert_eq!(hub.east.core.peers.report().len(), 1, "hub's own tunnel");
    });
}

#[test]
fn a_way_that_no_link_asks_for_is_refused() {
    on_a_core(async {
        let hub = Hub::new().await;
        // West does not dial: east does. Hub relays nothing to itself. Nobody knows zulu.
        for from in ["west", "hub", "zulu", "east"] {
            let refusal = opened(&mut hub.from(from)).await.unwrap_err();
            assert_eq!(refusal.to_string(), format!("denied: east has no link with {from} that hub is to relay"));
        }
    });
}

#[test]
fn what_came_through_a_relay_is_not_relayed_again() {
    on_a_core(async {
        let (_hub, west, _) = tapped().await;
        for what in [Reserved::RelayTo(name("hub")), Reserved::RelayedFrom(name("alpha"))] {
            let request = OpenRequest { service: what.service(), ..pair::request("west") };
            let refusal = opened(&mut west.tunnel.open(&request).unwrap()).await.unwrap_err();
            assert_eq!(refusal.to_string(), "denied: what came through a relay is not relayed again");
        }
    });
}

#[test]
fn a_relayed_tunnel_ends_with_its_link_and_with_its_relay() {
    on_a_core(async {
        for by_link in [true, false] {
            let (hub, west, _) = tapped().await;
            if by_link {
                let mut table = table();
                table.links.get_mut(&name("west")).unwrap().relay = None;
                hub.east.apply(table);
            } else {
                hub.end.tunnel.close();
            }
            let _ = west.end.await.unwrap();
            until(|| !hub.east.core.peers.is_live(&name("west"))).await;
        }
    });
}

#[test]
fn a_relayed_tunnel_drains_with_its_relay() {
    on_a_core(async {
        let (hub, mut west, _) = tapped().await;
        let (mut ours, _) = hub.east.core.peers.open(&Target::any(&name("west")), &pair::request("east")).unwrap();
        let Offer(_, mut theirs) = west.offers.recv().await.unwrap();
        hub.end.tunnel.drain();
        west.tunnel_is(TunnelHealth::Draining).await;
        theirs.accept();
        opened(&mut ours).await.unwrap();
    });
}
