use super::*;
use isthmus_control_api::{
    AccessPolicy, Cidr, Workload,
    access::{Action, Rule},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, net::IpAddr};

fn maker() -> Maker {
    Maker::new("east.demo".parse().unwrap(), Metrics::new(1))
}

fn at(n: u8) -> IpAddr {
    [10, 0, 0, n].into()
}

/// A table with a pod at each of these addresses, of an account of that number, and a policy of each of these names.
fn table(pods: &BTreeMap<u8, u8>, policies: &BTreeMap<u8, bool>) -> Arc<Table> {
    let pod = |(&n, &account): (&u8, &u8)| {
        let pod = Some(format!("pod-{n}").parse().unwrap());
        let workload = Workload { account: format!("shop/a{account}").parse().unwrap(), pod };
        (Cidr::around(at(n), 32), Arc::new(workload))
    };
    let policy = |(&n, &allows): (&u8, &bool)| {
        let action = if allows { Action::Allow } else { Action::Deny };
        let rules = vec![Rule { name: "r".parse().unwrap(), action, from: vec![] }];
        (format!("p{n}").parse().unwrap(), Arc::new(AccessPolicy { rules, ..AccessPolicy::default() }))
    };
    let (sources, policies) = (pods.iter().map(pod).collect(), policies.iter().map(policy).collect());
    Arc::new(Table { sources, policies, ..Table::default() })
}

proptest! {
    /// However tables follow each other, each is prepared as if it were the first.
    #[test]
    fn what_is_kept_of_the_table_before_is_what_would_be_made(
        tables in prop::collection::vec(
            (prop::collection::btree_map(0_u8..6, 0_u8..3, 0..6), prop::collection::btree_map(0_u8..3, any::<bool>(), 0..3)),
            1..8,
        ),
    ) {
        let mut maker = maker();
        for (pods, policies) in &tables {
            let table = table(pods, policies);
            let (kept, anew) = (maker.prepare(table.clone()), self::maker().prepare(table));
            for n in 0..6 {
                prop_assert_eq!(kept.access.sources.of(at(n)), anew.access.sources.of(at(n)));
                prop_assert_eq!(kept.access.sources.of(at(n)).is_some(), pods.contains_key(&n));
            }
            prop_assert!(kept.access.policies.names().eq(anew.access.policies.names()));
            prop_assert_eq!(kept.access.policies.source(), anew.access.policies.source());
        }
    }
}

#[test]
fn what_did_not_change_is_not_made_again() {
    let mut maker = maker();
    let (pods, policies) = (BTreeMap::from([(1, 1)]), BTreeMap::from([(1, true)]));
    let before = maker.prepare(table(&pods, &policies)).access;
    let after = maker.prepare(table(&BTreeMap::from([(1, 1), (2, 1)]), &policies)).access;
    assert!(Arc::ptr_eq(&before.policies, &after.policies) && !Arc::ptr_eq(&before.sources, &after.sources));
}

#[tokio::test]
async fn cores_get_each_table_with_what_it_says_and_give_it_back() {
    let (to, tables) = watch::channel(table(&BTreeMap::from([(1, 1)]), &BTreeMap::new()));
    let ((spent, put), draining) = (Spent::new(), CancellationToken::new());
    let (thread, mut prepared) = start(maker(), tables, put, draining.clone()).unwrap();
    let first = prepared.borrow_and_update().clone();
    assert!(first.access.sources.of(at(1)).is_some(), "the first is there at once");
    to.send_replace(table(&BTreeMap::from([(2, 1)]), &BTreeMap::new()));
    prepared.changed().await.unwrap();
    let second = prepared.borrow_and_update().clone();
    assert!(second.table.sources.len() == 1 && second.access.sources.of(at(2)).is_some());
    let gone = Arc::downgrade(&first.access.sources);
    spent.put(first);
    while gone.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
    draining.cancel();
    assert!(prepared.changed().await.is_err());
    thread.join().unwrap();
    // Nobody takes it any more, and nobody is stopped by that.
    spent.put(second);
}
