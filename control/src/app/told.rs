//! ● What a peer is told of our services, and what is taken of its own: within the namespaces that the link is for.

use crate::exchange::{Services, Summaries, summary};
use isthmus_control_api::{Namespaces, ServiceName};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::watch;
use tracing::warn;

/// Those of our services that peers are told of.
#[derive(Debug, Default)]
pub(super) struct Own {
    newest: Arc<Services>,
    told: Arc<Services>,
    untold: Arc<Untold>,
}

/// Services for which there is no room.
pub(super) type Untold = BTreeSet<ServiceName>;

/// What one peer is told. Made again only when something that it is made from changes.
#[derive(Debug, Default)]
pub(super) struct Told {
    said: watch::Sender<Arc<Summaries>>,
    untold: Arc<Untold>,
    from: Option<From>,
}

/// What a peer is told is made from.
#[derive(Debug, Clone)]
struct From {
    services: Arc<Services>,
    beyond: Arc<Untold>,
    choice: Namespaces,
    theirs: Arc<Summaries>,
    namespaces: Option<Arc<BTreeSet<Arc<str>>>>,
}

/// What was said of our services to peers for whom there was room for all of it: others that are told the same are told that very one. So a
/// change is worked out once and not for each of a hundred peers. No more of them than peers, and none of services that were before.
#[derive(Debug, Default)]
pub(super) struct Common {
    services: Arc<Services>,
    said: Vec<(Namespaces, Arc<Summaries>)>,
}

/// What is taken of what a peer says.
#[derive(Debug, Default)]
pub(super) struct Taken(Option<(Arc<Summaries>, Namespaces, Arc<Summaries>)>);

impl Own {
    /// What to tell, where `newest` is so: not of every small shift, and no more than there is room for.
    pub(super) fn tell(&mut self, newest: &Arc<Services>) -> Arc<Services> {
        if !Arc::ptr_eq(&self.newest, newest) {
            self.newest = newest.clone();
            let mut said = Summaries { services: summary::tell(&self.told, newest), ..Summaries::default() };
            let untold = said.fit(&self.told);
            if let Some(first) = untold.first().filter(|_| untold.len() != self.untold.len()) {
                warn!(services = untold.len(), %first, "more is exported than peers can be told: these are left out");
            }
            if *self.untold != untold {
                self.untold = Arc::new(untold);
            }
            if *self.told != said.services {
                self.told = Arc::new(said.services);
            }
        }
        self.told.clone()
    }

    /// The services that there was no room for.
    pub(super) fn untold(&self) -> &Arc<Untold> {
        &self.untold
    }
}

impl Told {
    /// What is told, and each that follows.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Summaries>> {
        self.said.subscribe()
    }

    /// How many services it is told of.
    pub(super) fn len(&self) -> usize {
        self.said.borrow().services.len()
    }

    /// The services that it is not told of, since there is no room for them.
    pub(super) fn untold(&self) -> &Arc<Untold> {
        &self.untold
    }

    /// Tells those of `services` that are in the namespaces of `choice`; and which namespaces of `theirs`, the peer's own services,
    /// are not among ours. For those of `beyond` there was no room already. What others are told, too, is shared with them by `common`.
    pub(super) fn tell(
        &mut self,
        (services, beyond): (&Arc<Services>, &Arc<Untold>),
        common: &mut Common,
        choice: &Namespaces,
        theirs: &Arc<Summaries>,
        namespaces: Option<&Arc<BTreeSet<Arc<str>>>>,
    ) {
        let from = From {
            services: services.clone(),
            beyond: beyond.clone(),
            choice: choice.clone(),
            theirs: theirs.clone(),
            namespaces: namespaces.cloned(),
        };
        if self.from.as_ref().is_some_and(|known| known.is_same(&from)) {
            return;
        }
        let (said, mut untold) = self.summaries(&from, common);
        untold.extend(beyond.iter().filter(|name| choice.contains(name.namespace())).cloned());
        if *self.untold != untold {
            self.untold = Arc::new(untold);
        }
        self.from = Some(from);
        self.said.send_if_modified(|told| {
            let differs = *told != said;
            if differs {
                *told = said;
            }
            differs
        });
    }

    /// What to tell by `from`, and the services that there is no room for.
    fn summaries(&self, from: &From, common: &mut Common) -> (Arc<Summaries>, Untold) {
        let before = self.said.borrow();
        let is_lacking_same = self.from.as_ref().is_some_and(|known| known.lacks_the_same(from));
        let lacking = if is_lacking_same { before.lacking.clone() } else { from.lacking() };
        if let Some(said) = common.of(from, &lacking) {
            return (said, Untold::new());
        }
        let mut said = Summaries { services: within(&from.services, &from.choice), lacking };
        // Ours fit already; with what is lacking they may not.
        let untold = said.fit(&before.services);
        let said = Arc::new(said);
        if untold.is_empty() {
            common.put(from, &said);
        }
        (said, untold)
    }
}

