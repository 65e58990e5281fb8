//! Two imports of one service, used in turn.

use super::*;
use crate::{
    balance::{Tried, client::Draw},
    core::tests::LISTEN,
    stream::egress::chosen::with_shares,
};
use isthmus_control_api::{Affinity, Listen, Weights};

/// Where the other import listens.
const OTHER: &str = "192.0.2.2:80";

/// Sets up the import at [`LISTEN`], and another one of the same service at [`OTHER`].
fn both(mut table: Table, one: impl FnOnce(&mut Import), other: impl FnOnce(&mut Import)) -> Table {
    let import = Import::clone(&table.imports[&LISTEN.parse().unwrap()]);
    let (mut first, mut second) = (import.clone(), import);
    one(&mut first);
    other(&mut second);
    table.imports =
        [(LISTEN, first), (OTHER, second)].map(|(listen, import)| (listen.parse().unwrap(), Arc::new(import))).into();
    table
}

fn weights(west: u32, north: u32) -> Option<Weights> {
    let clusters = [("west", west), ("north", north)].map(|(name, share)| (name.parse().unwrap(), share));
    Some(Weights { local: 0, clusters: clusters.into(), others: true })
}

/// Hands the core a client of the import at `listen`: the client's own end.
async fn client_at(east: &East, listen: &str) -> TcpStream {
    let (client, accepted) = crate::tunnel::tls::tests::connection().await;
    let from = accepted.peer_addr().ok();
    let socket = accepted.into_std().unwrap().into();
    let listen = listen.parse().unwrap();
    start(&east.core, Client { socket, listen, from, may_have_joined: false, moved: false, greeting: None });
    client
}

/// Of twenty streams of each, an import of four to one and one of one to four.
#[test]
fn imports_that_are_used_in_turn_keep_each_its_own_shares() {
    on_a_core(async {
        let (east, north) = (East::new(), authority("north"));
        east.trust(&[&east.west, &north]);
        let mut table = importing(&["west", "north"]);
        table.links.insert("north".parse().unwrap(), Link::default());
        east.apply(both(table, |one| one.weights = weights(4, 1), |other| other.weights = weights(1, 4)));
        let (mut west, mut north) = (east.peer(SETTINGS).await, east.peer_of(&north).await);
        let (mut counts, mut held) = ([[0_u32; 2]; 2], vec![]);
        for n in 0..40 {
            let client = client_at(&east, [LISTEN, OTHER][n % 2]).await;
            let (cluster, Offer(_, mut stream)) = tokio::select! {
                offer = west.offers.recv() => (0, offer.unwrap()),
                offer = north.offers.recv() => (1, offer.unwrap()),
            };
            stream.accept();
            counts[n % 2][cluster] += 1;
            held.push((client, stream));
        }
        let off = [(0, 0, 16), (0, 1, 4), (1, 0, 4), (1, 1, 16)]
            .map(|(import, cluster, due): (usize, usize, u32)| counts[import][cluster].abs_diff(due));
        assert!(off.iter().all(|&off| off <= 2), "{counts:?}");
    });
}

/// All endpoints but one fail as often as it takes.
fn fail_all_but(east: &East, well: SocketAddr) {
    let (mut balancers, now) = (east.core.balancers.borrow_mut(), Instant::now());
    let balancer = balancers.get_mut(&service()).unwrap();
    for _ in 0..ServicePolicy::default().outliers.failures {
        let mut tried = Tried::default();
        while let Some(pick) = balancer.pick(now, Draw::Random(0), &tried) {
            tried.insert(&pick);
            if pick.address == well {
                balancer.released(pick, now);
            } else {
                balancer.failed(pick, now);
            }
        }
    }
    assert_eq!(balancer.standing(now).healthy, 1);
}

/// The import that prefers this cluster sends half of its streams away, for its endpoints' health. The other one has all of its own stay.
#[test]
fn what_one_import_sends_away_is_no_matter_of_the_other() {
    on_a_core(async {
        let east = East::new();
        let (address, endpoint) = idle().await;
        // Whoever listened there has gone.
        let endpoints = [address, idle().await.0, idle().await.0, idle().await.0];
        let here = Weights { local: 1, clusters: Default::default(), others: true };
        east.apply(both(
            exporting(importing(&["west"]), &endpoints),
            |one| one.affinity = Affinity::Local,
            |other| other.weights = Some(here),
        ));
        let mut west = east.peer(SETTINGS).await;
        fail_all_but(&east, address);
        let (mut held, mut accepted) = (vec![], vec![]);
        for (n, listen) in [LISTEN, OTHER].into_iter().cycle().take(40).enumerate() {
            held.push(client_at(&east, listen).await);
            tokio::select! {
                served = endpoint.accept() => accepted.push((Some(served.unwrap()), None)),
                offer = west.offers.recv() => {
                    assert_eq!(listen, LISTEN, "stream {n} has left");
                    let Offer(_, mut stream) = offer.unwrap();
                    stream.accept();
                    accepted.push((None, Some(stream)));
                }
            }
        }
        let part = |listen: &str| with_shares(&east.core, &listen.parse().unwrap(), |shares| shares.local_part());
        assert!(part(LISTEN) < 0.6, "{}", part(LISTEN));
        assert!(part(OTHER) > 0.99, "{}", part(OTHER));
    });
}

#[test]
fn what_is_kept_of_an_import_goes_with_it() {
    on_a_core(async {
        let east = East::new();
        let kept = || {
            let mut kept: Vec<_> = east.core.shares.borrow().keys().map(Listen::to_string).collect();
            kept.sort();
            kept
        };
        east.apply(both(importing(&["west"]), |_| (), |_| ()));
        [LISTEN, OTHER].into_iter().for_each(|listen| with_shares(&east.core, &listen.parse().unwrap(), |_| ()));
        east.apply(both(importing(&["west"]), |_| (), |other| other.sticky = true));
        assert_eq!(kept(), [LISTEN, OTHER]);
        east.apply(importing(&["west"]));
        assert_eq!(kept(), [LISTEN]);
        let mut table = importing(&["west"]);
        for import in table.imports.values_mut() {
            Arc::make_mut(import).service.port = 81;
        }
        east.apply(table);
        assert!(kept().is_empty(), "another service is there now");
    });
}
