//! Streams that share a rate.

use super::*;
use crate::{
    close::Closed,
    core::tests::{East, local, read_all, reset, service},
    limit::Comer,
    meter::StreamMeter,
    metrics::streams::Side,
    stream::{copy, local as here},
    tunnel::driver::tests::pair::{Stream, on_a_core, pair, spawn, stream, until},
};
use isthmus_control_api::{Limits, ServiceLimits, ServicePolicy};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

fn rate(bytes_per_second: u64) -> Arc<ServicePolicy> {
    let all = Limits { bytes_per_second: Some(bytes_per_second), ..Limits::default() };
    let limits = ServiceLimits { all, ..ServiceLimits::default() };
    Arc::new(ServicePolicy { limits, ..ServicePolicy::default() })
}

/// Has a stream let in by a policy, and taken.
fn begin(meter: &mut StreamMeter<'_>, policy: &Arc<ServicePolicy>) {
    meter.admit(Side::Egress, policy, Comer::default()).unwrap();
    meter.connected();
}

/// A stream within a cluster: its client, its endpoint, and how it ends.
async fn paced(
    east: &East,
    policy: &Arc<ServicePolicy>,
    early: &'static [u8],
) -> (TcpStream, TcpStream, JoinHandle<Closed>) {
    let ((near, client), (far, endpoint)) = (local().await, local().await);
    let (core, policy) = (east.core.clone(), policy.clone());
    let end = spawn(async move {
        let mut meter = StreamMeter::new(&core, Side::Egress, service());
        begin(&mut meter, &policy);
        let early = Early { bytes: early.into(), ..Early::default() };
        let closed = here::copy(&core, (&near, &far), early, &mut meter).await;
        meter.close(closed);
        closed
    });
    (client, endpoint, end)
}

/// A stream through a tunnel that is copied at this end: the local socket's far end, the peer's end, and how it ends.
async fn tunnelled(policy: Arc<ServicePolicy>) -> (TcpStream, Stream, JoinHandle<Closed>) {
    let (west, mut east) = pair().await;
    let (mut ours, theirs) = stream(&west, &mut east).await;
    let (socket, far) = local().await;
    let end = spawn(async move {
        let home = East::new();
        let mut meter = StreamMeter::new(&home.core, Side::Egress, service());
        begin(&mut meter, &policy);
        let closed = copy::copy(&mut *ours, &socket, None, &mut meter).await;
        meter.close(closed);
        drop((west, east));
        closed
    });
    (far, theirs, end)
}

/// Bytes that pass one after the other, as many as there are.
const MANY: usize = 1 << 20;

#[test]
fn those_that_share_a_rate_take_turns() {
    on_a_core(async {
        let (east, policy) = (East::new(), rate(512 * 1024));
        let (mut sinks, mut ends) = (vec![], vec![]);
        for _ in 0..8 {
            let (mut client, endpoint, end) = paced(&east, &policy, b"").await;
            spawn(async move { client.write_all(&vec![7; MANY]).await });
            sinks.push((endpoint, 0));
            ends.push(end);
        }
        let mut room = vec![0; MANY];
        until(|| {
            for (endpoint, had) in &mut sinks {
                *had += endpoint.try_read(&mut room).unwrap_or(0);
            }
            sinks.iter().map(|(_, had)| had).sum::<usize>() >= MANY
        })
        .await;
        let had: Vec<_> = sinks.iter().map(|&(_, had)| had).collect();
        let (least, most) = (had.iter().min().unwrap(), had.iter().max().unwrap());
        // Who came first may have had all that may move at once; a turn is of a portion, which one has had already and another has not.
        assert!(most - least <= 512 * 1024 / 10 + 2 * 16 * 1024, "{had:?}");
    });
}

#[test]
fn every_byte_arrives_in_order_and_so_do_both_ends() {
    on_a_core(async {
        let (east, policy) = (East::new(), rate(4 << 20));
        let (mut client, mut endpoint, end) = paced(&east, &policy, b"first").await;
        let bytes: Vec<u8> = (0..MANY).map(|n| (n % 251) as u8).collect();
        let sent = bytes.clone();
        let client = spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            read_all(&mut client).await
        });
        let (heard, ended) = read_all(&mut endpoint).await;
        ended.unwrap();
        assert!(heard.strip_prefix(b"first").is_some_and(|rest| rest == bytes), "{} bytes", heard.len());
        endpoint.write_all(b"answer").await.unwrap();
        drop(endpoint);
        let (answer, ended) = client.await.unwrap();
        assert_eq!((&answer[..], ended.is_ok()), (&b"answer"[..], true));
        assert_eq!(end.await.unwrap(), Closed::Fin);
    });
}

