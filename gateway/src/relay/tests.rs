//! East's core as the relay, between west and north.

use super::*;
use crate::{
    core::tests::{East, linked},
    tunnel::{
        Tunnel,
        driver::tests::pair::{self, End, Offer, Stream, on_a_core, opened, proxy, until},
        tls::tests::authority,
    },
};
use isthmus_control_api::{Link, Relaying, Table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

/// A table that has links with west, north and south, and relays between these.
fn relaying(allow: &[&str], tunnels: usize) -> Table {
    let mut table = linked();
    table.links.extend(["north", "south"].map(|cluster| (name(cluster), Link::default())));
    table.relay =
        Relaying { allow: allow.iter().map(|cluster| name(cluster)).collect(), tunnels, bytes_per_second: None };
    table
}

/// The relay, and west's and north's ends of their tunnels to it.
async fn between(table: Table) -> (East, End, End) {
    let (mut east, north) = (East::new(), authority("north"));
    east.read_mail();
    east.trust(&[&east.west, &north]);
    east.apply(table);
    let (west, north) = (east.peer(pair::SETTINGS).await, east.peer_of(&north).await);
    (east, west, north)
}

/// West's stream by which it asks for a way.
fn ask_for(west: &End, what: &Reserved) -> Stream {
    let request = OpenRequest { service: what.service(), ..pair::request("west") };
    west.tunnel.open(&request).unwrap()
}

async fn refused(west: &End, to: &str) -> (RefusalReason, String) {
    let refusal = opened(&mut ask_for(west, &Reserved::RelayTo(name(to)))).await.unwrap_err();
    (refusal.reason, refusal.message)
}

/// West's and north's ends of a way from west.
async fn way(west: &End, north: &mut End) -> (Stream, Stream) {
    let mut ours = ask_for(west, &Reserved::RelayTo(name("north")));
    let Offer(asked, mut theirs) = north.offers.recv().await.unwrap();
    assert_eq!(Reserved::parse(&asked.service), Some(Reserved::RelayedFrom(name("west"))));
    theirs.accept();
    opened(&mut ours).await.unwrap();
    (ours, theirs)
}

#[test]
fn bytes_pass_both_ways_and_are_counted() {
    on_a_core(async {
        let (east, west, mut north) = between(relaying(&["west", "north"], 1)).await;
        let (ours, theirs) = way(&west, &mut north).await;
        assert!(east.counted("isthmus_relayed_tunnels{from=\"north\",to=\"west\"} 1"));
        let (mut ours, mut theirs) = (proxy(ours), proxy(theirs));
        let mut read = [0; 5];
        ours.socket.write_all(b"there").await.unwrap();
        theirs.socket.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"there");
        theirs.socket.write_all(b"back!").await.unwrap();
        ours.socket.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"back!");
        drop(ours.socket);
        assert_eq!(theirs.socket.read(&mut read).await.unwrap(), 0);
        drop(theirs.socket);
        until(|| east.counted("isthmus_relayed_tunnels{from=\"north\",to=\"west\"} 0")).await;
        assert!(east.counted("isthmus_relayed_bytes_total{from=\"north\",to=\"west\"} 10"));
    });
}

#[test]
fn nothing_is_relayed_that_the_configuration_does_not_allow() {
    on_a_core(async {
        let (east, west, _north) = between(relaying(&[], 9)).await;
        let denied = |to: &str| (RefusalReason::Denied, format!("east does not relay between west and {to}"));
        assert_eq!(refused(&west, "north").await, denied("north"));
        east.apply(relaying(&["west", "east", "nobody", "south"], 9));
        for to in ["north", "nobody", "east", "west"] {
            assert_eq!(refused(&west, to).await, denied(to));
        }
        let away = "east has no tunnel to south".to_owned();
        assert_eq!(refused(&west, "south").await, (RefusalReason::NoEndpoint, away));
    });
}

#[test]
fn beyond_the_bound_it_is_refused_and_counted_until_there_is_room() {
    on_a_core(async {
        let (east, west, mut north) = between(relaying(&["west", "north"], 1)).await;
        let first = way(&west, &mut north).await;
        let full = "east relays 1 tunnels between west and north, and no more".to_owned();
        assert_eq!(refused(&west, "north").await, (RefusalReason::Limit, full));
        assert!(east.counted("isthmus_refusals_total{bound=\"relayed_tunnels\"} 1"));
        drop(first);
        until(|| east.counted("isthmus_relayed_tunnels{from=\"north\",to=\"west\"} 0")).await;
        way(&west, &mut north).await;
    });
}

#[test]
fn what_the_far_end_says_is_passed_on() {
    on_a_core(async {
        let (_east, west, mut north) = between(relaying(&["west", "north"], 1)).await;
        let mut ours = ask_for(&west, &Reserved::RelayTo(name("north")));
        let Offer(_, mut theirs) = north.offers.recv().await.unwrap();
        theirs.refuse(&Refusal { reason: RefusalReason::Denied, message: "not from you".into(), retry: false });
        let refusal = opened(&mut ours).await.unwrap_err();
        assert_eq!(refusal.to_string(), "denied: north through east: not from you");
    });
}

#[test]
fn a_way_ends_when_it_is_not_allowed_any_more() {
    on_a_core(async {
        let (east, west, mut north) = between(relaying(&["west", "north"], 1)).await;
        let (ours, theirs) = way(&west, &mut north).await;
        let (ours, theirs) = (proxy(ours), proxy(theirs));
        east.apply(relaying(&["west", "south"], 1));
        assert!(ours.copied.await.unwrap().is_err());
        assert!(theirs.copied.await.unwrap().is_err());
    });
}

/// Sixteen times what may go at once: what is left over has to wait.
#[test]
fn bytes_wait_for_the_rate() {
    on_a_core(async {
        let mut table = relaying(&["west", "north"], 1);
        table.relay.bytes_per_second = Some(1 << 20);
        let (_east, west, mut north) = between(table).await;
        let (ours, theirs) = way(&west, &mut north).await;
        let (mut ours, mut theirs) = (proxy(ours), proxy(theirs));
        let begun = tokio::time::Instant::now();
        let (sent, mut received) = (vec![7; 2 << 20], vec![0; 2 << 20]);
        let (sending, receiving) = tokio::join!(ours.socket.write_all(&sent), theirs.socket.read_exact(&mut received));
        sending.unwrap();
        receiving.unwrap();
        // What the last piece costs is paid by what would come after it.
        assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    });
}
