//! One core: its thread's state, what it is told, and its main loop.
//!
//! A core has its own reactor, listeners, tunnels and streams. It shares nothing that is locked on a stream's path: tables are
//! immutable snapshots, counters are its own, and other cores reach it by its mailbox only.

mod drain;
pub(crate) mod said;
mod trace;

use crate::{
    access::{
        CoreAccess,
        prepare::{Prepared, Spent},
    },
    app::Config,
    balance::{
        Balancer,
        client::{self, Draw},
        near::Place,
        shares::Shares,
        sides::Sides,
    },
    board::Board,
    busy, checks,
    console::Tap,
    exchange::Exchanges,
    flow, hop, limit,
    listener::{self, Listeners},
    measure::Measures,
    meter,
    metrics::{CoreMetrics, reasons::Bound},
    peer::{LinkStates, Links, Peers, join::Joins},
    probe,
    ready::Ready,
    relay,
    status::{CoreQuery, CoreReport, DialReport, EndpointReport, probe::CoreProbe},
    stream::{self, Client, guard::Guards, record::Recorder},
    traces::{Tracer, context::Ids},
    upstream,
};
use isthmus_certs::IdentityStore;
use isthmus_control_api::{ClusterName, GatewayId, Listen, ServicePort, Table};
use said::{Line, Said};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What a core can be told. A full mailbox refuses: see each sender.
pub(crate) enum Mail {
    /// A connection on the tunnel port, to shake hands with.
    Tunnel(std::net::TcpStream, SocketAddr, OwnedSemaphorePermit),
    /// A local client that another core has no tunnel for.
    Client(Client),
    /// A local client's datagram, for a flow that another core has no tunnel for.
    Datagram(flow::listener::Moved),
    /// Control's exchange with a cluster's gateway: one end of a pair of sockets.
    Exchange(ClusterName, GatewayId, OwnedFd),
    /// A tunnel between two other clusters, which another core was asked to relay.
    Relay(relay::Leg),
    /// Somebody wants to know how the core fares.
    Report(CoreQuery),
    /// Somebody wants to know whether streams get through.
    Probe(CoreProbe),
}

/// What every core has in common.
pub(crate) struct Common {
    pub(crate) config: Config,
    pub(crate) identity: IdentityStore,
    pub(crate) tls: crate::peer::TlsConfigs,
    pub(crate) quic: crate::peer::quic::QuicCommon,
    /// Handshakes under way on the tunnel port, over TCP and QUIC together.
    pub(crate) handshakes: Arc<tokio::sync::Semaphore>,
    pub(crate) mailboxes: Vec<mpsc::Sender<Mail>>,
    pub(crate) board: Board,
    pub(crate) exchanges: Exchanges,
    pub(crate) joins: Joins,
    /// The endpoints that checks have found to be down.
    pub(crate) findings: checks::Findings,
    /// The local hop in the kernel.
    pub(crate) local_hop: Arc<hop::LocalHop>,
    /// The shared listener's part that the cores have in common.
    pub(crate) shared_listener: listener::shared::Shared,
    /// Who lets services' streams in.
    pub(crate) gates: limit::Gates,
    /// Whose turn it is to measure what a link carries.
    pub(crate) measures: Measures,
    /// The tunnels that peers have dialled.
    pub(crate) accepted: Arc<crate::peer::bound::AcceptedTunnels>,
    pub(crate) metrics: Arc<crate::metrics::Metrics>,
    /// Takes the tables that cores need no more.
    pub(crate) spent: Spent,
    /// Who takes access records, if they are wanted.
    pub(crate) recorder: Option<Recorder>,
    /// Who says which streams are sampled and takes their spans, if that is wanted.
    pub(crate) tracer: Option<Tracer>,
    /// Takes records for the console, while somebody looks at their service.
    pub(crate) tap: Arc<Tap>,
    /// Whether the cores are ready for traffic.
    pub(crate) ready: Ready,
    /// Cancelled when the gateway drains: nothing new is taken then.
    pub(crate) draining: CancellationToken,
    /// Cancelled at the drain's deadline: everything ends then.
    pub(crate) ending: CancellationToken,
}