/// Who comes with much before anybody knew of a rate does not get around it.
#[test]
fn what_was_said_early_takes_its_turn() {
    on_a_core(async {
        let east = East::new();
        let begun = Instant::now();
        let (_client, mut endpoint, _end) = paced(&east, &rate(1000), &[7; 1000]).await;
        endpoint.read_exact(&mut [0; 1000]).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(850), "{:?}", begun.elapsed());
    });
}

/// A thousand seconds' worth: nobody reads either end meanwhile.
const LONG: usize = 16 * 1024;

#[test]
fn a_reset_is_noticed_while_a_turn_is_waited_for() {
    on_a_core(async {
        let east = East::new();
        for by_client in [true, false] {
            let policy = rate(16);
            let (mut client, mut endpoint, end) = paced(&east, &policy, &[7; LONG]).await;
            // The other way waits as well, behind it.
            endpoint.write_all(&[7; LONG]).await.unwrap();
            client.write_all(b"more").await.unwrap();
            until(|| !end.is_finished()).await;
            let (one, mut other) = if by_client { (client, endpoint) } else { (endpoint, client) };
            reset(one);
            assert_eq!(end.await.unwrap(), Closed::ResetLocal);
            read_all(&mut other).await.1.unwrap_err();
        }
    });
}

#[test]
fn a_reset_of_the_peer_is_noticed_while_a_turn_is_waited_for() {
    on_a_core(async {
        let (mut client, mut theirs, end) = tunnelled(rate(16)).await;
        let (mut cx, bytes) = (Context::from_waker(std::task::Waker::noop()), [7; LONG]);
        client.write_all(&bytes).await.unwrap();
        assert!(theirs.poll_write(&mut cx, &bytes).is_ready());
        // The first portions are of one byte: they have passed both ways once one of them is here.
        client.read_exact(&mut [0]).await.unwrap();
        theirs.reset();
        assert_eq!(end.await.unwrap(), Closed::ResetPeer);
        read_all(&mut client).await.1.unwrap_err();
    });
}

/// A stream that waits where others wait as well, and the narrower line comes first.
#[test]
fn who_waits_for_his_own_rate_takes_no_place_of_others() {
    on_a_core(async {
        let per_source = Limits { bytes_per_second: Some(10), ..Limits::default() };
        let all = Limits { bytes_per_second: Some(100_000), ..Limits::default() };
        let limits = ServiceLimits { all, per_source, ..ServiceLimits::default() };
        let policy = Arc::new(ServicePolicy { limits, ..ServicePolicy::default() });
        let (east, mut cx) = (East::new(), Context::from_waker(std::task::Waker::noop()));
        let turn = |source: u8, bytes: u64| {
            let mut meter = StreamMeter::new(&east.core, Side::Egress, service());
            let comer = Comer { source: Some([10, 0, 0, source].into()), ..Comer::default() };
            meter.admit(Side::Egress, &policy, comer).unwrap();
            meter.connected();
            let turn = meter.held.pace().unwrap().turn(bytes);
            (meter, turn)
        };
        let mut greedy: Vec<_> = (0..10).map(|_| turn(1, 1)).collect();
        let waits: Vec<_> = greedy.iter_mut().map(|(_, turn)| turn.as_mut().poll(&mut cx).is_pending()).collect();
        assert_eq!((waits[0], waits[1..].iter().all(|waits| *waits)), (false, true), "one byte is there");
        let (_meter, mut modest) = turn(2, 1);
        assert!(modest.as_mut().poll(&mut cx).is_ready(), "nobody is before it");
    });
}

/// Whoever comes, says much and goes takes nobody's time.
#[test]
fn the_places_of_those_that_have_gone_are_given_back() {
    on_a_core(async {
        let (east, policy) = (East::new(), rate(1000));
        let mut meter = StreamMeter::new(&east.core, Side::Egress, service());
        begin(&mut meter, &policy);
        let (pace, mut cx) = (meter.held.pace().unwrap(), Context::from_waker(std::task::Waker::noop()));
        // Half of what may move at once.
        assert!(pace.turn(50).as_mut().poll(&mut cx).is_ready());
        let mut all: Vec<_> = (0..50).map(|_| pace.turn(100)).collect();
        assert!(all.iter_mut().all(|turn| turn.as_mut().poll(&mut cx).is_pending()));
        assert!(pace.turn(1).as_mut().poll(&mut cx).is_pending(), "it is behind them");
        drop(all);
        assert!(pace.turn(1).as_mut().poll(&mut cx).is_ready());
    });
}

/// What waits and never goes on has not moved.
#[test]
fn bytes_are_counted_when_they_go_on() {
    on_a_core(async {
        let east = East::new();
        let (client, _endpoint, end) = paced(&east, &rate(100), &[7; 10_000]).await;
        let moved = || east.sum("isthmus_stream_bytes_total");
        until(|| moved() > 0).await;
        reset(client);
        end.await.unwrap();
        assert!(moved() < 1000, "{}", moved());
    });
}
