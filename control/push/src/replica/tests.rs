use super::*;
use crate::{change::tests::tables, history::History};
use isthmus_control_api::ServicePort;
use proptest::prelude::*;
use std::time::Instant;

fn take(replica: &mut Replica, parts: Vec<wire::Part>) -> Result<Option<Position>, Refusal> {
    let mut last = Ok(None);
    for part in parts {
        last = replica.take(part, |_| Ok(())).map_err(|(_, refusal)| refusal);
        if last.is_err() {
            break;
        }
    }
    last
}

fn table(version: u64, services: &[&str]) -> Table {
    let export = |name: &&str| (ServicePort::tcp(name.parse().unwrap(), 80), Arc::default());
    Table { version, exports: services.iter().map(export).collect(), ..Table::default() }
}

fn whole(table: &Table, term: u64) -> Vec<wire::Part> {
    convert::parts(&History::new(Arc::new(table.clone()), term).update(None))
}

proptest! {
    /// A gateway follows a control that publishes, one that hears of some versions only, and one that was started anew.
    #[test]
    fn a_replica_has_what_control_has(
        all in prop::collection::vec((tables(), any::<bool>(), any::<bool>()), 1..10),
    ) {
        let mut history = History::new(Arc::default(), 1);
        let mut replica = Replica::new(Arc::default(), 0);
        for (version, (table, heard, restarted)) in (1..).zip(all) {
            history.publish(Arc::new(Table { version, ..table }), Instant::now());
            if restarted {
                history = History::new(history.newest().clone(), history.position().term + 1);
            }
            if heard {
                let update = history.update(replica.position().map(|position| position.digest));
                prop_assert_eq!(take(&mut replica, convert::parts(&update)).unwrap(), Some(history.position()));
                prop_assert_eq!(replica.table(), history.newest());
            }
        }
    }
}

#[test]
fn a_control_whose_term_is_over_is_refused() {
    let mut replica = Replica::new(Arc::new(table(7, &["shop/api"])), 5);
    let refused = take(&mut replica, whole(&table(100, &[]), 4)).unwrap_err();
    assert!(matches!(&refused, Refusal::Fenced { .. }));
    assert!(refused.to_string().contains("found version 100 of term 4, expected nothing before version 7 of term 5"));
    assert!(matches!(take(&mut replica, whole(&table(6, &["shop/db"]), 5)), Err(Refusal::Fenced { .. })));
    assert!(matches!(take(&mut replica, whole(&table(7, &["shop/db"]), 5)), Err(Refusal::Fenced { .. })));
    assert_eq!(replica.table().exports.len(), 1);
    // The same again is no harm, and a later term may begin with any version.
    take(&mut replica, whole(&table(7, &["shop/api"]), 5)).unwrap();
    take(&mut replica, whole(&table(1, &["shop/db"]), 6)).unwrap();
    assert_eq!((replica.table().version, replica.position().unwrap().term), (1, 6));
}

#[test]
fn a_delta_that_does_not_fit_asks_for_everything() {
    let mut history = History::new(Arc::new(table(1, &["shop/api"])), 1);
    let old = history.position().digest;
    history.publish(Arc::new(table(2, &["shop/api", "shop/db"])), Instant::now());
    let delta = convert::parts(&history.update(Some(old)));
    let mut replica = Replica::new(Arc::new(table(1, &["shop/other"])), 1);
    assert!(matches!(take(&mut replica, delta.clone()), Err(Refusal::NeedsAll(_))));
    // One that says something else than it leads to.
    let mut replica = Replica::new(Arc::new(table(1, &["shop/api"])), 1);
    let mut wrong = delta.clone();
    wrong[0].exports.clear();
    assert!(matches!(take(&mut replica, wrong), Err(Refusal::NeedsAll(_))));
    assert_eq!(replica.table().version, 1);
    take(&mut replica, delta).unwrap();
    assert_eq!(replica.table().exports.len(), 2);
}

#[test]
fn what_a_gateway_cannot_serve_stays_out() {
    let mut replica = Replica::new(Arc::new(table(1, &["shop/api"])), 1);
    let [part] = whole(&table(2, &["shop/db"]), 1).try_into().unwrap();
    let (position, refused) = replica.take(part, |_| Err("the port is taken".into())).unwrap_err();
    assert_eq!((position.version, refused), (2, Refusal::Rejected("the port is taken".into())));
    assert_eq!(replica.table().version, 1);
}

#[test]
fn half_an_update_changes_nothing() {
    let services: Vec<String> = (0..20_000).map(|n| format!("shop/service-{n}")).collect();
    let large = table(2, &services.iter().map(String::as_str).collect::<Vec<_>>());
    let mut parts = whole(&large, 1);
    assert!(parts.len() > 1);
    let last = parts.pop().unwrap();
    let mut replica = Replica::new(Arc::new(table(1, &["shop/api"])), 1);
    assert_eq!(take(&mut replica, parts.clone()), Ok(None));
    assert_eq!(replica.table().version, 1);
    // The stream ends, and another one begins with another update.
    replica.begin();
    take(&mut replica, whole(&table(3, &[]), 1)).unwrap();
    assert!(take(&mut replica, vec![last]).is_err(), "the end alone is not the table");
    assert_eq!(replica.table().version, 3);
}

#[test]
fn parts_of_two_updates_do_not_mix() {
    let [mut one] = whole(&table(1, &["shop/api"]), 1).try_into().unwrap();
    one.last = false;
    let mut replica = Replica::new(Arc::default(), 0);
    let two = whole(&table(2, &["shop/db"]), 1);
    assert!(matches!(take(&mut replica, [vec![one], two].concat()), Err(Refusal::Malformed(_))));
}
