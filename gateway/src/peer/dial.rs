//! Keeps the tunnels that this core dials: a slot for each place that [`super::spread`] names and each transport, as the table and
//! the names' lookups change.

use super::{
    addresses::Addresses,
    choose::Carrier,
    leave::{DRAINING, Leaving},
    lookup::{Found, Lookups},
    relayed,
    slot::{Key, LEFT, Slot, State},
    spread,
};
use crate::{
    core::Core,
    metrics::reasons::{Bound, DialFailure},
};
use isthmus_control_api::{ClusterName, Link, PeerAddress, Table, TransportChoice};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Instant};
use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
};

/// What is known of each link that a core dials.
pub(crate) type LinkStates = BTreeMap<ClusterName, Dialled>;

/// What is known of one.
#[derive(Debug, Default)]
pub(crate) struct Dialled {
    /// Its slots.
    pub(crate) slots: BTreeMap<Key, Rc<RefCell<State>>>,
    /// The one that is dialled through a relay.
    pub(crate) relayed: Option<Rc<RefCell<State>>>,
    /// What is wrong with its names, in one line.
    pub(crate) lookup: Option<String>,
}

/// One core's diallers, by the cluster that they dial.
#[derive(Default)]
pub(crate) struct Links {
    fleets: BTreeMap<ClusterName, Dialler>,
    /// Those that dial through a relay, and through which.
    relayed: BTreeMap<ClusterName, (ClusterName, Task)>,
    lookups: Rc<Lookups>,
}

struct Dialler {
    link: watch::Sender<Link>,
    _task: Task,
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Links {
    /// Dials what the table has and stops dialling what it has not.
    pub(crate) fn reconcile(&mut self, core: &Rc<Core>, table: &Table) {
        self.fleets.retain(|cluster, _| table.links.contains_key(cluster));
        self.relayed.retain(|cluster, _| table.links.contains_key(cluster));
        core.peers.close_unlinked(table);
        core.link_states.borrow_mut().retain(|cluster, _| table.links.contains_key(cluster));
        for (cluster, link) in &table.links {
            self.relay(core, cluster, link);
            if let Some(dialler) = self.fleets.get(cluster) {
                dialler.link.send_if_modified(|known| {
                    let differs = known != link;
                    known.clone_from(link);
                    differs
                });
            } else if !link.endpoints.is_empty() {
                let (sender, link) = watch::channel(link.clone());
                let fleet = Fleet::new(core.clone(), cluster.clone(), link, self.lookups.clone());
                let task = Task(core.tasks.spawn_local(fleet.run()));
                self.fleets.insert(cluster.clone(), Dialler { link: sender, _task: task });
            }
        }
    }

    /// Dials through the relay that the link has, if it is for this side to dial.
    fn relay(&mut self, core: &Rc<Core>, cluster: &ClusterName, link: &Link) {
        let hub = link.relay.as_ref().filter(|_| relayed::dials(core, cluster));
        if self.relayed.get(cluster).map(|(known, _)| known) == hub {
            return;
        }
        self.relayed.remove(cluster);
        let state = hub.map(|hub| {
            let state = Rc::new(RefCell::new(State::new(Instant::now())));
            let keep = relayed::keep(core.clone(), cluster.clone(), hub.clone(), state.clone());
            self.relayed.insert(cluster.clone(), (hub.clone(), Task(core.tasks.spawn_local(keep))));
            state
        });
        core.link_states.borrow_mut().entry(cluster.clone()).or_default().relayed = state;
    }
}

/// What a link dials with. Both are kept where `auto` has found them to work: new streams go over what [`super::choose`] says.
fn choices(transport: TransportChoice) -> &'static [TransportChoice] {
    match transport {
        // Over TCP it is `auto` still: what both speak of TLS and HTTP/2.
        TransportChoice::Auto => &[TransportChoice::Auto, TransportChoice::Quic],
        TransportChoice::Tls => &[TransportChoice::Tls],
        TransportChoice::Quic => &[TransportChoice::Quic],
        TransportChoice::H2 => &[TransportChoice::H2],
    }
}

