//! A path against what it promises.

use super::*;
use crate::impairments::Mtu;
use proptest::prelude::*;
use std::net::Ipv4Addr;

const MS: Duration = Duration::from_millis(1);

fn header(protocol: u8, ports: Option<[u16; 2]>, length: usize) -> Header {
    let (source, destination) = (Ipv4Addr::new(192, 0, 2, 2).into(), Ipv4Addr::new(203, 0, 113, 2).into());
    Header { source, destination, protocol, ports, length }
}

/// Sends a packet of TCP that begins with its number.
fn send(path: &mut Path, now: Instant, number: u32, length: usize) -> Verdict {
    let mut packet = vec![0; length.max(4)];
    packet[..4].copy_from_slice(&number.to_be_bytes());
    path.admit(now, &header(6, None, packet.len()), packet)
}

/// Everything that leaves, when, with its number and length.
fn drain(path: &mut Path) -> Vec<(Instant, u32, u64)> {
    let mut left = Vec::new();
    while let Some(at) = path.next_departure() {
        let packet = path.depart(at).unwrap();
        left.push((at, u32::from_be_bytes(*packet.first_chunk().unwrap()), packet.len() as u64));
    }
    left
}

fn path(spec: &str) -> Path {
    Path::new(spec.parse().unwrap(), 1)
}

#[test]
fn half_a_round_trip_and_no_earlier() {
    let (mut path, now) = (path("50ms"), Instant::now());
    assert_eq!(send(&mut path, now, 1, 100), Verdict::Taken);
    assert_eq!(path.next_departure(), Some(now + 25 * MS));
    assert!(path.depart(now + 25 * MS - Duration::from_nanos(1)).is_none());
    assert!(path.depart(now + 26 * MS).is_some());
    let counters = path.counters();
    assert_eq!((counters.packets, counters.bytes, counters.late, counters.latest), (1, 100, MS, MS));
}

#[test]
fn a_rate_is_a_line_with_a_queue_that_drops_its_tail() {
    // 1,000 bytes take 8 ms of 1 Mbit/s; behind the one that is sent, three more fit.
    let (mut path, now) = (path("0ms,1mbit,queue=4000"), Instant::now());
    let verdicts: Vec<_> = (0..6).map(|n| send(&mut path, now, n, 1000)).collect();
    assert_eq!(verdicts[..4], [Verdict::Taken; 4]);
    assert_eq!((&verdicts[4..], path.counters().overflowed), (&[Verdict::Dropped; 2][..], 2));
    let left: Vec<_> = drain(&mut path).into_iter().map(|(at, n, _)| (at - now, n)).collect();
    assert_eq!(left, [(8 * MS, 0), (16 * MS, 1), (24 * MS, 2), (32 * MS, 3)]);
    assert_eq!(send(&mut path, now + 32 * MS, 7, 1000), Verdict::Taken);
}

#[test]
fn an_idle_line_takes_a_packet_that_is_larger_than_its_queue() {
    let (mut path, now) = (path("0ms,1mbit,queue=100"), Instant::now());
    assert_eq!(send(&mut path, now, 1, 1000), Verdict::Taken);
    assert_eq!(send(&mut path, now, 2, 10), Verdict::Dropped);
}

#[test]
fn what_waits_keeps_its_place_when_the_rate_changes() {
    let (mut path, now) = (path("0ms,1mbit"), Instant::now());
    send(&mut path, now, 1, 1000);
    path.set(now, "0ms,2mbit".parse().unwrap());
    send(&mut path, now, 2, 1000);
    // What is under way leaves as it would have; behind its 1,000 bytes, the second is sent at the new rate.
    assert_eq!(drain(&mut path), [(now + 8 * MS, 1, 1000), (now + 8 * MS, 2, 1000)]);
    path.set(now, "10ms".parse().unwrap());
    send(&mut path, now + 20 * MS, 3, 1000);
    assert_eq!(drain(&mut path), [(now + 25 * MS, 3, 1000)]);
}

#[test]
fn what_is_too_large_is_dropped_with_or_without_a_word() {
    let (mut honest, mut silent, now) = (path("0ms,mtu=1400"), path("0ms,silent-mtu=1400"), Instant::now());
    assert_eq!(send(&mut honest, now, 1, 1400), Verdict::Taken);
    assert_eq!(send(&mut honest, now, 2, 1401), Verdict::TooBig(1400));
    assert_eq!(send(&mut silent, now, 3, 1401), Verdict::Dropped);
    assert_eq!((honest.counters().too_big, silent.counters().too_big), (1, 1));
    assert_eq!(honest.impairments().mtu, Some(Mtu { bytes: 1400, silent: false }));
}

#[test]
fn udp_is_blocked_all_of_it_or_by_port() {
    let now = Instant::now();
    let dropped = |spec: &str, protocol, ports| {
        path(spec).admit(now, &header(protocol, ports, 100), vec![0; 100]) == Verdict::Dropped
    };
    for ports in [Some([15008, 5]), Some([5, 15008])] {
        assert!(dropped("0ms,noudp", 17, ports) && dropped("0ms,noudp=15008", 17, ports));
        assert!(!dropped("0ms,noudp=53", 17, ports));
    }
    assert!(!dropped("0ms,noudp", 6, None) && dropped("0ms,noudp", 17, None) && !dropped("0ms,noudp=53", 17, None));
}

