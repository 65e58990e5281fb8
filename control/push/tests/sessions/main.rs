//! A control and gateways in one process, over real sockets and TLS.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

mod rate;
mod sides;

use isthmus_control::LinkEvent;
use isthmus_control_api::{GatewayId, ServicePort, Table};
use isthmus_push::{Incoming, PushKind};
use sides::{Ca, Control, Gateway};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

fn table(version: u64, services: &[&str]) -> Arc<Table> {
    let export = |name: &&str| (ServicePort::tcp(name.parse().unwrap(), 80), Arc::default());
    Arc::new(Table { version, exports: services.iter().map(export).collect(), ..Table::default() })
}

fn many(version: u64, count: usize) -> Arc<Table> {
    let names: Vec<String> = (0..count).map(|n| format!("shop/service-{n}")).collect();
    table(version, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_gateway_gets_the_table_and_each_change_of_it() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 1, many(1, 20_000)).await;
    let mut gateway = Gateway::start(&ca, 1, &control, Default::default());
    gateway.wait(&control.newest()).await;
    let [(PushKind::Snapshot, whole)] = control.pushed()[..] else { panic!("{:?}", control.pushed()) };
    for version in 2..5 {
        control.publish(many(version, 20_000 + version as usize));
        gateway.wait(&control.newest()).await;
    }
    let deltas = &control.pushed()[1..];
    assert!(
        deltas.iter().all(|(kind, bytes)| *kind == PushKind::Delta && *bytes < 300 && *bytes < whole),
        "{deltas:?}"
    );
    control.wait_status(|status| status.gateways.len() == 1 && status.gateways[0].table_version == Some(4)).await;
}

#[tokio::test]
async fn a_control_that_starts_anew_goes_on_where_the_last_one_stopped() {
    let ca = Ca::new("west.demo");
    let first = Control::start(&ca, 1, table(8, &["shop/api", "shop/db"])).await;
    let mut gateway = Gateway::start(&ca, 1, &first, Default::default());
    gateway.wait(&first.newest()).await;
    // It had not written version 8 down, and makes another one of it.
    let address = first.stop().await;
    let second = Control::start_at(&ca, 2, table(7, &["shop/api", "shop/db"]), address).await;
    second.publish(table(8, &["shop/api", "shop/db", "shop/new"]));
    gateway.wait(&second.newest()).await;
    assert!(second.pushed().iter().all(|(kind, _)| *kind == PushKind::Delta), "{:?}", second.pushed());
    // One that was left behind has nothing to say.
    let address = second.stop().await;
    let stale = Control::start_at(&ca, 1, table(100, &[]), address).await;
    gateway
        .wait_status(|status| status.error.as_ref().is_some_and(|why| why.contains("another control is newer")))
        .await;
    assert_eq!(gateway.table().exports.len(), 3);
    drop(stale);
}

#[tokio::test]
async fn a_gateway_starts_with_what_it_has_and_no_control() {
    let ca = Ca::new("west.demo");
    let kept = (table(5, &["shop/api"]), 3);
    let gateway = Gateway::start_alone(&ca, 1, "127.0.0.1:1".parse().unwrap(), kept);
    assert_eq!(gateway.table().exports.len(), 1);
    let mut status = gateway.client_status();
    let status = status.wait_for(|status| status.error.is_some()).await.unwrap().clone();
    assert_eq!((status.attached, status.version, status.term), (false, 5, 3));
}

/// A control that has lost its state: what it makes of nothing is not taken for truth.
#[tokio::test]
async fn a_gateway_keeps_its_table_until_control_knows_what_peers_export() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 4, table(1, &[])).await;
    control.know_east(false);
    let mut gateway = Gateway::start_with(&ca, 1, &control, (table(5, &["shop/api"]), 3));
    gateway.wait_status(|status| status.waits_for.as_deref() == Some("what the linked clusters export")).await;
    assert_eq!((gateway.table().exports.len(), control.pushed().len()), (1, 0));
    // One that has nothing has nothing to lose.
    let mut new = Gateway::start(&ca, 2, &control, Default::default());
    new.wait(&control.newest()).await;
    control.publish(table(2, &["shop/api", "shop/db"]));
    control.know_east(true);
    gateway.wait(&control.newest()).await;
    gateway.wait_status(|status| status.waits_for.is_none()).await;
}

/// Its table says that nothing is exported, as nobody has told it what is.
#[tokio::test]
async fn a_control_that_has_not_seen_its_registry_gives_nobody_a_table() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 4, table(1, &[])).await;
    control.know_own(false);
    let mut known = Gateway::start_with(&ca, 1, &control, (table(5, &["shop/api"]), 3));
    let mut new = Gateway::start(&ca, 2, &control, Default::default());
    for gateway in [&mut known, &mut new] {
        gateway.wait_status(|status| status.waits_for.as_deref().is_some_and(|why| why.contains("registry"))).await;
    }
    assert_eq!((known.table().exports.len(), control.pushed().len()), (1, 0));
    control.publish(table(2, &["shop/api", "shop/db"]));
    control.know_own(true);
    known.wait(&control.newest()).await;
    new.wait(&control.newest()).await;
}

