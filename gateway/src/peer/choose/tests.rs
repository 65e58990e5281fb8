use super::*;
use proptest::prelude::*;

const RTT: Duration = Duration::from_millis(40);

/// A path whose loss can be set, a second of traffic at a time.
struct Path {
    chooser: Chooser,
    tcp: Facts,
    quic: Facts,
    now: Instant,
}

impl Path {
    fn new() -> Self {
        let facts = Facts { live: 1, rtt: Some(RTT), sent: 0, lost: 0 };
        Self { chooser: Chooser::new(), tcp: facts, quic: facts, now: Instant::now() }
    }

    /// A second with so many packets of a thousand lost, on what is chosen; what is chosen then.
    fn second(&mut self, lost: u64) -> Carrier {
        let used = match self.chooser.choice().map(|choice| choice.carrier) {
            Some(Carrier::Quic) => &mut self.quic,
            _ => &mut self.tcp,
        };
        used.sent += 1000;
        used.lost += lost;
        self.now += Duration::from_secs(1);
        self.chooser.look(&self.tcp, &self.quic, self.now);
        self.chooser.choice().unwrap().carrier
    }

    /// The same for so many seconds.
    fn seconds(&mut self, seconds: u64, lost: u64) -> Carrier {
        (0..seconds).map(|_| self.second(lost)).last().unwrap()
    }

    fn reason(&self) -> Reason {
        self.chooser.choice().unwrap().reason
    }
}

#[test]
fn a_clean_path_takes_what_costs_less() {
    let mut path = Path::new();
    assert_eq!(path.seconds(30, 0), Carrier::Tcp);
    assert_eq!(path.reason(), Reason::Clean);
}

#[test]
fn a_lossy_path_takes_quic_and_a_clean_one_tcp_again() {
    let mut path = Path::new();
    path.seconds(15, 0);
    assert_eq!(path.seconds(3, 30), Carrier::Quic);
    assert!(matches!(path.reason(), Reason::Lossy(loss) if loss > LOSSY));
    // In between it stays with what it has.
    assert_eq!(path.seconds(60, 3), Carrier::Quic);
    assert_eq!(path.seconds(30, 0), Carrier::Tcp);
}

#[test]
fn a_path_that_loses_one_in_a_hundred_is_lossy_in_its_lucky_seconds_too() {
    let mut path = Path::new();
    path.seconds(15, 0);
    assert_eq!(path.seconds(15, 7), Carrier::Quic);
    let mut path = Path::new();
    assert_eq!(path.seconds(60, 1), Carrier::Tcp, "and one that loses one in a thousand is not");
}

#[test]
fn loss_does_not_matter_where_round_trips_are_short() {
    let mut path = Path::new();
    (path.tcp.rtt, path.quic.rtt) = (Some(SHORT / 2), Some(SHORT / 2));
    assert_eq!(path.seconds(30, 30), Carrier::Tcp);
    assert_eq!(path.reason(), Reason::Short);
}

#[test]
fn what_is_not_live_is_not_chosen_and_comes_back_at_once() {
    let mut path = Path::new();
    assert_eq!(path.seconds(15, 30), Carrier::Quic);
    path.quic.live = 0;
    assert_eq!(path.second(30), Carrier::Tcp);
    assert_eq!(path.reason(), Reason::OnlyOne);
    path.quic.live = 1;
    assert_eq!(path.second(30), Carrier::Quic);
    (path.tcp.live, path.quic.live) = (0, 0);
    path.chooser.look(&path.tcp, &path.quic, path.now);
    assert_eq!(path.chooser.choice(), None);
}

#[test]
fn udp_that_is_slower_than_tcp_is_left() {
    let mut path = Path::new();
    assert_eq!(path.seconds(15, 30), Carrier::Quic);
    path.quic.rtt = Some(4 * RTT);
    assert_eq!(path.seconds(15, 30), Carrier::Tcp);
    assert_eq!(path.reason(), Reason::Throttled);
}

#[test]
fn what_an_outage_has_cost_says_nothing_of_the_path_after_it() {
    let mut path = Path::new();
    assert_eq!(path.seconds(15, 30), Carrier::Quic);
    path.quic.live = 0;
    path.quic.sent += 500;
    assert_eq!(path.seconds(4, 30), Carrier::Tcp);
    // Only now it shows that nothing of that has arrived.
    path.quic.live = 1;
    path.quic.lost += 500;
    assert_eq!(path.seconds(60, 30), Carrier::Quic);
}

#[test]
fn throttled_udp_is_tried_again_ever_more_seldom_and_taken_back() {
    let mut path = Path::new();
    let mut minutes = |throttled: bool, minutes: usize| -> Vec<usize> {
        let on_quic = |path: &mut Path| match path.chooser.choice().map(|choice| choice.carrier) {
            Some(Carrier::Quic) => path.second(if throttled { 200 } else { 30 }),
            _ => path.second(30),
        };
        (0..minutes).map(|_| (0..60).filter(|_| on_quic(&mut path) == Carrier::Quic).count()).collect()
    };
    let seconds = minutes(true, 60);
    assert!(seconds[0] > 0, "before it was known: {seconds:?}");
    let late: usize = seconds[20..].iter().sum();
    assert!((1..=80).contains(&late), "of forty minutes: {seconds:?}");
    let seconds = minutes(false, 21);
    assert_eq!(seconds[20], 60, "{seconds:?}");
}

#[test]
fn little_traffic_says_nothing_of_the_path() {
    let mut path = Path::new();
    path.seconds(15, 0);
    (path.tcp.sent, path.tcp.lost) =
        (path.tcp.sent + crate::peer::loss::SAMPLE / 2, path.tcp.lost + crate::peer::loss::SAMPLE / 2);
    path.chooser.look(&path.tcp, &path.quic, path.now);
    assert_eq!(path.reason(), Reason::Clean);
}

proptest! {
    /// Whatever the path does, a choice stands for a while as long as both are live.
    #[test]
    fn choices_do_not_flap(losses in prop::collection::vec(0u64..100, 1..300)) {
        let (mut path, mut last) = (Path::new(), None);
        for loss in losses {
            let before = path.chooser.choice().map(|choice| choice.carrier);
            let after = path.second(loss);
            if before.is_some_and(|before| before != after) {
                prop_assert!(last.is_none_or(|last| path.now - last >= DWELL));
                last = Some(path.now);
            }
        }
    }
}
