use super::*;
use proptest::prelude::*;

fn clusters(ready: &[u32]) -> BTreeMap<ClusterName, u32> {
    ready.iter().enumerate().map(|(i, &n)| (format!("c{i}").parse().unwrap(), n)).collect()
}

/// Links to those that are live, none of them measured.
fn up(is_live: impl Fn(&ClusterName) -> bool) -> impl Fn(&ClusterName) -> Option<Duration> {
    move |name: &ClusterName| is_live(name).then_some(Duration::ZERO)
}

fn affinities() -> impl Strategy<Value = Affinity> {
    prop_oneof![Just(Affinity::Local), Just(Affinity::Remote), Just(Affinity::None)]
}

proptest! {
    /// A stream that is tried until nothing is left meets every candidate once, the preferred side first.
    #[test]
    fn every_candidate_is_tried_once_in_the_order_of_affinity(
        affinity in affinities(),
        local in 0_u32..3,
        ready in proptest::collection::vec(0_u32..4, 0..MAX_TRIED),
        live: [bool; MAX_TRIED],
        randoms: [u64; 8],
    ) {
        let clusters = clusters(&ready);
        let candidates = Candidates { affinity, local, clusters: &clusters, weights: None };
        let index = |name: &ClusterName| name.as_str()[1..].parse::<usize>().unwrap();
        let mut tried = Tried::default();
        let mut order = vec![];
        for random in randoms {
            let Some(choice) = choose(&candidates, &up(|name| live[index(name)]), &tried, Draw::Random(random), &mut Rotation::default()) else { break };
            tried.insert(&choice);
            let another = choose(&candidates, &up(|name| live[index(name)]), &tried, Draw::Random(1), &mut Rotation::default());
            prop_assert_eq!(has_another(&candidates, &up(|name| live[index(name)]), &tried), another.is_some());
            order.push(match choice { Choice::Local => None, Choice::Cluster(name) => Some(index(name)) });
        }
        let mut expected: Vec<_> = (0..ready.len()).filter(|&i| ready[i] > 0 && live[i]).map(Some).collect();
        let remote = expected.len();
        expected.extend((local > 0).then_some(None));
        let mut met = order.clone();
        met.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(met, expected);
        if let Some(place) = order.iter().position(Option::is_none) {
            match affinity {
                Affinity::Local => prop_assert_eq!(place, 0),
                Affinity::Remote => prop_assert_eq!(place, remote),
                Affinity::None => {}
            }
        }
    }
}

/// How 600 streams are shared out: to each cluster, and to this one last.
fn shares<const N: usize>(candidates: &Candidates<'_>) -> [i32; N] {
    let mut counts = [0; N];
    let mut rotation = Rotation::default();
    for step in 0..600_u64 {
        match choose(candidates, &up(|_| true), &Tried::default(), Draw::Random(step), &mut rotation) {
            Some(Choice::Cluster(name)) => counts[name.as_str()[1..].parse::<usize>().unwrap()] += 1,
            Some(Choice::Local) => counts[N - 1] += 1,
            None => {}
        }
    }
    counts
}

fn assert_about<const N: usize>(counts: [i32; N], expected: [i32; N]) {
    let about = |(count, expected): (i32, i32)| (count - expected).abs() <= 3;
    assert!(counts.into_iter().zip(expected).all(about), "{counts:?}");
}

#[test]
fn shares_follow_ready_endpoints() {
    let clusters = clusters(&[1, 2]);
    let candidates = Candidates { affinity: Affinity::None, local: 3, clusters: &clusters, weights: None };
    assert_about(shares(&candidates), [100, 200, 300]);
}

#[test]
fn shares_can_be_given_and_count_for_what_is_ready() {
    let weights = |local, others| Weights { local, clusters: [("c0".parse().unwrap(), 20)].into(), others };
    let all = clusters(&[1, 9]);
    let of = |local, clusters, weights| Candidates { affinity: Affinity::Local, local, clusters, weights };
    let (share, none, never) = (weights(80, true), weights(0, true), weights(0, false));
    assert_about(shares(&of(1, &all, Some(&share))), [120, 0, 480]);
    assert_about(shares(&of(0, &all, Some(&share))), [600, 0, 0]);
    // Nothing that has a share is ready.
    let other = clusters(&[0, 1]);
    assert_about(shares(&of(2, &other, Some(&none))), [0, 200, 400]);
    assert_about(shares(&of(2, &other, Some(&never))), [0, 0, 0]);
}