impl Common {
    /// What was made of the same.
    fn of(&self, from: &From, lacking: &BTreeSet<Arc<str>>) -> Option<Arc<Summaries>> {
        let known = if Arc::ptr_eq(&self.services, &from.services) { &self.said[..] } else { &[] };
        let same = known.iter().find(|(choice, said)| *choice == from.choice && said.lacking == *lacking);
        same.map(|(_, said)| said.clone())
    }

    fn put(&mut self, from: &From, said: &Arc<Summaries>) {
        if !Arc::ptr_eq(&self.services, &from.services) {
            (self.services, self.said) = (from.services.clone(), Vec::new());
        }
        self.said.push((from.choice.clone(), said.clone()));
    }
}

impl From {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.services, &other.services)
            && Arc::ptr_eq(&self.beyond, &other.beyond)
            && Arc::ptr_eq(&self.theirs, &other.theirs)
            && self.namespaces == other.namespaces
            && self.choice == other.choice
    }

    /// Whether the same namespaces are lacking, for all that is known.
    fn lacks_the_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.theirs, &other.theirs) && self.namespaces == other.namespaces
    }

    /// The namespaces of the peer's services that are not among ours.
    fn lacking(&self) -> BTreeSet<Arc<str>> {
        let lacks = |namespace: &&str| self.namespaces.as_ref().is_some_and(|own| !own.contains(*namespace));
        self.theirs.services.keys().map(ServiceName::namespace).filter(lacks).map(Arc::from).collect()
    }
}

impl Taken {
    /// Those of `all` that are in the namespaces of `choice`.
    pub(super) fn of(&mut self, all: &Arc<Summaries>, choice: &Namespaces) -> Arc<Summaries> {
        if *choice == Namespaces::All {
            self.0 = None;
            return all.clone();
        }
        if let Some((from, chosen, taken)) = &self.0
            && Arc::ptr_eq(from, all)
            && chosen == choice
        {
            return taken.clone();
        }
        let taken = Summaries { services: within(&all.services, choice), lacking: all.lacking.clone() };
        let taken = Arc::new(taken);
        self.0 = Some((all.clone(), choice.clone(), taken.clone()));
        taken
    }
}