/// One link's slots on one core.
struct Fleet {
    core: Rc<Core>,
    cluster: ClusterName,
    link: watch::Receiver<Link>,
    addresses: Addresses,
    names: Rc<Lookups>,
    lookups: JoinSet<(PeerAddress, Found)>,
    slots: BTreeMap<Key, Task>,
    leaving: Leaving,
    failed: Rc<Notify>,
}

impl Fleet {
    fn new(core: Rc<Core>, cluster: ClusterName, link: watch::Receiver<Link>, names: Rc<Lookups>) -> Self {
        Self {
            core,
            cluster,
            link,
            addresses: Addresses::default(),
            names,
            lookups: JoinSet::new(),
            slots: BTreeMap::new(),
            leaving: Leaving::default(),
            failed: Rc::default(),
        }
    }

    /// Keeps the slots those that are wanted, for ever.
    async fn run(mut self) {
        loop {
            let changed_core = self.core.clone();
            let changed = changed_core.changed.notified();
            let link = self.link.borrow_and_update().clone();
            self.addresses.configure(&link.endpoints, Instant::now());
            self.reconcile(&link);
            self.leave();
            self.look_up();
            let next = self.addresses.next();
            tokio::select! {
                linked = self.link.changed() => if linked.is_err() { return },
                Some(found) = self.lookups.join_next() => if let Ok((endpoint, found)) = found {
                    self.found(&endpoint, found);
                },
                () = self.failed.notified() => self.addresses.hurry(Instant::now()),
                () = changed => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
            }
        }
    }

    fn look_up(&mut self) {
        for endpoint in self.addresses.due(Instant::now()) {
            let names = self.names.clone();
            self.lookups.spawn_local(async move {
                let found = names.find(&endpoint.host).await;
                (endpoint, found)
            });
        }
    }

    fn found(&mut self, endpoint: &PeerAddress, found: Found) {
        if let Err(why) = &found {
            self.core.counters.dial_failed(DialFailure::Resolve);
            tracing::debug!(cluster = %self.cluster, %endpoint, %why, "cannot look up a peer's name");
        }
        self.addresses.answer(endpoint, found, Instant::now());
    }

    /// Begins what is wanted and is not there, and ends what is there and is not wanted.
    fn reconcile(&mut self, link: &Link) {
        let addresses = self.addresses.list();
        let places = spread::places(&addresses, self.core.id, self.core.common.config.cores);
        let keys = |&transport: &TransportChoice| {
            let place = move |place: &spread::Place| Key { place: *place, transport };
            places.iter().map(place).collect::<Vec<_>>()
        };
        let wanted: Vec<Key> = choices(link.transport).iter().flat_map(keys).collect();
        let mut states = self.core.link_states.borrow_mut();
        let known = states.entry(self.cluster.clone()).or_default();
        known.lookup = self.addresses.problem();
        self.slots.retain(|key, _| wanted.contains(key));
        known.slots.retain(|key, state| {
            let stays = wanted.contains(key);
            self.leaving.add(state.borrow().tunnel().filter(|_| !stays));
            stays
        });
        for key in wanted.into_iter().filter(|key| !self.slots.contains_key(key)).collect::<Vec<_>>() {
            let state = Rc::new(RefCell::new(State::new(Instant::now())));
            known.slots.insert(key, state.clone());
            let slot = Slot {
                core: self.core.clone(),
                cluster: self.cluster.clone(),
                key,
                scouts: self.core.id == 0 && Some(&key.transport) == choices(link.transport).first(),
                state,
                failed: self.failed.clone(),
            };
            self.slots.insert(key, Task(self.core.tasks.spawn_local(slot.keep())));
        }
    }

    fn leave(&mut self) {
        let slots = &self.slots;
        self.leaving.leave(&self.core.peers, &self.cluster, |address, carrier| {
            let mut here = slots.keys().filter(|key| key.place.address == address);
            here.any(|key| Carrier::from(key.transport) == carrier)
        });
        let most = DRAINING.max(LEFT * slots.len());
        for _ in 0..self.core.peers.bound_draining(&self.cluster, most) {
            self.core.counters.refused(Bound::DrainingTunnels);
            tracing::warn!(cluster = %self.cluster, limit = most, "too many tunnels drain: the oldest is closed, and its streams reset");
        }
    }
}