#[tokio::test]
async fn what_a_gateway_refuses_is_told_and_not_sent_again() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 1, table(1, &["shop/api"])).await;
    let mut picky = Gateway::start_that_refuses(&ca, 1, &control, "shop/bad");
    let mut other = Gateway::start(&ca, 2, &control, Default::default());
    picky.wait(&control.newest()).await;
    control.publish(table(2, &["shop/api", "shop/bad"]));
    other.wait(&control.newest()).await;
    let status = control.wait_status(|status| status.gateways.iter().any(|one| one.rejected.is_some())).await;
    let rejected = status.gateways[0].rejected.as_ref().unwrap();
    assert_eq!((rejected.version, rejected.reason.as_str()), (2, "shop/bad is not for me"));
    assert_eq!(picky.table().version, 1);
    control.publish(table(3, &["shop/api", "shop/db"]));
    picky.wait(&control.newest()).await;
    control.wait_status(|status| status.gateways.iter().all(|one| one.rejected.is_none())).await;
    assert_eq!(control.rejections(), 1);
}

/// What a gateway reaches has to count before its table may change; what it brings reaches control, and what control asks for, peers.
#[tokio::test]
async fn links_and_the_exchange_go_through_gateways() {
    let ca = Ca::new("west.demo");
    let mut control = Control::start(&ca, 1, table(1, &["shop/api"])).await;
    let [(one, theirs)] = [(GatewayId(1), GatewayId(77))];
    let east = "east".parse().unwrap();
    let gateway = Gateway::start(&ca, 1, &control, [(east, [theirs].into())].into());
    let LinkEvent::Reached { through, cluster, gateways } = control.event().await else { panic!("not that first") };
    assert_eq!((through, cluster.as_str(), gateways), (one, "east", [theirs].into()));
    let LinkEvent::Counts(_told) = control.event().await else { panic!("not that second") };

    // Control opens one.
    let mut ours = control.open("east", theirs).await.unwrap();
    let mut peer = gateway.opened().await;
    ours.write_all(b"exports").await.unwrap();
    let mut heard = [0; 7];
    peer.read_exact(&mut heard).await.unwrap();
    peer.write_all(b"ack").await.unwrap();
    ours.read_exact(&mut heard[..3]).await.unwrap();
    assert_eq!(&heard, b"ackorts");
    drop(peer);
    assert_eq!(ours.read(&mut heard).await.unwrap(), 0, "the end is carried, too");

    // The peer opens one.
    let (mut peer, theirs_end) = std::os::unix::net::UnixStream::pair().map(|(a, b)| (tokio_stream(a), b)).unwrap();
    theirs_end.set_nonblocking(true).unwrap();
    gateway.incoming(Incoming { cluster: "east".parse().unwrap(), gateway: theirs, stream: theirs_end }).await;
    peer.write_all(b"hello").await.unwrap();
    let LinkEvent::Incoming { through, cluster, gateway: from, mut stream } = control.event().await else {
        panic!("not that")
    };
    assert_eq!((through, cluster.as_str(), from), (one, "east", theirs));
    stream.read_exact(&mut heard[..5]).await.unwrap();
    assert_eq!(&heard[..5], b"hello");

    // It goes, and nothing can be opened through it any more.
    gateway.stop().await;
    control.wait_status(|status| status.gateways.is_empty()).await;
    assert!(control.open("east", theirs).await.is_err());
}

/// What it reached is not taken for lost as long as it may come back; what it says then counts at once.
#[tokio::test]
async fn a_gateway_that_is_back_goes_on_with_what_it_reached() {
    let ca = Ca::new("west.demo");
    let mut control = Control::start(&ca, 1, table(1, &["shop/api"])).await;
    let reaches = |clusters: &[&str]| -> isthmus_push::Reached {
        clusters.iter().map(|cluster| (cluster.parse().unwrap(), [GatewayId(77)].into())).collect()
    };
    let gateway = Gateway::start(&ca, 1, &control, reaches(&["east", "north"]));
    assert_eq!([control.reached().await, control.reached().await], [("east".into(), 1), ("north".into(), 1)]);
    gateway.stop().await;
    let status = control.wait_status(|status| status.gateways.is_empty()).await;
    assert_eq!(status.away.iter().map(|away| away.reached.len()).collect::<Vec<_>>(), [2]);
    let again = Gateway::start(&ca, 1, &control, reaches(&["east"]));
    // Nothing was taken back meanwhile.
    assert_eq!([control.reached().await, control.reached().await], [("east".into(), 1), ("north".into(), 0)]);
    control.wait_status(|status| status.gateways.len() == 1 && status.away.is_empty()).await;
    drop(again);
}

