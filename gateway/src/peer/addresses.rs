//! ● The addresses that a link's gateways are dialled at: those that the table has, and those that its names were found to have.
//!
//! A name is looked up again and again, because load balancers move and gateways come and go. An address that it has no more is
//! given up a little later: resolvers answer with some of many addresses, now these and now those. One that comes back after that
//! is kept for longer each time. Where looking it up fails, what it had last stays.

use isthmus_control_api::PeerAddress;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Between two lookups of a name.
const EVERY: Duration = Duration::from_secs(10);
/// The same, where one of its addresses does not work.
const SOON: Duration = Duration::from_secs(1);
/// How long an address stays that the name has no more.
const KEPT: Duration = Duration::from_secs(20);
/// The longest that this becomes for one that comes and goes.
const LONGEST_KEPT: Duration = Duration::from_mins(10);
/// How long it is remembered that an address came and went.
const REMEMBERED: Duration = Duration::from_mins(30);
/// Addresses that were given up and are remembered, of one name; the oldest are forgotten.
const GONE: usize = 64;
/// Addresses of one link; more are left out.
const MOST: usize = 32;

/// The addresses of one link.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Vec<Host>);

#[derive(Debug)]
struct Host {
    endpoint: PeerAddress,
    /// What it was found to have, and had.
    found: BTreeMap<IpAddr, Found>,
    /// When it was last found at all.
    answered: Option<Instant>,
    /// Why looking it up failed last.
    problem: Option<String>,
    /// `None` of an address, which need not be looked up, and while it is being looked up.
    next: Option<Instant>,
    asked: Option<Instant>,
}

/// An address of a name.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// When it was last found.
    seen: Instant,
    /// How long it stays from then on.
    kept: Duration,
    /// It did not stay.
    gone: bool,
}

impl Addresses {
    /// Takes over what the table has. What is known of names that stay is kept.
    pub(crate) fn configure(&mut self, endpoints: &[PeerAddress], now: Instant) {
        let mut old = std::mem::take(&mut self.0);
        for endpoint in endpoints {
            let known = old.iter().position(|host| host.endpoint == *endpoint);
            self.0.push(known.map_or_else(|| Host::new(endpoint, now), |at| old.swap_remove(at)));
        }
    }

    /// The names to look up now. Each is to be answered.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<PeerAddress> {
        let due = self.0.iter_mut().filter(|host| host.next.is_some_and(|next| next <= now));
        due.map(|host| {
            (host.next, host.asked) = (None, Some(now));
            host.endpoint.clone()
        })
        .collect()
    }

    /// When there is a name to look up next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().filter_map(|host| host.next).min()
    }

    /// An address does not work: its name may have moved.
    pub(crate) fn hurry(&mut self, now: Instant) {
        for host in &mut self.0 {
            let soon = host.asked.map_or(now, |asked| asked + SOON);
            host.next = host.next.map(|next| next.min(soon));
        }
    }

    /// What a name was found to have, or why nothing was found, in one line.
    pub(crate) fn answer(&mut self, endpoint: &PeerAddress, found: Result<Vec<IpAddr>, String>, now: Instant) {
        let Some(host) = self.0.iter_mut().find(|host| host.endpoint == *endpoint) else { return };
        host.next = Some(now + EVERY);
        match found {
            Ok(found) if !found.is_empty() => {
                (host.answered, host.problem) = (Some(now), None);
                host.found(found, now);
            }
            Ok(_) => host.problem = Some(format!("{} has no address", endpoint.host)),
            Err(why) => host.problem = Some(why),
        }
    }

    /// All of them, each once: in the order of the table, those of a name in their own, so that all cores have the same.
    pub(crate) fn list(&self) -> Vec<SocketAddr> {
        let mut list = Vec::new();
        for host in &self.0 {
            for (&ip, _) in host.found.iter().filter(|(_, found)| !found.gone) {
                let address = SocketAddr::new(ip, host.endpoint.port);
                if list.len() < MOST && !list.contains(&address) {
                    list.push(address);
                }
            }
        }
        list
    }

    /// What is wrong with the names, in one line.
    pub(crate) fn problem(&self) -> Option<String> {
        let problems: Vec<String> = self.0.iter().filter_map(Host::problem).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}

impl Host {
    fn new(endpoint: &PeerAddress, now: Instant) -> Self {
        let literal: Option<IpAddr> = endpoint.host.parse().ok();
        Self {
            endpoint: endpoint.clone(),
            found: literal.map(|ip| (ip, Found::new(now))).into_iter().collect(),
            answered: None,
            problem: None,
            next: literal.is_none().then_some(now),
            asked: None,
        }
    }

    /// It has these now.
    fn found(&mut self, found: Vec<IpAddr>, now: Instant) {
        for ip in found {
            let known = self.found.entry(ip).or_insert_with(|| Found::new(now));
            if std::mem::take(&mut known.gone) {
                known.kept = LONGEST_KEPT.min(2 * known.kept);
            }
            known.seen = now;
        }
        self.found.values_mut().for_each(|known| known.gone = known.seen + known.kept <= now);
        self.found.retain(|_, known| !known.gone || known.seen + REMEMBERED > now);
        let mut gone: Vec<_> =
            self.found.iter().filter(|(_, known)| known.gone).map(|(&ip, known)| (known.seen, ip)).collect();
        gone.sort_unstable();
        for (_, ip) in gone.iter().take(gone.len().saturating_sub(GONE)) {
            self.found.remove(ip);
        }
    }

