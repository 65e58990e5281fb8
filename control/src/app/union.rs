//! ● What several gateways of a cluster say that it exports, together.

use crate::exchange::{Services, Summaries};
use std::{collections::btree_map::Entry, sync::Arc};

/// What they say together: a service that any of them has, as the one says that has the most endpoints of it. They agree, but for the
/// moments in which a change reaches one before the other.
///
/// No more than one gateway may say: beyond that the first by name stay, whichever gateway says them.
#[derive(Debug)]
pub(super) struct Union {
    /// What it was made from.
    said: Vec<Arc<Summaries>>,
    all: Arc<Summaries>,
    is_cut: bool,
}

impl Union {
    /// What was said before: it holds until a gateway says anything.
    pub(super) fn new(kept: Arc<Summaries>) -> Self {
        Self { said: Vec::new(), all: kept, is_cut: false }
    }

    /// The gateways say this now. Nothing is worked out again unless one of them says something else than last time; what they said
    /// last stays when none says anything.
    pub(super) fn say(&mut self, said: Vec<Arc<Summaries>>) {
        let same = said.len() == self.said.len() && said.iter().zip(&self.said).all(|(new, old)| Arc::ptr_eq(new, old));
        if !same && let Some((all, is_cut)) = unite(&said) {
            (self.all, self.is_cut) = (all, is_cut);
        }
        self.said = said;
    }

    /// What they say together.
    pub(super) fn all(&self) -> &Arc<Summaries> {
        &self.all
    }

    /// Whether they say more than the bound, so that some of it is left out.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }
}

/// Those that there is room for, and whether others are left out. `None` of none.
fn unite(said: &[Arc<Summaries>]) -> Option<(Arc<Summaries>, bool)> {
    let (first, others) = said.split_first()?;
    if others.iter().all(|more| more == first) {
        return Some((first.clone(), false));
    }
    let mut all = (**first).clone();
    for more in others {
        all.lacking.extend(more.lacking.iter().cloned());
        for (service, summary) in &more.services {
            match all.services.entry(service.clone()) {
                Entry::Vacant(place) => {
                    place.insert(summary.clone());
                }
                Entry::Occupied(mut known) if known.get().most_ready() < summary.most_ready() => {
                    known.insert(summary.clone());
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    // Nothing counts but the names: every control is to come to the same.
    let is_cut = !all.fit(&Services::new()).is_empty();
    Some((Arc::new(all), is_cut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MAX_SERVICE_PORTS, exchange::samples::summary};
    use proptest::prelude::*;

    fn said(ready: impl IntoIterator<Item = (String, u32)>) -> Arc<Summaries> {
        let services = ready.into_iter().map(|(name, ready)| (name.parse().unwrap(), Arc::new(summary(80, ready))));
        Arc::new(Summaries { services: services.collect(), ..Summaries::default() })
    }

    fn few(ready: &[(&str, u32)]) -> Arc<Summaries> {
        said(ready.iter().map(|(name, ready)| ((*name).to_owned(), *ready)))
    }

    /// So many services of names that no other gateway says.
    fn many(gateway: usize, count: usize) -> Arc<Summaries> {
        said((0..count).map(|n| (format!("shop/s{n:05}-{gateway}"), 1)))
    }

    fn together(said: &[Arc<Summaries>]) -> Arc<Summaries> {
        let mut union = Union::new(Arc::default());
        union.say(said.to_vec());
        union.all().clone()
    }

    #[test]
    fn several_gateways_say_the_same_or_the_better() {
        let (old, new) = (few(&[("shop/api", 2), ("shop/db", 1)]), few(&[("shop/api", 3)]));
        let both = few(&[("shop/api", 3), ("shop/db", 1)]);
        assert_eq!(together(&[old.clone(), new.clone()]), both);
        assert_eq!(together(&[new, old.clone()]), both);
        let alike = few(&[("shop/api", 2), ("shop/db", 1)]);
        assert!(Arc::ptr_eq(&together(&[old.clone(), alike]), &old), "nothing is copied of what is the same");
    }

    #[test]
    fn what_was_said_stays_when_nobody_says_anything() {
        let (kept, new) = (few(&[("shop/api", 2)]), few(&[("shop/db", 1)]));
        let mut union = Union::new(kept.clone());
        union.say(vec![]);
        assert_eq!(*union.all(), kept);
        union.say(vec![new.clone()]);
        union.say(vec![]);
        assert_eq!(*union.all(), new);
    }

    #[test]
    fn it_is_worked_out_again_only_when_a_gateway_says_something_else() {
        let (one, two) = (few(&[("shop/api", 2)]), few(&[("shop/db", 1)]));
        let mut union = Union::new(Arc::default());
        union.say(vec![one.clone(), two.clone()]);
        let all = union.all().clone();
        union.say(vec![one.clone(), two]);
        assert!(Arc::ptr_eq(&all, union.all()));
        union.say(vec![one.clone()]);
        assert_eq!(*union.all(), one);
    }

    #[test]
    fn thirty_two_gateways_say_no_more_than_one_may() {
        let mut all: Vec<_> = (0..32).map(|gateway| many(gateway, 1000)).collect();
        let mut union = Union::new(Arc::default());
        union.say(all.clone());
        assert_eq!(union.all().services.len(), MAX_SERVICE_PORTS);
        assert!(union.is_cut());
        let kept = union.all().clone();
        all.reverse();
        union.say(all);
        assert_eq!(*union.all(), kept, "whichever says it first");
        union.say(vec![many(0, MAX_SERVICE_PORTS)]);
        assert!(!union.is_cut());
    }

    proptest! {
        #[test]
        fn it_has_the_most_that_any_says(gateways in prop::collection::vec(prop::collection::btree_map(0u8..9, 0u32..4, 0..9), 1..5)) {
            let views: Vec<_> =
                gateways.iter().map(|view| said(view.iter().map(|(name, ready)| (format!("shop/s{name}"), *ready)))).collect();
            let mut most = std::collections::BTreeMap::new();
            for (name, ready) in gateways.iter().flatten() {
                let known = most.entry(*name).or_insert(*ready);
                *known = (*known).max(*ready);
            }
            prop_assert_eq!(together(&views), said(most.into_iter().map(|(name, ready)| (format!("shop/s{name}"), ready))));
        }
    }
}
