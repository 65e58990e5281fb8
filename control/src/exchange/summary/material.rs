//! ● Which changes of what is ready peers are told of.

use super::{Services, Summary};
use std::sync::Arc;

/// Below this, every endpoint more or less counts.
const FEW: u32 = 5;
/// One part in so many is a shift worth telling.
const SHARE: u32 = 5;

/// What to tell, where `told` was told last and `newest` is so: the newest, but for services of which only the numbers of ready
/// endpoints differ, and not by much. Whether anything is ready at all is always told.
pub fn tell(told: &Services, newest: &Services) -> Services {
    let one = |(name, new): (&_, &Arc<Summary>)| {
        let old = told.get(name).filter(|old| !is_material(old, new));
        (Clone::clone(name), old.unwrap_or(new).clone())
    };
    newest.iter().map(one).collect()
}

fn is_material(old: &Summary, new: &Summary) -> bool {
    if old == new {
        return false;
    }
    let same_but_counts = || {
        let mut alike = old.clone();
        alike.zones = new.zones.clone();
        for (port, summary) in &mut alike.ports {
            summary.ready = new.ports.get(port).map_or(summary.ready, |new| new.ready);
        }
        alike == *new
    };
    let ports =
        || old.ports.iter().any(|(port, old)| shifts(old.ready, new.ports.get(port).map_or(0, |new| new.ready)));
    let mut zones = old.zones.keys().chain(new.zones.keys());
    let count = |of: &Summary, zone| of.zones.get(zone).copied().unwrap_or_default();
    !same_but_counts() || ports() || zones.any(|zone| shifts(count(old, zone), count(new, zone)))
}

/// Whether a number of endpoints has changed by a fifth, or a small one at all.
fn shifts(old: u32, new: u32) -> bool {
    old != new && (old.min(new) < FEW || u64::from(old.abs_diff(new)) * u64::from(SHARE) >= u64::from(old))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::samples::{any_services, summary};
    use proptest::prelude::*;

    fn services(ready: u32) -> Services {
        [("shop/api".parse().unwrap(), Arc::new(summary(80, ready)))].into()
    }

    #[test]
    fn small_shifts_are_not_told_and_great_ones_are() {
        for (old, new, told) in
            [(100, 119, false), (100, 120, true), (100, 80, true), (100, 81, false), (9, 10, false), (4, 5, true)]
        {
            let is_told = tell(&services(old), &services(new)) == services(new);
            assert_eq!(is_told, told, "{old} to {new}");
        }
        for (old, new) in [(0, 1), (1, 0), (1000, 0), (0, 1000), (2, 3)] {
            assert_eq!(tell(&services(old), &services(new)), services(new), "{old} to {new}");
        }
    }

    #[test]
    fn shifts_do_not_add_up_untold() {
        let mut told = services(100);
        for ready in 101..=200 {
            told = tell(&told, &services(ready));
            let known = told.values().next().unwrap().most_ready();
            assert!(known * 6 / 5 >= ready, "{known} known of {ready}");
        }
    }

    #[test]
    fn what_else_changes_takes_the_numbers_along() {
        let mut new = summary(80, 101);
        new.headless = true;
        let new: Services = [("shop/api".parse().unwrap(), Arc::new(new))].into();
        assert_eq!(tell(&services(100), &new), new);
    }

    proptest! {
        #[test]
        fn what_is_told_differs_in_numbers_only(told in any_services(), newest in any_services()) {
            let tells = tell(&told, &newest);
            prop_assert!(tells.keys().eq(newest.keys()));
            for (told, new) in tells.values().zip(newest.values()) {
                let port = |summary: &Summary| -> Vec<_> {
                    summary.ports.iter().map(|(key, port)| (*key, port.name.clone(), port.ready == 0)).collect()
                };
                prop_assert_eq!(port(told), port(new));
                prop_assert_eq!((&told.labels, &told.members), (&new.labels, &new.members));
            }
            prop_assert_eq!(tell(&tells, &newest), tells);
        }
    }
}
