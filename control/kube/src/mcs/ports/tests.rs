use super::{
    super::{
        Plan,
        planned::ServicePlan,
        tests::{derived, import, key, time},
    },
    *,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const MANY: Quota = Quota { ports: 1000, addresses: 1000 };
const RANGE: RangeInclusive<u16> = 20..=24;

fn tcp(number: u16) -> Port {
    Port { number, protocol: Protocol::Tcp }
}

/// A world in which the Services derived from these services show these ports of the gateway, the first being the oldest.
fn world(of: &[(&str, i32)]) -> World {
    let service = |(age, (name, target)): (usize, &(&str, i32))| {
        let mut service = derived(name, *target);
        service.metadata.creation_timestamp = Some(time(i64::try_from(age).unwrap()));
        service
    };
    World {
        services: of.iter().enumerate().map(service).collect(),
        imports: of.iter().map(|(name, _)| import(name)).collect(),
        ..World::default()
    }
}

/// The plan that gave out these, of which the gateway listens on some.
fn plan(of: &[(&str, i32, bool)]) -> Plan {
    let service = |&(name, target, is_shown): &(&str, i32, bool)| {
        let listens = is_shown.then(|| (u16::try_from(target).unwrap(), super::super::tests::listen(name)));
        let services = vec![derived(name, target)];
        (key(name), ServicePlan { services, imports: listens.into_iter().collect(), ..ServicePlan::default() })
    };
    Plan { services: of.iter().map(service).collect() }
}

/// What each of these services gets for its port 80, having had its turn to say what it has.
fn given(world: &World, before: Before<'_>, of: &[&str]) -> Vec<Option<u16>> {
    let mut ports = Ports::read(world, before, RANGE, MANY);
    let mut give = |name: &&str| ports.give(&ObjectKey::of(&derived(name, 0)), tcp(80), &[]).ok();
    let known: Vec<_> = of.iter().map(&mut give).collect();
    let mut ports = Ports::read(world, before, RANGE, MANY);
    let mut give = |name: &&str| ports.give(&ObjectKey::of(&derived(name, 0)), tcp(80), &[]).ok();
    for name in of {
        give(name);
    }
    ports.open();
    let mut give = |name: &&str| ports.give(&ObjectKey::of(&derived(name, 0)), tcp(80), &[]).ok();
    let all: Vec<_> = of.iter().map(&mut give).collect();
    assert!(known.iter().zip(&all).all(|(known, all)| known.is_none() || known == all), "{known:?} {all:?}");
    all
}

fn nothing() -> Plan {
    Plan::default()
}

fn anew(plan: &Plan) -> Before<'_> {
    Before { plan, is_ours: true }
}

fn standing_by(plan: &Plan) -> Before<'_> {
    Before { plan, is_ours: false }
}

#[test]
fn what_a_service_shows_is_its_own_unless_an_older_one_has_it() {
    let world = world(&[("ns/b", 22), ("ns/a", 22), ("ns/c", 9), ("ns/d", 20)]);
    let names = ["ns/a", "ns/b", "ns/c", "ns/d", "ns/e", "ns/f"];
    let expected = [Some(21), Some(22), Some(23), Some(20), Some(24), None];
    assert_eq!(given(&world, anew(&nothing()), &names), expected);
}

#[test]
fn tcp_and_udp_have_ports_of_their_own() {
    let mut ports = Ports::read(&World::default(), anew(&nothing()), RANGE, MANY);
    ports.open();
    let udp = Port { protocol: Protocol::Udp, ..tcp(80) };
    assert_eq!(ports.give(&key("ns/a"), tcp(80), &[]), Ok(20));
    assert_eq!(ports.give(&key("ns/a"), udp, &[]), Ok(21));
}

#[test]
fn what_was_given_out_is_not_taken_by_a_changed_service() {
    let before = plan(&[("ns/a", 20, true), ("ns/b", 21, true)]);
    // Whoever may write the older one has given it the other's port.
    let stolen = world(&[("ns/a", 21), ("ns/b", 21)]);
    for before in [anew(&before), standing_by(&before)] {
        assert_eq!(given(&stolen, before, &["ns/a", "ns/b"]), [Some(20), Some(21)], "{before:?}");
    }
}

#[test]
fn who_stands_by_takes_what_the_leader_writes() {
    // Its own guess, which was never shown, is worth nothing.
    let before = plan(&[("ns/a", 20, false), ("ns/b", 21, true)]);
    let written = world(&[("ns/c", 20), ("ns/a", 22), ("ns/b", 23)]);
    assert_eq!(given(&written, standing_by(&before), &["ns/a", "ns/b", "ns/c"]), [Some(22), Some(23), Some(20)]);
    // Who leads puts it right.
    assert_eq!(given(&written, anew(&before), &["ns/a", "ns/b", "ns/c"]), [Some(20), Some(21), Some(22)]);
}

#[test]
fn what_nobody_asks_for_is_given_out_last() {
    let world = world(&[("ns/gone", 20)]);
    let names = ["ns/a", "ns/b", "ns/c", "ns/d", "ns/e", "ns/f"];
    let expected = [Some(21), Some(22), Some(23), Some(24), Some(20), None];
    assert_eq!(given(&world, anew(&nothing()), &names), expected);
}

proptest! {
    #[test]
    fn no_two_have_the_same_and_all_in_the_range(
        shown in proptest::collection::vec((0..9u8, 15..30i32), 0..9),
        before in proptest::collection::btree_map(0..9u8, (15..30i32, any::<bool>()), 0..9),
        asked in proptest::collection::btree_set(0..9u8, 0..9),
        is_ours in any::<bool>(),
    ) {
        let name = |n: u8| format!("ns/s{n}");
        let shown: BTreeMap<_, _> = shown.into_iter().map(|(n, target)| (name(n), target)).collect();
        let world = world(&shown.iter().map(|(name, target)| (&**name, *target)).collect::<Vec<_>>());
        let before: Vec<_> = before.into_iter().map(|(n, (target, shown))| (name(n), target, shown)).collect();
        let before = plan(&before.iter().map(|(name, target, shown)| (&**name, *target, *shown)).collect::<Vec<_>>());
        let asked: Vec<_> = asked.into_iter().map(name).collect();
        let asked: Vec<_> = asked.iter().map(|name| &**name).collect();
        let given = given(&world, Before { plan: &before, is_ours }, &asked);
        let all: Vec<_> = given.iter().flatten().collect();
        prop_assert!(all.iter().all(|port| RANGE.contains(*port)));
        prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        prop_assert_eq!(all.len(), asked.len().min(RANGE.count()), "none is lost");
    }

    /// Whatever anybody writes on Services that are derived, what has been given out and shown stays with whom it was given to.
    #[test]
    fn nothing_that_is_written_moves_what_was_given_out(targets in proptest::collection::vec(15..30i32, 3), is_ours in any::<bool>()) {
        let names = ["ns/a", "ns/b", "ns/c"];
        let before = plan(&[("ns/a", 20, true), ("ns/b", 21, true), ("ns/c", 22, true)]);
        let shown: Vec<_> = names.iter().copied().zip(targets.iter().copied()).collect();
        let given = given(&world(&shown), Before { plan: &before, is_ours }, &names);
        for ((name, had), (now, target)) in names.iter().zip([20, 21, 22]).zip(given.iter().zip(&targets)) {
            let now = now.unwrap();
            // One that stands by goes with what is written, where that was nobody's.
            let is_followed = !is_ours && i32::from(now) == *target && now > 22;
            prop_assert!(now == had || is_followed, "{} has {} and had {}", name, now, had);
        }
    }
}
