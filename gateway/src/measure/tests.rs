use super::*;
use crate::{
    core::tests::East,
    probe,
    status::measure::{Allowance, End, Way},
    stream::Incoming,
    tunnel::{
        Ingress as _, OpenRequest, StreamError, Tunnel as _,
        driver::tests::pair::{self, Offer, SETTINGS, Stream, identity, on_a_core, opened, spawn, until},
    },
};
use std::sync::atomic::Ordering::Relaxed;
use tokio::task::JoinHandle;

const ID: u64 = 0xfeed;

/// What a core is asked, with so much time for the load.
fn query(way: Way, streams: usize, time: Duration, bytes: u64) -> MeasureQuery {
    let begins = Instant::now() + Duration::from_millis(100);
    let allowance = Arc::new(Allowance::new(bytes));
    MeasureQuery { cluster: "west".parse().unwrap(), id: ID, way, streams, begins, ends: begins + time, allowance }
}

/// Has the core measure.
fn measure(core: &Rc<Core>, query: MeasureQuery) -> (JoinHandle<()>, oneshot::Receiver<MeasureAnswer>) {
    let (to, answer) = oneshot::channel();
    let core = core.clone();
    (spawn(async move { start(&core, query, to).await }), answer)
}

/// Serves what west is asked as east's own core serves its peers.
fn serve_all(core: &Rc<Core>, mut west: pair::End) -> JoinHandle<()> {
    let core = core.clone();
    spawn(async move {
        while let Some(Offer(asked, stream)) = west.offers.recv().await {
            match Reserved::parse(&asked.service) {
                Some(Reserved::Measure(way, id)) => {
                    drop(spawn(serve(core.clone(), identity("west"), (way, id), stream)));
                }
                Some(Reserved::Echo) => drop(spawn(probe::serve(probe::Place::take(&core), stream))),
                other => panic!("asked for {other:?}"),
            }
        }
    })
}

fn request(way: Way, id: u64) -> OpenRequest {
    OpenRequest { service: Reserved::Measure(way, id).service(), ..pair::request("west") }
}

async fn read(stream: &mut Stream) -> Result<usize, StreamError> {
    poll_fn(|cx| stream.poll_read(cx, &mut [0; 4096])).await
}

/// Gives back what comes first on the next stream of round trips, and waits for more; `None` if it has ended before.
async fn trip(west: &mut pair::End) -> Option<()> {
    let Offer(asked, mut stream) = west.offers.recv().await?;
    assert_eq!(Reserved::parse(&asked.service), Some(Reserved::Echo));
    stream.accept();
    for _ in 0..2 {
        let mut room = [0; 8];
        let n = poll_fn(|cx| stream.poll_read(cx, &mut room)).await.ok()?;
        poll_fn(|cx| stream.poll_write(cx, &room[..n])).await.ok()?;
    }
    Some(())
}

/// A stream to east that was accepted.
async fn open(west: &pair::End, way: Way, id: u64) -> Result<Stream, Refusal> {
    let mut stream = west.tunnel.open(&request(way, id)).unwrap();
    opened(&mut stream).await.map(|()| stream)
}

#[test]
fn bytes_are_moved_until_there_were_enough() {
    on_a_core(async {
        for way in [Way::Down, Way::Up] {
            let east = East::new();
            let served = serve_all(&east.core, east.peer(SETTINGS).await);
            let bytes = 4 << 20;
            // It is not the time that ends it.
            let (_task, answer) = measure(&east.core, query(way, 3, Duration::from_secs(600), bytes));
            let found = answer.await.unwrap().unwrap();
            let arrived: u64 = found.streams.iter().map(|stream| stream.arrived.bytes).sum();
            assert_eq!(found.streams.len(), 3);
            let ends: Vec<_> = found.streams.iter().map(|stream| stream.end.clone()).collect();
            assert!(arrived >= bytes && ends.iter().all(|end| *end == End::Bytes), "{way}: {arrived} {ends:?}");
            // Streams that move bytes at the same moment take a little more.
            assert!(arrived <= bytes + 3 * PIECE as u64, "{way}: {arrived}");
            assert!(
                east.core.common.measures.enter(&"north".parse().unwrap(), 1).is_ok(),
                "the peer is free for another"
            );
            assert!(!found.idle.is_empty(), "{way}");
            served.abort();
        }
    });
}