/// One core's state.
pub(crate) struct Core {
    pub(crate) id: usize,
    pub(crate) common: Arc<Common>,
    pub(crate) table: RefCell<Arc<Table>>,
    pub(crate) peers: Peers,
    /// Where it serves QUIC, and dials it from.
    pub(crate) quic: crate::peer::quic::Endpoints,
    /// What is known of each tunnel that this core dials, by cluster and slot.
    pub(crate) link_states: RefCell<LinkStates>,
    pub(crate) balancers: RefCell<HashMap<ServicePort, Balancer>>,
    /// Endpoints that do not take clients' own addresses, and perhaps take the gateway's.
    pub(crate) asks: Rc<upstream::Asks>,
    /// Where it runs, as far as it is known.
    place: RefCell<Place>,
    /// Who serves what is imported.
    pub(crate) sides: RefCell<HashMap<ServicePort, Sides>>,
    /// How each import is kept to its shares.
    pub(crate) shares: RefCell<HashMap<Listen, Shares>>,
    /// How endpoints are checked: by core 0 for all.
    pub(crate) checks: RefCell<checks::Plan>,
    /// Its sockets that take part in the local hop and are looked at.
    pub(crate) hop_sample: hop::Sample,
    /// What services gain by the local hop.
    pub(crate) hop_held: hop::Held,
    /// What this core decides on streams by.
    pub(crate) access: CoreAccess,
    /// Open streams that access policies are for.
    pub(crate) guards: Guards,
    /// This core's counters.
    pub(crate) counters: Arc<CoreMetrics>,
    /// Its handles on the counters of streams.
    pub(crate) handles: RefCell<meter::Handles>,
    /// Its hold on the gates of services, by [`crate::metrics::streams::Side`].
    pub(crate) gates: RefCell<[HashMap<ServicePort, Arc<limit::gate::Gate>>; 2]>,
    /// And on what streams of linked clusters take.
    pub(crate) links: RefCell<HashMap<ClusterName, Arc<limit::usage::Usage>>>,
    /// Flows of local clients' datagrams, here or on other cores.
    pub(crate) flows: RefCell<flow::listener::Flows>,
    /// What datagrams that wait for tunnels take together, clients' and endpoints'.
    pub(crate) queued: Rc<flow::queue::Together>,
    /// Local clients being served.
    pub(crate) clients: Cell<usize>,
    /// Echoes being served.
    pub(crate) echoes: Cell<usize>,
    /// Streams of clients and endpoints, which a drain waits for.
    pub(crate) streams: TaskTracker,
    /// Tunnels' drivers, handshakes and exchanges, which it does not wait for.
    pub(crate) tasks: TaskTracker,
    /// Told when the table or a tunnel has changed: what failed a moment ago may do now.
    pub(crate) changed: Notify,
    /// Where bytes lie for a moment, between two sockets or before a tunnel has accepted; never across an await.
    pub(crate) scratch: RefCell<Vec<u8>>,
    /// Where datagrams lie as they come in; empty where there are no listeners for them.
    pub(crate) datagrams: RefCell<Vec<u8>>,
    /// What was said a short time ago.
    said: RefCell<Said>,
    /// What traces and spans are called by.
    pub(crate) span_ids: Ids,
    random: Cell<u64>,
}

/// Bytes of datagrams that wait for tunnels, all flows of a core together.
const QUEUED: usize = 16 << 20;
/// Bytes of [`Core::scratch`].
const SCRATCH: usize = 64 * 1024;

