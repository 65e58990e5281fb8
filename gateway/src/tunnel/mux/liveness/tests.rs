use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// Two ends whose frames take `delay` to the other; `None` loses them. Runs each whenever it wants to be run.
struct Path {
    now: Instant,
    ends: [Liveness; 2],
    /// What is under way: when it arrives, where, and the PONG's token or a PING's or (0) anything else.
    flying: Vec<(Instant, usize, Message)>,
    delay: Option<Duration>,
    asked: [u32; 2],
    verdicts: Vec<(Duration, usize, Verdict)>,
    start: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Message {
    Ping(u64),
    Pong(u64),
    Data,
}

impl Path {
    fn new(delay: Duration) -> Self {
        let now = Instant::now();
        let ends = [Liveness::new(now), Liveness::new(now)];
        Self { now, ends, flying: vec![], delay: Some(delay), asked: [0; 2], verdicts: vec![], start: now }
    }

    fn send(&mut self, from: usize, message: Message) {
        if matches!(message, Message::Data) {
            self.ends[from].sent(self.now);
        }
        if let Some(delay) = self.delay {
            self.flying.push((self.now + delay, 1 - from, message));
        }
    }

    /// Lets `time` pass, from one event to the next.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let arrival = self.flying.iter().map(|&(at, ..)| at).min();
            let wake = self.ends.iter().map(Liveness::next).min();
            let Some(next) = arrival.into_iter().chain(wake).min().filter(|&next| next <= until) else { break };
            assert!(self.verdicts.len() < 10_000, "it spins");
            self.now = self.now.max(next);
            self.arrive();
            for end in [0, 1] {
                self.judge(end);
            }
        }
        self.now = until;
    }

    fn arrive(&mut self) {
        let now = self.now;
        let (here, later) = std::mem::take(&mut self.flying).into_iter().partition(|&(at, ..)| at <= now);
        self.flying = later;
        let here: Vec<(Instant, usize, Message)> = here;
        for (_, end, message) in here {
            match message {
                Message::Ping(token) => self.send(end, Message::Pong(token)),
                Message::Pong(token) => self.ends[end].answered(token, now),
                Message::Data => {}
            }
            self.ends[end].received(now, matches!(message, Message::Data));
        }
    }

    fn judge(&mut self, end: usize) {
        let verdict = self.ends[end].verdict(self.now);
        match verdict {
            Verdict::Ask(token) => {
                self.asked[end] += 1;
                self.send(end, Message::Ping(token));
            }
            // Nobody is left to be asked.
            Verdict::GiveUp => self.ends[end].received(self.now, false),
            Verdict::Live | Verdict::Doubt => {}
        }
        if verdict != Verdict::Live {
            self.verdicts.push((self.now - self.start, end, verdict));
        }
    }

    fn first(&self, verdict: Verdict) -> Option<Duration> {
        self.verdicts.iter().find(|&&(_, end, v)| end == 0 && v == verdict).map(|&(at, ..)| at)
    }
}

#[test]
fn the_round_trip_is_known_from_the_start() {
    let mut path = Path::new(20 * MS);
    path.run(50 * MS);
    assert_eq!(path.ends.map(|end| end.rtt()), [Some(40 * MS); 2]);
}

#[test]
fn the_round_trip_is_smoothed_as_rfc_6298_has_it() {
    let now = Instant::now();
    let mut end = Liveness::new(now);
    for (asked, answered) in [(0, 80), (2000, 2160), (4000, 4080)] {
        end.received(now + asked * MS, true);
        let Verdict::Ask(token) = end.verdict(now + asked * MS) else { panic!("asked every 2 s in use") };
        // Not the answer to that question.
        end.answered(token + 1, now + asked * MS + MS);
        end.received(now + answered * MS, true);
        end.answered(token, now + answered * MS);
    }
    // 80; 7/8 80 + 1/8 160 = 90; 7/8 90 + 1/8 80 = 88.75.
    assert_eq!(end.rtt(), Some(Duration::from_micros(88_750)));
}

#[test]
fn two_idle_ends_ask_every_20_seconds_and_no_more() {
    let mut path = Path::new(20 * MS);
    // What setting up asks for comes first.
    path.run(10_000 * MS);
    let before = path.asked;
    path.run(200_000 * MS);
    for end in [0, 1] {
        assert!((9..=11).contains(&(path.asked[end] - before[end])), "{:?} {before:?}", path.asked);
    }
    assert!(path.verdicts.iter().all(|(.., verdict)| matches!(verdict, Verdict::Ask(_))));
}

#[test]
fn a_tunnel_in_use_asks_twice_a_second() {
    let mut path = Path::new(20 * MS);
    for _ in 0..1000 {
        path.send(0, Message::Data);
        path.send(1, Message::Data);
        path.run(10 * MS);
    }
    assert!(path.asked.iter().all(|asked| (19..=21).contains(asked)), "{:?}", path.asked);
}

