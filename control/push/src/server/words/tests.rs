use super::*;
use proptest::prelude::*;

const ONE: GatewayId = GatewayId(1);
const TWO: GatewayId = GatewayId(2);

fn reached(all: &[(&str, &[u64])]) -> Reached {
    let ids = |ids: &[u64]| ids.iter().copied().map(GatewayId).collect();
    all.iter().map(|(name, gateways)| (name.parse().unwrap(), ids(gateways))).collect()
}

fn heard(through: GatewayId, cluster: &str, gateways: &[u64]) -> Heard {
    let gateways = gateways.iter().copied().map(GatewayId).collect();
    Heard { through, cluster: cluster.parse().unwrap(), gateways }
}

#[test]
fn what_differs_is_told_once() {
    let mut words = Words::default();
    words.say(ONE, reached(&[("east", &[1, 2]), ("north", &[3])]));
    assert_eq!(words.news(), [heard(ONE, "east", &[1, 2]), heard(ONE, "north", &[3])]);
    words.say(ONE, reached(&[("east", &[1]), ("south", &[4])]));
    assert_eq!(words.news(), [heard(ONE, "east", &[1]), heard(ONE, "north", &[]), heard(ONE, "south", &[4])]);
    assert_eq!(words.news(), []);
}

#[test]
fn who_is_away_is_believed_for_the_grace_from_when_it_was_heard() {
    let (mut words, heard_at) = (Words::default(), Instant::now());
    words.say(ONE, reached(&[("east", &[1])]));
    words.news();
    words.lost(ONE, heard_at);
    words.forget(heard_at + GRACE - Duration::from_millis(1));
    assert_eq!((words.news(), words.next()), (vec![], Some(heard_at + GRACE)));
    words.forget(heard_at + GRACE);
    assert_eq!(words.news(), [heard(ONE, "east", &[])]);
    assert_eq!((words.next(), words.of(ONE)), (None, None));
}

#[test]
fn who_is_back_is_told_again_and_stays() {
    let (mut words, now) = (Words::default(), Instant::now());
    words.say(ONE, reached(&[("east", &[1]), ("north", &[3])]));
    words.news();
    words.lost(ONE, now);
    words.say(ONE, reached(&[("east", &[1])]));
    assert_eq!(words.news(), [heard(ONE, "east", &[1]), heard(ONE, "north", &[])]);
    words.forget(now + GRACE * 2);
    assert_eq!(words.news(), []);
}

#[test]
fn a_cluster_that_an_attached_gateway_loses_is_gone_at_once() {
    let (mut words, now) = (Words::default(), Instant::now());
    words.say(ONE, reached(&[("east", &[1]), ("north", &[3])]));
    words.say(TWO, reached(&[("east", &[1, 2])]));
    words.lost(ONE, now);
    words.news();
    // One of its gateways is another matter.
    words.say(TWO, reached(&[("east", &[2])]));
    assert_eq!(words.news(), [heard(TWO, "east", &[2])]);
    words.say(TWO, reached(&[]));
    assert_eq!(words.news(), [heard(ONE, "east", &[]), heard(TWO, "east", &[])]);
    assert_eq!(words.of(ONE), Some(&reached(&[("north", &[3])])));
}

#[test]
fn those_that_are_away_are_bounded_and_the_first_to_be_forgotten_goes() {
    let (mut words, now) = (Words::default(), Instant::now());
    for n in 0..=MAX_GATEWAYS as u64 {
        words.say(GatewayId(n + 1), reached(&[("east", &[1])]));
        words.lost(GatewayId(n + 1), now + Duration::from_millis(n));
    }
    assert_eq!(words.away().count(), MAX_GATEWAYS);
    assert_eq!(words.of(ONE), None);
}

#[derive(Debug, Clone)]
enum Step {
    Say(u64, BTreeSet<u64>),
    Lose(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..4, prop::collection::btree_set(0u64..3, 0..3)).prop_map(|(who, reached)| Step::Say(who, reached)),
        (0u64..4).prop_map(Step::Lose),
        (0u64..40).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whoever follows the news knows what counts, and nothing counts for longer than it may.
    #[test]
    fn the_news_lead_to_what_counts(steps in prop::collection::vec(step(), 0..60)) {
        let (mut words, mut now) = (Words::default(), Instant::now());
        let mut known = BTreeMap::<GatewayId, Reached>::new();
        let mut gone = BTreeMap::<GatewayId, Instant>::new();
        for step in steps {
            match step {
                Step::Say(who, clusters) => {
                    let clusters = clusters.iter().map(|n| (format!("c{n}").parse().unwrap(), [GatewayId(9)].into()));
                    words.say(GatewayId(who), clusters.collect());
                    gone.remove(&GatewayId(who));
                }
                Step::Lose(who) if words.of(GatewayId(who)).is_some() && !gone.contains_key(&GatewayId(who)) => {
                    words.lost(GatewayId(who), now);
                    gone.insert(GatewayId(who), now);
                }
                Step::Lose(_) => {}
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            words.forget(now);
            for Heard { through, cluster, gateways } in words.news() {
                let known = known.entry(through).or_default();
                if gateways.is_empty() {
                    prop_assert!(known.remove(&cluster).is_some(), "only what was told is taken back");
                } else {
                    known.insert(cluster, gateways);
                }
            }
            for who in (0..4).map(GatewayId) {
                let counts = words.of(who).cloned().unwrap_or_default();
                prop_assert_eq!(known.get(&who).cloned().unwrap_or_default(), counts.clone());
                let is_over = gone.get(&who).is_some_and(|heard| now >= *heard + GRACE);
                prop_assert!(!is_over || counts.is_empty());
            }
        }
    }
}