impl Core {
    /// Runs the core until the gateway has drained.
    pub(crate) async fn run(
        id: usize,
        common: Arc<Common>,
        mut mail: mpsc::Receiver<Mail>,
        mut tables: watch::Receiver<Prepared>,
    ) {
        let core = Rc::new(Self::new(id, common));
        let mut findings = core.common.findings.subscribe();
        let mut local_hop = core.common.local_hop.subscribe();
        let (mut listeners, mut links) = (Listeners::start(&core), Links::default());
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let polls = core.common.config.busy_poll;
        let polling = polls.then(|| core.tasks.spawn_local(busy::run(core.counters.clone())));
        core.apply(&tables.borrow_and_update().clone(), &mut listeners, &mut links);
        crate::peer::quic::serve(&core);
        if id == 0 {
            core.tasks.spawn_local(checks::run(core.clone()));
            core.tasks.spawn_local(hop::run(core.clone()));
        }
        let draining = core.common.draining.clone();
        let mut control_lives = true;
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => break,
                Some(mail) = mail.recv() => core.receive(mail, &listeners),
                changed = tables.changed(), if control_lives => match changed {
                    Ok(()) => core.apply(&tables.borrow_and_update().clone(), &mut listeners, &mut links),
                    // Control is gone: what it said last stays true.
                    Err(_) => control_lives = false,
                },
                Ok(()) = findings.changed() => core.take_findings(),
                Ok(()) = local_hop.changed() => listeners.set_doors(&core),
                _ = tick.tick() => {
                    core.beat(&mut listeners);
                }
            }
        }
        core.drain(listeners, links, mail, tick).await;
        core.peers.close();
        polling.inspect(JoinHandle::abort);
        core.tasks.close();
        // Tunnels say close_notify; a peer that does not take it is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), core.tasks.wait()).await;
    }

    fn new(id: usize, common: Arc<Common>) -> Self {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), id);
        // Each core has its share.
        let flows = common.config.limits.udp_flows.div_ceil(common.mailboxes.len().max(1));
        Self {
            id,
            flows: RefCell::new(flow::listener::Flows::new(flows)),
            queued: flow::queue::Together::new(QUEUED),
            datagrams: RefCell::default(),
            said: RefCell::default(),
            counters: common.metrics.core(id).clone(),
            handles: RefCell::default(),
            gates: RefCell::default(),
            links: RefCell::default(),
            quic: crate::peer::quic::Endpoints::new(&common.quic),
            place: RefCell::new(common.config.place.clone()),
            common,
            table: RefCell::default(),
            peers: Peers::default(),
            link_states: RefCell::default(),
            balancers: RefCell::default(),
            asks: Rc::default(),
            sides: RefCell::default(),
            shares: RefCell::default(),
            checks: RefCell::default(),
            hop_sample: hop::Sample::default(),
            hop_held: hop::Held::default(),
            access: CoreAccess::default(),
            guards: Guards::default(),
            clients: Cell::default(),
            echoes: Cell::default(),
            streams: TaskTracker::new(),
            tasks: TaskTracker::new(),
            changed: Notify::new(),
            scratch: RefCell::new(vec![0; SCRATCH]),
            span_ids: Ids::default(),
            random: Cell::new(seed | 1),
        }
    }

    /// How to choose for a client that is to stay where it is, or for anybody.
    pub(crate) fn draw(&self, client: Option<client::Client>) -> Draw {
        client.map_or_else(|| Draw::Random(self.random()), Draw::For)
    }

    /// A number that nobody outside can foresee well enough to matter (xorshift64*).
    pub(crate) fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Whether it may be said now that a datagram was too large: not for every one.
    pub(crate) fn may_warn_too_large(&self, now: Instant) -> bool {
        self.may_say(Line::TooLarge, now)
    }

    /// Whether this line may be written now, which peers can bring about as often as they like.
    pub(crate) fn may_say(&self, line: Line, now: Instant) -> bool {
        self.said.borrow_mut().may(line, now)
    }

    fn apply(self: &Rc<Self>, Prepared { table, access }: &Prepared, listeners: &mut Listeners, links: &mut Links) {
        let before = self.table.replace(table.clone());
        let now = Instant::now();
        let mut here = self.place.borrow_mut();
        let moved = here.learn(table);
        let mut balancers = self.balancers.borrow_mut();
        let down = self.common.findings.now();
        balancers.retain(|service, _| table.exports.contains_key(service));
        for (service, export) in &table.exports {
            // Most are what they were.
            if !moved && before.exports.get(service).is_some_and(|before| Arc::ptr_eq(before, export)) {
                continue;
            }
            let balancer = balancers
                .entry(service.clone())
                .and_modify(|balancer| balancer.update(&export.endpoints, &export.policy, &here, now))
                .or_insert_with(|| Balancer::new(&export.endpoints, &export.policy, &here, now));
            balancer.leave_out(down.get(service).map(|down| &**down));
        }
        drop((balancers, here));
        self.sides.borrow_mut().retain(|service, sides| {
            sides.retain(|cluster| table.links.contains_key(cluster));
            knows(table, service)
        });
        self.shares.borrow_mut().retain(|listen, _| {
            let service = imported(table, listen);
            service.is_some() && service == imported(&before, listen)
        });
        let access = self.apply_access(access);
        links.reconcile(self, table);
        listeners.reconcile(self, table);
        self.handles.borrow_mut().retain(|service| knows(table, service));
        self.gates.borrow_mut().iter_mut().for_each(|gates| gates.retain(|service, _| knows(table, service)));
        self.links.borrow_mut().retain(|cluster, usage| {
            let link = table.links.get(cluster);
            link.inspect(|link| usage.hold_to(&link.limits)).is_some()
        });
        self.hop_held.keep_asking(table);
        self.say_ready(listeners);
        self.changed.notify_waiters();
        self.common.spent.put(Prepared { table: before, access });
    }

    /// Leaves out the endpoints that checks have found to be down, and no others.
    fn take_findings(&self) {
        let down = self.common.findings.now();
        for (service, balancer) in self.balancers.borrow_mut().iter_mut() {
            balancer.leave_out(down.get(service).map(|down| &**down));
        }
    }

    fn receive(self: &Rc<Self>, mail: Mail, listeners: &Listeners) {
        match mail {
            Mail::Tunnel(socket, from, permit) => crate::peer::accept(self, socket, from, permit),
            Mail::Client(client) => stream::start(self, client),
            Mail::Datagram(datagram) => listeners.take(self, &datagram),
            Mail::Exchange(cluster, gateway, socket) => stream::start_exchange(self, cluster, gateway, socket),
            Mail::Relay(leg) => relay::start(self, leg),
            Mail::Report(query) => self.report(query, listeners),
            Mail::Probe(asked) => probe::start(self, asked),
        }
    }

    /// What is done every second.
    fn beat(self: &Rc<Self>, listeners: &mut Listeners) {
        let now = Instant::now();
        self.counters.beat(now);
        self.peers.choose(now);
        for balancer in self.balancers.borrow_mut().values_mut() {
            balancer.beat(now);
            self.counters.endpoint_ejections.add(balancer.take_ejections());
        }
        if self.id == 0 {
            let budget = &self.common.config.mux.budget;
            self.counters.memory_granted.set(budget.granted() as u64);
            self.counters.refused_times(Bound::Memory, budget.take_refused());
        }
        crate::peer::quic::serve(self);
        self.hop_sample.beat();
        self.hop_held.beat();
        listeners.beat(self);
        if listeners.retry(self) {
            self.say_ready(listeners);
        }
    }

    fn say_ready(&self, listeners: &Listeners) {
        self.common.ready.core(self.id, listeners.are_bound());
    }

    fn report(&self, query: CoreQuery, listeners: &Listeners) {
        let now = Instant::now();
        let links = self.link_states.borrow();
        let dials = links.iter().flat_map(|(cluster, link)| {
            let slots = link.slots.iter().map(|(key, state)| (Some(key.place), state));
            slots.chain(link.relayed.iter().map(|state| (None, state))).map(|(place, state)| {
                let state = state.borrow();
                DialReport {
                    cluster: cluster.clone(),
                    address: place.map(|place| place.address),
                    spare: place.is_some_and(|place| place.spare),
                    same: state.same,
                    declined: state.declined,
                    small: state.small,
                    state: state.link.state().clone(),
                }
            })
        });
        let lookups = links.iter().filter_map(|(cluster, link)| Some((cluster.clone(), link.lookup.clone()?)));
        let balancers = self.balancers.borrow();
        let endpoints = balancers.iter().flat_map(|(service, balancer)| {
            let endpoints = balancer.snapshot(now).into_iter();
            endpoints.map(|status| EndpointReport { service: service.clone(), status })
        });
        let report = CoreReport {
            tunnels: self.peers.report(),
            choices: self.peers.choices(),
            dials: dials.collect(),
            lookups: lookups.collect(),
            losses: self.peers.losses(now),
            breaks: self.peers.broken(now),
            listeners: listeners.report(),
            endpoints: endpoints.collect(),
            checks: self.checks.borrow().report(now),
            local_hop: (self.id == 0).then(|| self.common.local_hop.status()),
            shared_listener: (self.id == 0).then(|| self.common.shared_listener.status()),
            unread: self.hop_sample.unread(),
            trace: query.1.as_ref().map(|service| self.trace(service, now)),
        };
        // Whoever asked may have given up.
        drop(query.0.send(report));
    }
}

/// What the import at `listen` is of.
fn imported<'t>(table: &'t Table, listen: &Listen) -> Option<&'t ServicePort> {
    table.imports.get(listen).map(|import| &import.service)
}

fn knows(table: &Table, service: &ServicePort) -> bool {
    table.exports.contains_key(service) || table.imports.values().any(|import| import.service == *service)
}

#[cfg(test)]
pub(crate) mod tests;