#[test]
fn a_sender_that_hears_nothing_asks_soon() {
    let now = Instant::now();
    let mut end = Liveness::new(now);
    let Verdict::Ask(token) = end.verdict(now) else { panic!("it asks at once") };
    end.received(now + 20 * MS, false);
    end.answered(token, now + 20 * MS);
    end.sent(now + 200 * MS);
    end.sent(now + 300 * MS);
    assert_eq!(end.next(), now + 350 * MS);
    assert_eq!(end.verdict(now + 349 * MS), Verdict::Live);
    assert_eq!(end.verdict(now + 350 * MS), Verdict::Ask(token + 1));
}

#[test]
fn a_path_that_dies_in_use_is_doubted_well_within_a_second_and_given_up_after_five() {
    let mut path = Path::new(20 * MS);
    for _ in 0..500 {
        path.send(0, Message::Data);
        path.send(1, Message::Data);
        path.run(10 * MS);
    }
    let died = path.now - path.start;
    path.delay = None;
    path.flying.clear();
    for _ in 0..700 {
        path.send(0, Message::Data);
        path.run(10 * MS);
    }
    let doubt = path.first(Verdict::Doubt).unwrap() - died;
    assert!((400 * MS..650 * MS).contains(&doubt), "{doubt:?}");
    let gone = path.first(Verdict::GiveUp).unwrap() - died;
    assert!((5000 * MS..5500 * MS).contains(&gone), "{gone:?}");
}

/// As a console shows a link as broken: its other tunnels have nothing to send when the first one is given up.
#[test]
fn a_path_that_dies_between_two_uses_is_doubted_within_a_second() {
    for last_use in 0..100 {
        let mut path = Path::new(20 * MS);
        path.run(3000 * MS);
        for _ in 0..100 + last_use {
            path.send(0, Message::Data);
            path.send(1, Message::Data);
            path.run(10 * MS);
        }
        // What was sent is answered, and then nothing is under way.
        path.run(100 * MS);
        let died = path.now - path.start;
        path.delay = None;
        path.flying.clear();
        path.run(3000 * MS);
        let doubt = path.first(Verdict::Doubt).unwrap() - died;
        assert!(doubt < 1000 * MS, "{doubt:?} after {last_use}");
    }
}

#[test]
fn an_idle_path_that_dies_is_noticed_at_the_next_question() {
    let mut path = Path::new(20 * MS);
    path.run(60_000 * MS);
    path.delay = None;
    path.run(30_000 * MS);
    assert!(path.first(Verdict::GiveUp).unwrap() <= 86_000 * MS);
}

#[test]
fn whoever_is_heard_of_again_is_doubted_no_more() {
    let now = Instant::now();
    let mut end = Liveness::new(now);
    assert_eq!(end.verdict(now), Verdict::Ask(1));
    assert_eq!(end.verdict(now + 399 * MS), Verdict::Live);
    assert_eq!(end.verdict(now + 400 * MS), Verdict::Doubt);
    assert_eq!(end.next(), now + 5000 * MS);
    assert_eq!(end.verdict(now + 4999 * MS), Verdict::Doubt);
    end.received(now + 4999 * MS, true);
    assert!(!matches!(end.verdict(now + 5000 * MS), Verdict::Doubt | Verdict::GiveUp));
}

#[test]
fn a_long_round_trip_is_given_its_time() {
    let mut path = Path::new(400 * MS);
    path.run(60_000 * MS);
    let before = path.verdicts.len();
    for _ in 0..100 {
        path.send(0, Message::Data);
        path.run(100 * MS);
    }
    let asked_only = path.verdicts[before..].iter().all(|(.., verdict)| matches!(verdict, Verdict::Ask(_)));
    assert!(asked_only, "{:?}", &path.verdicts[before..]);
}

proptest! {
    /// Run when it wants to be run, it never wants to be run at once again, whatever happens in between.
    #[test]
    fn it_never_spins(steps in prop::collection::vec((0..4u8, 0..3000u32), 0..60)) {
        let mut now = Instant::now();
        let mut end = Liveness::new(now);
        let mut token = 0;
        for (what, wait) in steps {
            match end.verdict(now) {
                Verdict::Ask(asked) => token = asked,
                Verdict::GiveUp => return Ok(()),
                Verdict::Live | Verdict::Doubt => {}
            }
            prop_assert!(end.next() > now, "{:?}", end);
            now = if wait % 2 == 0 { end.next() } else { now + wait * MS };
            match what {
                0 => end.sent(now),
                1 => end.received(now, true),
                2 => {
                    end.received(now, false);
                    end.answered(token, now);
                }
                _ => {}
            }
        }
    }
}
