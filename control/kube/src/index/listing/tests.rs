use super::*;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use proptest::prelude::*;

#[derive(Default)]
struct Store {
    objects: BTreeMap<ObjectKey, Arc<ConfigMap>>,
    listing: Listing<ConfigMap>,
}

impl Store {
    fn take(&mut self, event: Event<ConfigMap>) -> bool {
        self.listing.take(event, &mut self.objects).is_any()
    }

    fn known(&self) -> Vec<(String, String)> {
        let version = |object: &ConfigMap| object.metadata.resource_version.clone().unwrap();
        self.objects.iter().map(|(key, object)| (key.name.to_string(), version(object))).collect()
    }
}

fn object(name: u8, version: u32) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            namespace: Some("shop".into()),
            name: Some(format!("c{name}")),
            uid: Some(format!("uid-{name}")),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

#[test]
fn a_list_is_truth_when_it_is_complete_and_not_before() {
    let mut store = Store::default();
    assert!(!store.listing.is_complete());
    for event in [Event::Init, Event::InitApply(object(1, 1)), Event::InitApply(object(2, 1))] {
        assert!(!store.take(event));
    }
    assert!(store.objects.is_empty() && !store.listing.is_complete());
    assert!(store.take(Event::InitDone) && store.listing.is_complete());
    assert_eq!(store.objects.len(), 2);
    // The next one breaks off, and the one after that lacks an object.
    assert!(!store.take(Event::Init));
    assert_eq!(store.objects.len(), 2);
    for event in [Event::Init, Event::InitApply(object(2, 1))] {
        assert!(!store.take(event));
    }
    assert!(store.take(Event::InitDone));
    assert_eq!(store.known(), [("c2".into(), "1".into())]);
}

#[test]
fn an_empty_complete_list_empties_and_the_first_one_is_news() {
    let mut store = Store::default();
    assert!(!store.take(Event::InitDone), "of a list that never began");
    store.take(Event::Init);
    assert!(store.take(Event::InitDone), "now it is known that there is nothing");
    store.take(Event::Init);
    assert!(!store.take(Event::InitDone));
    store.take(Event::Apply(object(1, 1)));
    store.take(Event::Init);
    assert!(store.take(Event::InitDone));
    assert!(store.objects.is_empty());
}

#[test]
fn what_is_the_same_is_no_change_and_stays_where_it_is() {
    let mut store = Store::default();
    assert!(store.take(Event::Apply(object(1, 1))));
    assert!(!store.take(Event::Apply(object(1, 1))));
    let before = store.objects.values().next().unwrap().clone();
    for event in [Event::Init, Event::InitApply(object(1, 1)), Event::InitDone] {
        store.take(event);
    }
    assert!(Arc::ptr_eq(&before, store.objects.values().next().unwrap()));
    assert!(store.take(Event::Apply(object(1, 2))));
    assert!(store.take(Event::Delete(object(1, 2))));
    assert!(!store.take(Event::Delete(object(1, 2))));
}

/// What happens to a cluster's objects, and to a watch of them.
#[derive(Debug, Clone)]
enum Step {
    Write(u8),
    Remove(u8),
    /// The watch lists again; the list breaks off after so many objects, if it does.
    Relist(Option<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..6).prop_map(Step::Write),
        2 => (0u8..6).prop_map(Step::Remove),
        2 => prop::option::of(0u8..6).prop_map(Step::Relist),
    ];
    prop::collection::vec(step, 0..60)
}

fn as_known<'a>(objects: impl IntoIterator<Item = (&'a u8, &'a u32)>) -> Vec<(String, String)> {
    objects.into_iter().map(|(name, version)| (format!("c{name}"), version.to_string())).collect()
}

proptest! {
    #[test]
    fn any_sequence_of_events_leads_to_what_is_there(steps in steps()) {
        let (mut truth, mut store) = (BTreeMap::new(), Store::default());
        let mut version = 0;
        for step in steps {
            let (before, was_complete) = (store.known(), store.listing.is_complete());
            let changed = match step {
                Step::Write(name) => {
                    version += 1;
                    truth.insert(name, version);
                    store.take(Event::Apply(object(name, version)))
                }
                Step::Remove(name) => match truth.remove(&name) {
                    Some(version) => store.take(Event::Delete(object(name, version))),
                    None => false,
                },
                Step::Relist(breaks_off) => {
                    store.take(Event::Init);
                    let listed = breaks_off.map_or(usize::MAX, usize::from);
                    for (&name, &version) in truth.iter().take(listed) {
                        store.take(Event::InitApply(object(name, version)));
                    }
                    breaks_off.is_none() && store.take(Event::InitDone)
                }
            };
            prop_assert_eq!(store.known(), as_known(&truth));
            let is_first = !was_complete && store.listing.is_complete();
            prop_assert_eq!(changed, store.known() != before || is_first);
        }
    }

    /// Events that were missed while a watch was down: a complete list makes up for all of them.
    #[test]
    fn a_complete_list_makes_up_for_what_was_missed(
        before in prop::collection::btree_map(0u8..6, 1u32..4, 0..6), now in prop::collection::btree_map(0u8..6, 1u32..4, 0..6))
    {
        let mut store = Store::default();
        for (&name, &version) in &before {
            store.take(Event::Apply(object(name, version)));
        }
        store.take(Event::Init);
        for (&name, &version) in &now {
            store.take(Event::InitApply(object(name, version)));
        }
        store.take(Event::InitDone);
        prop_assert_eq!(store.known(), as_known(&now));
    }
}