#[test]
fn a_black_hole_swallows_everything_and_what_is_under_way_arrives() {
    let (mut path, now) = (path("50ms"), Instant::now());
    send(&mut path, now, 1, 100);
    path.set(now, "50ms,blackhole".parse().unwrap());
    assert_eq!(send(&mut path, now, 2, 100), Verdict::Dropped);
    assert_eq!((drain(&mut path).len(), path.counters().black_holed), (1, 1));
}

#[test]
fn what_is_under_way_is_bounded_without_a_rate_too() {
    let (mut path, now) = (path("60s"), Instant::now());
    let taken = (0..2000).filter(|n| send(&mut path, now, *n, 60_000) == Verdict::Taken).count();
    assert_eq!(taken as u64, IN_FLIGHT / 60_000);
    assert_eq!(path.counters().overflowed, 2000 - taken as u64);
}

#[test]
fn what_is_held_back_is_overtaken_and_nothing_else_is() {
    let (mut path, now) = (path("10ms,jitter=3ms,reorder=5%"), Instant::now());
    for n in 0..10_000 {
        send(&mut path, now + n * Duration::from_micros(100), n, 100);
    }
    let left = drain(&mut path);
    let held = path.counters().reordered;
    // Six standard deviations around 500.
    assert!((370..=630).contains(&held), "{held}");
    let (mut highest, mut behind) = (0, 0);
    for (_, number, _) in left {
        behind += u64::from(number < highest);
        highest = highest.max(number);
    }
    // A few at the end have nothing behind them.
    assert!(behind <= held && behind + 10 >= held, "{behind} of {held}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn loss_is_what_it_says(loss in 0.0_f64..1.0, seed in any::<u64>()) {
        let mut path = Path::new(Impairments { loss, ..Impairments::default() }, seed);
        let (now, n) = (Instant::now(), 5000_u32);
        for number in 0..n {
            send(&mut path, now, number, 40);
        }
        // Six standard deviations of the binomial distribution, and one packet for its corners.
        let bound = 6.0 * (f64::from(n) * loss * (1.0 - loss)).sqrt() + 1.0;
        prop_assert!((path.counters().lost as f64 - f64::from(n) * loss).abs() <= bound);
        prop_assert_eq!(drain(&mut path).len() as u64, u64::from(n) - path.counters().lost);
    }

    #[test]
    fn order_is_kept_unless_told_otherwise(
        gaps in prop::collection::vec(0_u64..2000, 1..200),
        jitter_us in 0_u64..20_000,
        rate in prop::option::of(100_000_u64..100_000_000),
        seed in any::<u64>(),
    ) {
        let jitter = Duration::from_micros(jitter_us);
        let impairments = Impairments { delay: 5 * MS, jitter, rate, queue: Some(1 << 30), ..Impairments::default() };
        let (mut path, mut now) = (Path::new(impairments, seed), Instant::now());
        let mut sent = Vec::new();
        for (number, gap) in (0..).zip(&gaps) {
            now += Duration::from_micros(*gap);
            send(&mut path, now, number, 500);
            sent.push(now);
        }
        let left = drain(&mut path);
        prop_assert!(left.iter().map(|(_, number, _)| *number).eq(0..gaps.len() as u32));
        prop_assert!(left.iter().zip(&sent).all(|((at, ..), sent)| *at >= *sent + 5 * MS));
        if rate.is_none() {
            prop_assert!(left.iter().zip(&sent).all(|((at, ..), sent)| *at <= *sent + 5 * MS + jitter));
        }
    }

    #[test]
    fn no_more_leaves_than_the_rate_allows(
        packets in prop::collection::vec((0_u64..500, 40_usize..1500), 2..200),
        rate in 1_000_000_u64..1_000_000_000,
        queue in 1500_u64..100_000,
    ) {
        let impairments = Impairments { rate: Some(rate), queue: Some(queue), ..Impairments::default() };
        let (mut path, mut now) = (Path::new(impairments, 0), Instant::now());
        let mut waiting = Vec::new();
        for (number, (gap, length)) in (0..).zip(packets) {
            now += Duration::from_micros(gap);
            if send(&mut path, now, number, length) == Verdict::Taken {
                waiting.push((now, length as u64));
            }
        }
        let left = drain(&mut path);
        for (first, from) in left.iter().enumerate() {
            let mut bytes = 0;
            for until in &left[first + 1..] {
                bytes += until.2;
                prop_assert!(bytes as f64 * 8.0 / rate as f64 <= (until.0 - from.0).as_secs_f64() + 1e-9);
            }
        }
        for ((admitted, length), (at, ..)) in waiting.iter().zip(&left) {
            let bound = (queue.max(*length) + 1) as f64 * 8.0 / rate as f64;
            prop_assert!((*at - *admitted).as_secs_f64() <= bound + 1e-9, "nobody waits for more than the queue");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_fate(seed in any::<u64>()) {
        let now = Instant::now();
        let fates = || {
            let mut path = Path::new("10ms,20%,jitter=5ms,reorder=10%,unordered".parse().unwrap(), seed);
            for number in 0..100 {
                send(&mut path, now, number, 100);
            }
            drain(&mut path)
        };
        prop_assert_eq!(fates(), fates());
    }
}