fn within(services: &Services, choice: &Namespaces) -> Services {
    let chosen = services.iter().filter(|(name, _)| choice.contains(name.namespace()));
    chosen.map(|(name, summary)| (name.clone(), summary.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MAX_SERVICE_PORTS, exchange::samples::summary};

    fn services(names: &[&str]) -> Arc<Services> {
        Arc::new(names.iter().map(|name| (name.parse().unwrap(), Arc::new(summary(80, 1)))).collect())
    }

    fn only(namespace: &str) -> Namespaces {
        Namespaces::Only([namespace.into()].into())
    }

    #[test]
    fn a_peer_hears_of_its_namespaces_only_and_of_those_that_are_missing() {
        let ours = services(&["shop/api", "ops/log"]);
        let theirs =
            Arc::new(Summaries { services: (*services(&["away/db", "shop/db"])).clone(), ..Summaries::default() });
        let here: Arc<BTreeSet<Arc<str>>> = Arc::new(["shop".into(), "ops".into()].into());
        let (mut told, none, mut common) = (Told::default(), Arc::default(), Common::default());
        told.tell((&ours, &none), &mut common, &only("shop"), &theirs, Some(&here));
        let mut heard = told.subscribe();
        let said = heard.borrow_and_update().clone();
        assert!(said.services.keys().map(ToString::to_string).eq(["shop/api"]));
        assert!(said.lacking.iter().map(|namespace| &**namespace).eq(["away"]));
        told.tell((&ours, &none), &mut common, &only("shop"), &theirs, Some(&here));
        assert!(!heard.has_changed().unwrap(), "the same again is no news");
        told.tell((&ours, &none), &mut common, &Namespaces::All, &theirs, None);
        assert_eq!((heard.borrow().services.len(), heard.borrow().lacking.len()), (2, 0));
    }

    /// Tells four peers of `ours`: the first and the last are alike, one between them may hear of less, and one has a namespace that is missing here. Each of them alone,
    /// where there is nothing in common.
    fn tell_four(peers: &mut [Told; 4], mut common: Option<&mut Common>, ours: &Arc<Services>) -> Vec<Arc<Summaries>> {
        let here: Arc<BTreeSet<Arc<str>>> = Arc::new(["shop".into(), "ops".into()].into());
        let away = Arc::new(Summaries { services: (*services(&["away/db"])).clone(), ..Summaries::default() });
        let (none, nothing) = (Arc::default(), Arc::default());
        let all = Namespaces::All;
        let of = [(all.clone(), &nothing), (only("shop"), &nothing), (all.clone(), &away), (all, &nothing)];
        for (told, (choice, theirs)) in peers.iter_mut().zip(of) {
            let mut own = Common::default();
            let common = common.as_deref_mut().unwrap_or(&mut own);
            told.tell((ours, &none), common, &choice, theirs, Some(&here));
        }
        peers.iter().map(|told| told.said.borrow().clone()).collect()
    }

    #[test]
    fn peers_that_are_told_the_same_are_told_one_and_the_same() {
        let (mut peers, mut alone, mut common) = (Default::default(), Default::default(), Common::default());
        for names in [["shop/api", "ops/log"], ["shop/api", "ops/db"], ["shop/db", "ops/db"]] {
            let ours = services(&names);
            let said = tell_four(&mut peers, Some(&mut common), &ours);
            assert!(Arc::ptr_eq(&said[0], &said[3]));
            assert_eq!(said, tell_four(&mut alone, None, &ours));
            let sizes = said.iter().map(|said| (said.services.len(), said.lacking.len()));
            assert!(sizes.eq([(2, 0), (1, 0), (2, 1), (2, 0)]));
        }
    }

    #[test]
    fn small_shifts_are_not_told_and_no_more_than_there_is_room_for() {
        let ready = |ready| Arc::new(Services::from([("shop/api".parse().unwrap(), Arc::new(summary(80, ready)))]));
        let mut own = Own::default();
        let told = own.tell(&ready(100));
        assert!(Arc::ptr_eq(&own.tell(&ready(101)), &told));
        assert_eq!(own.tell(&ready(50)), ready(50));
        let name = |n: usize| format!("shop/s{n:05}").parse().unwrap();
        let many = (0..MAX_SERVICE_PORTS + 2).map(|n| (name(n), Arc::new(summary(80, 1))));
        let many = own.tell(&Arc::new(many.collect()));
        assert_eq!(many.len(), MAX_SERVICE_PORTS);
        assert!(own.untold().iter().map(ServiceName::name).eq(["s10000", "s10001"]));
        // A peer that does not hear of the namespace at all misses nothing.
        let (mut of_shop, mut of_ops) = (Told::default(), Told::default());
        of_shop.tell((&many, own.untold()), &mut Common::default(), &Namespaces::All, &Arc::default(), None);
        of_ops.tell((&many, own.untold()), &mut Common::default(), &only("ops"), &Arc::default(), None);
        assert_eq!((of_shop.untold().len(), of_ops.untold().len()), (2, 0));
    }

    #[test]
    fn what_is_taken_is_within_the_links_namespaces() {
        let theirs =
            Arc::new(Summaries { services: (*services(&["shop/api", "ops/log"])).clone(), ..Summaries::default() });
        let mut taken = Taken::default();
        assert!(Arc::ptr_eq(&taken.of(&theirs, &Namespaces::All), &theirs));
        let ops = taken.of(&theirs, &only("ops"));
        assert!(ops.services.keys().map(ToString::to_string).eq(["ops/log"]));
        assert!(Arc::ptr_eq(&taken.of(&theirs, &only("ops")), &ops));
    }
}