#[test]
fn after_the_last_attempt_only_local_is_left() {
    let clusters = clusters(&[1; 9]);
    let candidates = Candidates { affinity: Affinity::Remote, local: 1, clusters: &clusters, weights: None };
    let mut tried = Tried::default();
    for _ in 0..MAX_TRIED {
        let choice = choose(&candidates, &up(|_| true), &tried, Draw::Random(7), &mut Rotation::default()).unwrap();
        assert!(matches!(choice, Choice::Cluster(_)));
        tried.insert(&choice);
    }
    assert_eq!(
        choose(&candidates, &up(|_| true), &tried, Draw::Random(7), &mut Rotation::default()),
        Some(Choice::Local)
    );
}

/// A client has its cluster, in proportion as at random, and leaves it only when that is gone.
#[test]
fn a_client_stays_with_its_cluster() {
    use crate::balance::client::Client;
    let all = clusters(&[3, 1]);
    let candidates = Candidates { affinity: Affinity::None, local: 1, clusters: &all, weights: None };
    let of = |n: u32, is_live: &dyn Fn(&ClusterName) -> bool| {
        let draw = Draw::For(Client::at(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()));
        choose(&candidates, &up(is_live), &Tried::default(), draw, &mut Rotation::default()).unwrap()
    };
    let mut counts = BTreeMap::new();
    for n in 0..5000 {
        let first = of(n, &|_| true);
        let c0 = matches!(&first, Choice::Cluster(name) if name.as_str() == "c0");
        let then = of(n, &|name| name.as_str() != "c0");
        assert_eq!(first == then, !c0, "only those of the cluster that is gone are moved");
        *counts.entry(format!("{first:?}")).or_insert(0_u32) += 1;
    }
    let counts: Vec<_> = counts.into_values().collect();
    assert!(
        [3000, 1000, 1000].iter().zip(&counts).all(|(expected, count)| count.abs_diff(*expected) < 150),
        "{counts:?}"
    );
}

#[test]
fn explicit_shares_are_kept_to_the_stream() {
    let clusters = clusters(&[1, 50, 3]);
    let shares = [("c0", 80), ("c1", 13)].map(|(name, share)| (name.parse().unwrap(), share));
    let weights = Weights { local: 7, clusters: shares.into(), others: true };
    let candidates = Candidates { affinity: Affinity::Local, local: 9, clusters: &clusters, weights: Some(&weights) };
    let (mut rotation, mut counts) = (Rotation::default(), BTreeMap::new());
    for random in 0..10_000 {
        let choice = choose(&candidates, &up(|_| true), &Tried::default(), Draw::Random(random), &mut rotation);
        *counts.entry(format!("{:?}", choice.unwrap())).or_insert(0_u32) += 1;
    }
    let counts: Vec<_> = counts.into_values().collect();
    assert!(counts.iter().zip([8000_u32, 1300, 700]).all(|(count, due)| count.abs_diff(due) <= 3), "{counts:?}");
}

#[test]
fn where_one_side_is_preferred_the_nearest_clusters_come_first() {
    let clusters = clusters(&[1, 2, 9]);
    let trips = |name: &ClusterName| Some(Duration::from_millis(if name.as_str() == "c2" { 80 } else { 9 }));
    for (affinity, expected) in [(Affinity::Remote, 0), (Affinity::Local, 0), (Affinity::None, 450)] {
        let candidates = Candidates { affinity, local: 0, clusters: &clusters, weights: None };
        let (mut rotation, mut far) = (Rotation::default(), 0_u32);
        for random in 0..600 {
            let choice = choose(&candidates, &trips, &Tried::default(), Draw::Random(random), &mut rotation);
            far += u32::from(matches!(choice, Some(Choice::Cluster(name)) if name.as_str() == "c2"));
        }
        assert!(far.abs_diff(expected) <= 3, "{affinity:?}: {far}");
    }
}