#[test]
fn the_time_ends_it_and_round_trips_go_on_under_the_load() {
    on_a_core(async {
        for way in [Way::Down, Way::Up] {
            let east = East::new();
            let served = serve_all(&east.core, east.peer(SETTINGS).await);
            // Too short for what a peer moves at most.
            let query = query(way, 2, Duration::from_secs(1), u64::MAX);
            let ends = query.ends;
            let (_task, answer) = measure(&east.core, query);
            let found = answer.await.unwrap().unwrap();
            assert!(Instant::now() >= ends, "{way}: {:?}", found.streams);
            for stream in &found.streams {
                let (from, to) = stream.arrived.between.unwrap();
                assert!(stream.end == End::Time && stream.arrived.bytes > 0 && from < to, "{way}: {stream:?}");
            }
            assert!(!found.loaded.is_empty(), "{way}");
            assert!(
                east.core.common.measures.enter(&"north".parse().unwrap(), 1).is_ok(),
                "the peer is free for another"
            );
            served.abort();
        }
    });
}

#[test]
fn a_round_trip_that_is_under_way_at_the_end_counts_with_what_it_has_waited() {
    on_a_core(async {
        let east = East::new();
        let mut west = east.peer(SETTINGS).await;
        let begins = Instant::now() + Duration::from_millis(300);
        let asked = MeasureQuery { begins, ..query(Way::Down, 1, Duration::from_secs(600), 1000) };
        let (_task, answer) = measure(&east.core, asked);
        let Offer(_, mut load) = west.offers.recv().await.unwrap();
        load.accept();
        let mut without_load = Vec::new();
        let (_trip, asked_at) = loop {
            let Offer(_, mut stream) = west.offers.recv().await.unwrap();
            if Instant::now() < begins {
                without_load.push(stream);
                continue;
            }
            stream.accept();
            if read(&mut stream).await.is_ok_and(|n| n > 0) {
                break (stream, Instant::now());
            }
        };
        // Longer than it took to open its stream.
        tokio::time::sleep(asked_at - begins + Duration::from_millis(1)).await;
        let waited = asked_at.elapsed();
        assert_eq!(poll_fn(|cx| load.poll_write(cx, &[0; 1000])).await.unwrap(), 1000);
        load.finish();
        let found = answer.await.unwrap().unwrap();
        assert!(found.idle.is_empty(), "no stream was taken");
        assert!(found.loaded.len() == 1 && found.loaded[0] >= waited, "{:?}, {waited:?}", found.loaded);
    });
}

#[test]
fn a_peer_cannot_count_what_was_not_sent() {
    on_a_core(async {
        let east = East::new();
        let mut west = east.peer(SETTINGS).await;
        let (_task, answer) = measure(&east.core, query(Way::Up, 1, Duration::from_secs(600), 1000));
        let Offer(asked, mut stream) = west.offers.recv().await.unwrap();
        assert_eq!(Reserved::parse(&asked.service), Some(Reserved::Measure(Way::Up, ID)));
        stream.accept();
        while read(&mut stream).await.unwrap() > 0 {}
        let mut report = [0xff; REPORT_BYTES].as_slice();
        while !report.is_empty() {
            let sent = poll_fn(|cx| stream.poll_write(cx, report)).await.unwrap();
            report = &report[sent..];
        }
        stream.finish();
        let found = answer.await.unwrap().unwrap();
        assert_eq!(found.streams[0].arrived.bytes, 1000);
    });
}

#[test]
fn one_measurement_is_served_at_a_time_and_others_are_counted() {
    on_a_core(async {
        let east = East::new();
        let west = east.peer(SETTINGS).await;
        let first = open(&west, Way::Down, 1).await.unwrap();
        let second = open(&west, Way::Up, 1).await.unwrap();
        let refused = open(&west, Way::Down, 2).await.err().unwrap();
        assert_eq!(refused.reason, RefusalReason::Limit);
        assert!(refused.message.contains("another measurement is under way"), "{refused}");
        assert!(east.counted("isthmus_refusals_total{bound=\"measurements\"} 1"));
        drop((first, second));
        until(|| east.core.common.measures.enter(&"west".parse().unwrap(), 2).is_ok()).await;
    });
}

#[test]
fn a_gateway_that_does_not_want_it_says_so() {
    on_a_core(async {
        let east = East::with(|config| config.measurements = false);
        let west = east.peer(SETTINGS).await;
        let refused = open(&west, Way::Down, 1).await.err().unwrap();
        assert_eq!(refused.reason, RefusalReason::Denied);
        assert!(refused.message.contains("measurements: off"), "{refused}");
        assert!(east.counted("isthmus_refusals_total{bound=\"measurements\"} 1"));
    });
}

