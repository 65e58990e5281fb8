//! Endpoints as they are in practice, in time that the test makes: what share each gets.

use super::*;
use std::collections::BinaryHeap;

/// What an endpoint does with a stream that begins at this millisecond: how long connecting and answering take, in milliseconds.
type Behaviour = fn(u64, u16) -> (u64, u64);

/// Streams, so many a second, each over when it was answered.
struct Simulation {
    balancer: Balancer,
    behaviour: Behaviour,
    start: Instant,
    randoms: Box<dyn Iterator<Item = u64>>,
    /// What is to come: when, in microseconds, and of which stream.
    events: BinaryHeap<(std::cmp::Reverse<u64>, usize)>,
    streams: Vec<Option<(Pick, u64, u64)>>,
    micros: u64,
}

impl Simulation {
    fn new(endpoints_: u16, behaviour: Behaviour) -> Self {
        let balancer = balancer(1..=endpoints_);
        let (randoms, events) = (Box::new(randoms()), BinaryHeap::new());
        Self { balancer, behaviour, start: Instant::now(), randoms, events, streams: vec![], micros: 0 }
    }

    fn at(&self, micros: u64) -> Instant {
        self.start + Duration::from_micros(micros)
    }

    /// For so long, with so many streams a second: how many each endpoint got.
    fn run(&mut self, seconds: u64, rate: u64) -> Vec<u32> {
        let end = self.micros + seconds * 1_000_000;
        let mut counts = vec![0; self.balancer.len()];
        while self.micros < end {
            self.settle(self.micros);
            let random = self.randoms.next().unwrap();
            let now = self.at(self.micros);
            let pick = self.balancer.pick(now, Draw::Random(random), &none()).unwrap();
            let port = pick.address.port();
            counts[usize::from(port) - 1] += 1;
            let (connect, answer) = (self.behaviour)(self.micros / 1000, port);
            // Half a millisecond is what everything takes.
            let connected = self.micros + connect * 1000 + 500;
            self.events.push((std::cmp::Reverse(connected), self.streams.len()));
            self.streams.push(Some((pick, self.micros, connected + answer * 1000)));
            self.micros += 1_000_000 / rate;
        }
        counts
    }

    /// Everything that has happened until then.
    fn settle(&mut self, until: u64) {
        while let Some(&(std::cmp::Reverse(at), index)) = self.events.peek().filter(|(at, _)| at.0 <= until) {
            self.events.pop();
            let now = self.at(at);
            let Some((pick, begun, over)) = self.streams[index].take() else { continue };
            let took = |since: u64| Duration::from_micros(at - since);
            if at < over && begun < over {
                self.balancer.connected(&pick, took(begun), now);
                self.events.push((std::cmp::Reverse(over), index));
                // From here on what begins is the answer: it is over at the same time.
                self.streams[index] = Some((pick, at, 0));
            } else if over == 0 {
                self.balancer.answered(pick.id(), Some(took(begun)), now);
                self.balancer.released(pick, now);
            } else {
                self.balancer.connected(&pick, took(begun), now);
                self.balancer.released(pick, now);
            }
        }
    }
}

/// Whether each of them has no less than four fifths of an even share, but for what few streams do by chance.
fn assert_even(counts: &[u32], when: &str) {
    let even = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let least = 0.8 * even - 2.0 * even.sqrt();
    assert!(counts.iter().all(|&count| f64::from(count) >= least), "{when}: {counts:?}");
}

/// The machine is busy for a moment now and then, and holds up whatever is under way, at one endpoint or the other.
#[test]
fn a_busy_moment_starves_nobody() {
    let behaviour: Behaviour = |millis, port| {
        let hiccup = millis % 700 < 25 && (millis / 700) % 2 == u64::from(port % 2);
        (if hiccup { 30 } else { 0 }, 1)
    };
    for rate in [20, 200, 1000] {
        let mut simulation = Simulation::new(2, behaviour);
        for second in 0..10 {
            assert_even(&simulation.run(2, rate), &format!("{rate} a second, seconds {second} and the next"));
        }
    }
}

/// A longer one is slowness for as long as it lasts, and for about a second after.
#[test]
fn what_was_slow_for_a_while_has_its_share_again_soon() {
    let behaviour: Behaviour = |millis, port| (if port == 1 && (5000..8000).contains(&millis) { 30 } else { 5 }, 1);
    let mut simulation = Simulation::new(2, behaviour);
    simulation.run(5, 500);
    let during = simulation.run(3, 500);
    assert!(during[0] * 5 < during[1], "{during:?}");
    simulation.run(6, 500);
    assert_even(&simulation.run(2, 500), "afterwards");
}

/// One of eight connects, or answers, twenty times slower than the others.
#[test]
fn one_that_is_slow_for_good_has_less_than_a_hundredth() {
    let connects: Behaviour = |_, port| (if port == 3 { 100 } else { 5 }, 0);
    let answers: Behaviour = |_, port| (0, if port == 3 { 100 } else { 5 });
    for behaviour in [connects, answers] {
        let mut simulation = Simulation::new(8, behaviour);
        let first = simulation.run(1, 1000);
        assert!(first[2] < 40, "it is found quickly: {first:?}");
        let counts = simulation.run(30, 1000);
        assert!(counts[2] < 300 && counts[2] > 0, "{counts:?}");
        let fast: Vec<_> = counts.iter().copied().filter(|&count| count != counts[2]).collect();
        assert_even(&fast, "the others");
    }
}

/// Endpoints that take long because that is how they are: none is the worse for it.
#[test]
fn endpoints_that_all_take_long_share_alike() {
    let behaviour: Behaviour = |millis, port| (0, 300 + (millis * 7 + u64::from(port) * 13) % 400);
    let mut simulation = Simulation::new(4, behaviour);
    simulation.run(3, 300);
    assert_even(&simulation.run(20, 300), "of 4");
}
