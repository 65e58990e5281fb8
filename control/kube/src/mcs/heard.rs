//! ● What peers have said since a plan was made, where it concerns single services.

use super::{ObjectKey, PeerView, PeerViews};
use isthmus_control::exchange::summary::{Services, Summary};
use isthmus_control_api::ServiceName;
use std::{collections::BTreeSet, sync::Arc};

/// The services of which nothing but the number of ready endpoints is another. `None`: more than that is.
pub fn heard(before: &PeerViews, now: &PeerViews) -> Option<BTreeSet<ObjectKey>> {
    let mut changed = BTreeSet::new();
    if before.len() != now.len() {
        return None;
    }
    for ((cluster, was), (other, is)) in before.iter().zip(now) {
        if cluster != other || !is_same_but_services(was, is) {
            return None;
        }
        changed.extend(changes(&was.exports.services, &is.exports.services)?.map(ObjectKey::from));
    }
    Some(changed)
}

fn is_same_but_services(was: &PeerView, is: &PeerView) -> bool {
    let PeerView { up, synced, late, exports, untold, stated } = was;
    (*up, *synced, *late) == (is.up, is.synced, is.late)
        && *untold == is.untold
        && *stated == is.stated
        && exports.lacking == is.exports.lacking
}

/// Those with other numbers; `None`: some are new, gone, or otherwise changed.
fn changes<'a>(was: &'a Services, is: &'a Services) -> Option<impl Iterator<Item = &'a ServiceName>> {
    type Pair<'a> = ((&'a ServiceName, &'a Arc<Summary>), (&'a ServiceName, &'a Arc<Summary>));
    let differ = |((_, was), (_, is)): &Pair<'_>| !Arc::ptr_eq(was, is) && was != is;
    let is_number = |((name, was), (other, is)): &Pair<'_>| name == other && was.is_same_but_ready(is);
    let pairs = || was.iter().zip(is);
    let all = was.len() == is.len()
        && pairs().all(|pair| pair.0.0 == pair.1.0)
        && pairs().filter(differ).all(|pair| is_number(&pair));
    all.then(|| pairs().filter(differ).map(|pair| pair.0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcs::tests::{key, summary, view};

    fn peers(said: &[(&str, Summary)]) -> PeerViews {
        [("east".parse().unwrap(), view(said)), ("south".parse().unwrap(), view(&[]))].into()
    }

    #[test]
    fn a_number_of_endpoints_concerns_its_service_and_anything_else_all() {
        let said = |number, ready, since| {
            [("shop/api", summary(since, "http", number, ready)), ("shop/db", summary(1, "", 1, 1))]
        };
        let before = peers(&said(80, 3, 1));
        assert_eq!(heard(&before, &peers(&said(80, 3, 1))), Some(BTreeSet::new()));
        assert_eq!(heard(&before, &peers(&said(80, 0, 1))), Some([key("shop/api")].into()));
        for other in [peers(&said(81, 3, 1)), peers(&said(80, 3, 2)), peers(&said(80, 3, 1)[..1]), PeerViews::new()] {
            assert_eq!(heard(&before, &other), None);
            assert_eq!(heard(&other, &before), None);
        }
        let mut down = before.clone();
        down.values_mut().for_each(|peer| peer.up = false);
        assert_eq!(heard(&before, &down), None);
    }
}