/// Whoever begins a handshake and does not go on with it has no more than its share: the gateway comes from another address.
#[tokio::test]
async fn slow_handshakes_keep_nobody_else_out() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 1, table(1, &["shop/api"])).await;
    let mut slow = Vec::new();
    while control.refused().is_empty() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        slow.push(socket.connect(control.address()).await.unwrap());
        assert!(slow.len() < 1000, "there is no bound");
        tokio::task::yield_now().await;
    }
    let mut gateway = Gateway::start(&ca, 1, &control, Default::default());
    gateway.wait(&control.newest()).await;
    assert!(control.refused().iter().all(|what| *what == isthmus_push::Refused::Handshakes));
}

/// Gateways that have a later table than this control knows of: it is told which term it takes.
#[tokio::test]
async fn a_term_that_nobody_knows_any_more_is_found_with_the_gateways() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 1, table(1, &["shop/api"])).await;
    let mut gateway = Gateway::start_with(&ca, 1, &control, (table(5, &["shop/api", "shop/db"]), 7));
    let mut needed = control.needed();
    needed.wait_for(|needed| *needed == 8).await.unwrap();
    assert_eq!(gateway.table().exports.len(), 2);
    control.lead(Some(8));
    gateway.wait(&control.newest()).await;
    // One that has what was made here needs nothing.
    gateway.stop().await;
    let mut gateway = Gateway::start_with(&ca, 1, &control, (control.newest(), 8));
    gateway.wait_status(|status| status.attached).await;
    assert_eq!(*needed.borrow_and_update(), 8);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_stops_its_writer_and_nobody_else() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 1, table(1, &["shop/api"])).await;
    let theirs = GatewayId(77);
    let mut gateway = Gateway::start(&ca, 1, &control, [("east".parse().unwrap(), [theirs].into())].into());
    control.wait_status(|status| status.gateways.iter().any(|one| !one.reached.is_empty())).await;
    let ours = control.open("east", theirs).await.unwrap();
    let _unread = gateway.opened().await;
    let chunk = vec![7; 64 << 10];
    let mut written = 0;
    // Buffers are finite: at last nothing more is taken.
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), ours.writable()).await {
        written += ours.try_write(&chunk).unwrap_or(0);
        assert!(written < 16 << 20, "somebody takes everything");
    }
    control.publish(table(2, &["shop/api", "shop/db"]));
    gateway.wait(&control.newest()).await;
}

#[tokio::test]
async fn the_same_gateway_by_another_connection_takes_its_own_place() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 1, table(1, &["shop/api"])).await;
    let first = Gateway::start(&ca, 1, &control, Default::default());
    control.wait_status(|status| status.gateways.len() == 1).await;
    let mut second = Gateway::start(&ca, 1, &control, Default::default());
    second.wait(&control.newest()).await;
    first.stop().await;
    second.wait_status(|status| status.attached).await;
    control.wait_status(|status| status.gateways.len() == 1).await;
}

#[tokio::test]
async fn a_control_that_does_not_lead_takes_no_gateways() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 1, table(1, &["shop/api"])).await;
    let mut gateway = Gateway::start(&ca, 1, &control, Default::default());
    gateway.wait(&control.newest()).await;
    control.lead(None);
    gateway.wait_status(|status| !status.attached && status.error.as_deref() == Some("another control leads")).await;
    control.lead(Some(2));
    gateway.wait_status(|status| status.attached && status.term == 2).await;
}

#[tokio::test]
async fn strangers_are_refused() {
    let (west, east) = (Ca::new("west.demo"), Ca::new("east.demo"));
    let control = Control::start(&west, 1, table(1, &["shop/api"])).await;
    for stranger in [
        Gateway::start(&east, 1, &control, Default::default()),
        Gateway::start(&Ca::new("west.demo"), 1, &control, Default::default()),
    ] {
        let mut status = stranger.client_status();
        let status = status.wait_for(|status| status.error.is_some()).await.unwrap().clone();
        let why = status.error.unwrap();
        assert!(why.contains("wrong_trust_domain") || why.contains("unknown_issuer"), "{why}");
    }
    assert!(control.status().gateways.is_empty());
}

/// The CA that both have is replaced: whoever does not come from the new one is let go, though the connection was good.
#[tokio::test]
async fn trust_that_is_withdrawn_ends_the_session() {
    let ca = Ca::new("west.demo");
    let control = Control::start(&ca, 1, table(1, &["shop/api"])).await;
    let mut gateway = Gateway::start(&ca, 1, &control, Default::default());
    gateway.wait(&control.newest()).await;
    control.trust_only(&Ca::new("west.demo"));
    gateway.wait_status(|status| !status.attached).await;
    assert_eq!(gateway.table().exports.len(), 1);
}

fn tokio_stream(stream: std::os::unix::net::UnixStream) -> UnixStream {
    stream.set_nonblocking(true).unwrap();
    UnixStream::from_std(stream).unwrap()
}