#[test]
fn nothing_is_measured_over_a_relay() {
    on_a_core(async {
        let east = East::new();
        let mut west = east.peer(SETTINGS).await;
        let (_task, answer) = measure(&east.core, query(Way::Down, 1, Duration::from_secs(600), 1));
        let Offer(asked, stream) = west.offers.recv().await.unwrap();
        let relay = Some("hub".parse().unwrap());
        let incoming = Incoming { core: Rc::downgrade(&east.core), relay, observed: None };
        incoming.incoming(&identity("west"), asked, stream);
        let NotMeasured::Peer(refused) = answer.await.unwrap().unwrap_err() else { panic!("it is west's word") };
        assert!(refused.reason == RefusalReason::Denied && refused.message.contains("relayed"), "{refused}");
    });
}

#[test]
fn a_peer_sends_no_more_than_it_says() {
    on_a_core(async {
        let east = East::new();
        let west = east.peer(SETTINGS).await;
        let mut stream = open(&west, Way::Down, 1).await.unwrap();
        let place = east.core.common.measures.enter(&"west".parse().unwrap(), 1).unwrap();
        place.turn.moved.store(turns::MOST_BYTES - 100_000, Relaxed);
        poll_fn(|cx| stream.poll_write(cx, &[0])).await.unwrap();
        let mut bytes = 0;
        loop {
            match read(&mut stream).await.unwrap() {
                0 => break,
                n => bytes += n,
            }
        }
        assert_eq!(bytes, 100_000);
    });
}

#[test]
fn nobody_is_sent_anything_who_has_not_asked() {
    on_a_core(async {
        let east = East::new();
        let west = east.peer(SETTINGS).await;
        let mut stream = open(&west, Way::Down, 1).await.unwrap();
        stream.finish();
        // It ends without a byte: as reset, since the asker's end was not what was expected.
        assert!(!matches!(read(&mut stream).await, Ok(n) if n > 0));
    });
}

#[test]
fn it_stops_when_nobody_waits_for_it() {
    on_a_core(async {
        let east = East::new();
        let mut west = east.peer(SETTINGS).await;
        let (task, answer) = measure(&east.core, query(Way::Down, 1, Duration::from_secs(600), u64::MAX));
        let Offer(_, mut stream) = west.offers.recv().await.unwrap();
        stream.accept();
        drop(answer);
        task.await.unwrap();
        let left = loop {
            match read(&mut stream).await {
                Ok(n) if n > 0 => {}
                other => break other,
            }
        };
        assert!(matches!(left, Err(StreamError::Reset)), "{left:?}");
    });
}

#[test]
fn a_drain_ends_it_on_both_sides() {
    on_a_core(async {
        let east = East::new();
        let mut west = east.peer(SETTINGS).await;
        let mut served = open(&west, Way::Down, 1).await.unwrap();
        let (_task, answer) = measure(&east.core, query(Way::Down, 1, Duration::from_secs(600), u64::MAX));
        let Offer(_, mut stream) = west.offers.recv().await.unwrap();
        stream.accept();
        east.core.common.draining.cancel();
        let answer = answer.await.unwrap().unwrap_err();
        assert!(
            matches!(&answer, NotMeasured::Here(refusal) if refusal.reason == RefusalReason::Draining),
            "{answer:?}"
        );
        assert!(matches!(read(&mut served).await, Err(StreamError::Reset)));
        let refused = open(&west, Way::Down, 1).await.err().unwrap();
        assert!(refused.reason == RefusalReason::Draining && refused.message == DRAINS, "{refused}");
    });
}

#[test]
fn a_tunnel_that_ends_is_told_with_what_had_arrived() {
    on_a_core(async {
        let east = East::new();
        let mut west = east.peer(SETTINGS).await;
        let (_task, answer) = measure(&east.core, query(Way::Down, 1, Duration::from_secs(600), u64::MAX));
        let Offer(_, mut stream) = west.offers.recv().await.unwrap();
        stream.accept();
        read(&mut stream).await.unwrap();
        let sent = poll_fn(|cx| stream.poll_write(cx, &[0; 1000])).await.unwrap();
        assert_eq!(sent, 1000);
        // Behind a round trip the bytes are there, too.
        while trip(&mut west).await.is_none() {}
        west.tunnel.close();
        let found = answer.await.unwrap().unwrap();
        let stream = &found.streams[0];
        assert_eq!((stream.arrived.bytes, &stream.end), (1000, &End::Failed("the tunnel ended".into())));
    });
}

#[test]
fn a_core_without_a_tunnel_says_so() {
    on_a_core(async {
        let east = East::new();
        let (_task, answer) = measure(&east.core, query(Way::Down, 1, Duration::from_secs(1), 1));
        let answer = answer.await.unwrap().unwrap_err();
        assert!(
            matches!(&answer, NotMeasured::Here(refusal) if refusal.reason == RefusalReason::TunnelLost),
            "{answer:?}"
        );
    });
}