    fn problem(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(match self.answered {
            Some(_) => format!("{problem}; its last addresses stay in use"),
            None => problem.clone(),
        })
    }
}

impl Found {
    fn new(now: Instant) -> Self {
        Self { seen: now, kept: KEPT, gone: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoints(of: &[&str]) -> Vec<PeerAddress> {
        of.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|&last| IpAddr::from([192, 0, 2, last])).collect()
    }

    fn list(addresses: &Addresses) -> Vec<String> {
        addresses.list().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_need_no_lookup_and_names_do_at_once() {
        let now = Instant::now();
        let mut addresses = Addresses::default();
        addresses.configure(&endpoints(&["192.0.2.9:1", "[2001:db8::1]:2", "gw.east:3", "192.0.2.9:1"]), now);
        assert_eq!(list(&addresses), ["192.0.2.9:1", "[2001:db8::1]:2"]);
        assert_eq!(addresses.due(now), endpoints(&["gw.east:3"]));
        assert_eq!((addresses.due(now), addresses.next()), (vec![], None));
        addresses.answer(&endpoints(&["gw.east:3"])[0], Ok(ips(&[7, 5])), now);
        assert_eq!(list(&addresses)[2..], ["192.0.2.5:3", "192.0.2.7:3"]);
        assert_eq!(addresses.next(), Some(now + EVERY));
    }

    #[test]
    fn a_name_that_moves_is_followed_and_one_that_fails_stays_where_it_was() {
        let mut now = Instant::now();
        let mut addresses = Addresses::default();
        let name = &endpoints(&["gw.east:3"])[0];
        addresses.configure(std::slice::from_ref(name), now);
        addresses.answer(name, Ok(ips(&[1])), now);
        now += EVERY;
        addresses.answer(name, Ok(ips(&[2])), now);
        assert_eq!(list(&addresses), ["192.0.2.1:3", "192.0.2.2:3"], "the old one is not given up at once");
        now += KEPT;
        addresses.answer(name, Ok(ips(&[2])), now);
        assert_eq!(list(&addresses), ["192.0.2.2:3"]);
        for _ in 0..10 {
            now += KEPT;
            addresses.answer(name, Err("cannot look up gw.east".into()), now);
        }
        assert_eq!(list(&addresses), ["192.0.2.2:3"]);
        assert_eq!(addresses.problem().unwrap(), "cannot look up gw.east; its last addresses stay in use");
        addresses.answer(name, Ok(ips(&[2])), now);
        assert_eq!(addresses.problem(), None);
        addresses.configure(&endpoints(&["gw.east:4"]), now);
        addresses.answer(&endpoints(&["gw.east:4"])[0], Ok(vec![]), now);
        assert_eq!(addresses.problem().unwrap(), "gw.east has no address");
    }

    /// One of two addresses is there for half a minute and away for another, again and again.
    #[test]
    fn an_address_that_comes_and_goes_is_given_up_ever_more_seldom() {
        let (begun, mut now) = (Instant::now(), Instant::now());
        let mut addresses = Addresses::default();
        let name = &endpoints(&["gw.east:3"])[0];
        addresses.configure(std::slice::from_ref(name), now);
        let (mut times, mut was_there, mut away) = (0, true, Duration::ZERO);
        while now < begun + Duration::from_hours(2) {
            let there = (now - begun).as_secs() / 30 % 2 == 0;
            addresses.answer(name, Ok(ips(if there { &[1, 2] } else { &[1] })), now);
            let is_there = list(&addresses).len() == 2;
            times += usize::from(was_there && !is_there);
            was_there = is_there;
            now += EVERY;
        }
        assert!((1..=2).contains(&times), "given up {times} times");
        while list(&addresses).len() == 2 {
            addresses.answer(name, Ok(ips(&[1])), now);
            (now, away) = (now + EVERY, away + EVERY);
        }
        assert!(away <= LONGEST_KEPT, "and one that is gone for good is given up");
    }

    #[test]
    fn an_address_that_fails_brings_the_next_lookup_forward_but_not_more_than_once_a_second() {
        let now = Instant::now();
        let mut addresses = Addresses::default();
        let name = &endpoints(&["gw.east:3"])[0];
        addresses.configure(std::slice::from_ref(name), now);
        addresses.due(now);
        addresses.hurry(now);
        assert_eq!(addresses.next(), None, "it is being looked up");
        addresses.answer(name, Ok(ips(&[1])), now);
        addresses.hurry(now);
        assert_eq!(addresses.next(), Some(now + SOON));
    }

    proptest! {
        #[test]
        fn there_is_never_more_than_the_bound_and_never_one_twice(found in prop::collection::vec(any::<u8>(), 0..200)) {
            let now = Instant::now();
            let mut addresses = Addresses::default();
            let names = endpoints(&["a:1", "b:1"]);
            addresses.configure(&names, now);
            names.iter().for_each(|name| addresses.answer(name, Ok(ips(&found)), now));
            prop_assert!(addresses.0.iter().all(|host| host.found.len() <= 256));
            // All of them are given up for one; few of them are remembered.
            let mut moved = addresses;
            names.iter().for_each(|name| moved.answer(name, Ok(ips(&[7])), now + KEPT));
            prop_assert!(moved.0.iter().all(|host| host.found.len() <= GONE + 1));
            let list = moved.list();
            let set: std::collections::BTreeSet<_> = list.iter().collect();
            prop_assert!(list.len() <= MOST && set.len() == list.len());
        }
    }
}
