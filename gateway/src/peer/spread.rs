//! ● Which of a peer's gateways a core keeps tunnels to.
//!
//! With a tunnel to two gateways at least, a new stream has somewhere to go at once when one of them dies. Where each has an address
//! of its own, that is a tunnel to each address, up to a bound. Behind one address there may be several, which a load balancer picks
//! from: a *spare* tunnel is dialled there, and given up for another while it leads to a gateway that has a tunnel already.

use crate::tunnel::link::Backoff;
use isthmus_control_api::GatewayId;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Addresses that a core keeps a tunnel to, if there are as many, and if the other cores have the rest.
const EACH: usize = 4;
/// Times in a row that a tunnel is dialled anew at once, because it leads where another one leads.
const AT_ONCE: u32 = 6;
/// The same, while it is known that there is another gateway: a load balancer that picks by chance among two leads elsewhere then, but
/// for once in sixteen million times.
const AT_ONCE_TO_KNOWN: u32 = 24;
/// The longest wait between these.
const SOON: Duration = Duration::from_secs(1);
/// Then it is tried again after this, and twice that each time, …
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_mins(10);
/// The same, while it is known that there are several gateways: one that is being restarted may be there any moment.
const LONGEST_OF_SEVERAL: Duration = Duration::from_secs(15);
/// How long that is remembered.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Where a tunnel is kept to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// What is dialled.
    pub(crate) address: SocketAddr,
    /// Whether it is wanted only if it leads to another gateway than the others.
    pub(crate) spare: bool,
}

/// What core number `core` of `cores` keeps tunnels to, of `addresses`. Together the cores have all of them.
pub(crate) fn places(addresses: &[SocketAddr], core: usize, cores: usize) -> Vec<Place> {
    let count = addresses.len();
    let place = |address: &SocketAddr, spare| Place { address: *address, spare };
    if let [only] = addresses {
        return vec![place(only, false), place(only, true)];
    }
    let each = EACH.max(count.div_ceil(cores.max(1))).min(count);
    let from = if count == 0 { 0 } else { core * each % count };
    addresses.iter().cycle().skip(from).take(each).map(|address| place(address, false)).collect()
}

/// The search for a gateway that no other tunnel leads to.
#[derive(Debug, Default)]
pub(crate) struct Search {
    in_vain: u32,
    backoff: Backoff,
    /// The gateways that were known to be there and to have no tunnel, when it was last looked.
    missing: BTreeSet<GatewayId>,
    /// When there were last several gateways at once.
    several: Option<Instant>,
}

impl Search {
    /// The tunnel led where another one leads: when to dial again. `known` says whether there is a gateway that it could lead to
    /// instead, as other cores' tunnels show.
    pub(crate) fn in_vain(&mut self, known: bool, now: Instant, random: u64) -> Instant {
        self.in_vain = self.in_vain.saturating_add(1);
        let at_once = if known { AT_ONCE_TO_KNOWN } else { AT_ONCE };
        if self.in_vain < at_once {
            return now + SOON.min(self.backoff.delay(random));
        }
        let several = self.several.is_some_and(|seen| now.saturating_duration_since(seen) < REMEMBERED);
        let longest = if several { LONGEST_OF_SEVERAL } else { LONGEST_WAIT };
        now + longest.min(FIRST_WAIT * (1 << (self.in_vain - at_once).min(8)))
    }

    /// This tunnel and another one led to different gateways until now.
    pub(crate) fn saw_several(&mut self, now: Instant) {
        self.several = Some(now);
    }

    /// It led elsewhere: the next search begins anew.
    pub(crate) fn found(&mut self) {
        (self.in_vain, self.backoff) = (0, Backoff::default());
    }

    /// Whether there is one among the gateways that have no tunnel which had one before, or was not there: then the search begins
    /// anew, at once. Those that were searched for in vain are no news.
    pub(crate) fn is_news(&mut self, missing: BTreeSet<GatewayId>) -> bool {
        let news = missing.iter().any(|gateway| !self.missing.contains(gateway));
        self.missing = missing;
        if news {
            self.found();
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (1..=count).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect()
    }

    #[test]
    fn one_address_has_a_spare() {
        let spares: Vec<_> = places(&addresses(1), 3, 4).iter().map(|place| place.spare).collect();
        assert_eq!(spares, [false, true]);
        assert!(places(&[], 0, 1).is_empty());
    }

    #[test]
    fn a_gateway_that_comes_up_is_news_once() {
        let (mut search, now) = (Search::default(), Instant::now());
        let [a, b] = [GatewayId(1), GatewayId(2)];
        assert!(!search.is_news(BTreeSet::new()));
        assert!(search.is_news([a].into()));
        for _ in 0..20 {
            search.in_vain(false, now, 0);
        }
        assert!(!search.is_news([a].into()));
        assert!(search.in_vain(false, now, 0) - now >= FIRST_WAIT);
        assert!(search.is_news([a, b].into()));
        assert!(search.in_vain(false, now, 0) - now < FIRST_WAIT);
        assert!(!search.is_news([a].into()));
        assert!(search.is_news([a, b].into()), "it had a tunnel meanwhile");
    }

    #[test]
    fn one_of_several_gateways_that_went_is_searched_for_often_for_a_while() {
        let (mut search, mut now) = (Search::default(), Instant::now());
        search.saw_several(now);
        let end = now + REMEMBERED;
        while now < end {
            let next = search.in_vain(false, now, 0);
            assert!(next - now <= LONGEST_OF_SEVERAL);
            now = next;
        }
        assert_eq!(search.in_vain(false, now, 0), now + LONGEST_WAIT, "it is not coming back");
    }

    proptest! {
        #[test]
        fn every_address_has_a_tunnel_and_every_core_two(count in 2u16..40, cores in 1usize..40) {
            let all = addresses(count);
            let mut together = BTreeSet::new();
            for core in 0..cores {
                let places = places(&all, core, cores);
                let own: BTreeSet<_> = places.iter().map(|place| place.address).collect();
                prop_assert!(own.len() == places.len() && own.len() >= 2);
                prop_assert!(own.len() <= EACH.max(all.len().div_ceil(cores)));
                together.extend(own);
            }
            prop_assert_eq!(together.len(), all.len());
        }

        #[test]
        fn a_search_in_vain_becomes_rare_and_never_ends(known: bool, random: u64) {
            let (mut search, now) = (Search::default(), Instant::now());
            let waits: Vec<_> = (0..AT_ONCE_TO_KNOWN + 14).map(|_| search.in_vain(known, now, random) - now).collect();
            let soon = waits.iter().take_while(|wait| **wait <= SOON).count();
            prop_assert_eq!(soon, if known { 23 } else { 5 });
            prop_assert!(waits[soon..].is_sorted() && *waits.last().unwrap() == LONGEST_WAIT);
            search.found();
            prop_assert!(search.in_vain(false, now, random) - now < FIRST_WAIT);
        }
    }
}
