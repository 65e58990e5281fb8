//! Two clusters' controls, joined by streams that the test makes and breaks.

use super::*;
use crate::{
    exchange::{Services, samples::summary},
    registry::{DesiredImport, DesiredLink},
};
use isthmus_control_api::{Affinity, Endpoint, Export, Namespaces, ServicePort};
use tokio::io::AsyncWriteExt as _;

const LISTEN: &str = "127.0.0.1:18080";
/// The gateway of a cluster that has one.
const ONE: GatewayId = GatewayId(1);
const TWO: GatewayId = GatewayId(2);

/// A registry that the test writes, and whether it has loaded from the beginning.
#[derive(Clone)]
struct Written(watch::Sender<Arc<Desired>>, watch::Sender<Arc<RegistryStatus>>, bool);

impl Registry for Written {
    fn desired(&self) -> watch::Receiver<Arc<Desired>> {
        self.0.subscribe()
    }

    fn is_loaded(&self) -> bool {
        self.2
    }

    fn status(&self) -> watch::Receiver<Arc<RegistryStatus>> {
        self.1.subscribe()
    }

    fn run(
        self: Box<Self>,
        _peers: watch::Receiver<Arc<PeerViews>>,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { shutdown.cancelled().await })
    }
}

/// Streams straight into the other control's events, as the gateways' tunnels would carry them.
struct Wire {
    own: (ClusterName, GatewayId),
    to: BTreeMap<(ClusterName, GatewayId), mpsc::Sender<LinkEvent>>,
}

impl Peers for Wire {
    fn open(
        &self,
        cluster: &ClusterName,
        gateway: GatewayId,
    ) -> Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send + '_>> {
        let to = self.to.get(&(cluster.clone(), gateway)).cloned();
        Box::pin(async move {
            // A cluster that nobody plays never answers.
            let Some(to) = to else { return std::future::pending().await };
            let (ours, theirs) = UnixStream::pair()?;
            let incoming =
                LinkEvent::Incoming { through: ONE, cluster: self.own.0.clone(), gateway: self.own.1, stream: theirs };
            to.send(incoming).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(ours)
        })
    }
}

/// A running control.
struct Cluster {
    handles: Handles,
    registry: Written,
    events: mpsc::Sender<LinkEvent>,
    shutdown: CancellationToken,
    running: JoinSet<()>,
}

impl Cluster {
    async fn table(&mut self, fits: impl FnMut(&Arc<Table>) -> bool) -> Arc<Table> {
        self.handles.table.wait_for(fits).await.unwrap().clone()
    }

    async fn status(&mut self, fits: impl FnMut(&Arc<ControlStatus>) -> bool) -> Arc<ControlStatus> {
        self.handles.status.wait_for(fits).await.unwrap().clone()
    }

    async fn tell(&self, event: LinkEvent) {
        self.events.send(event).await.unwrap();
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.running.join_next().await.unwrap().unwrap();
    }
}

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

fn up(cluster: &str) -> LinkEvent {
    LinkEvent::Reached { through: ONE, cluster: name(cluster), gateways: [ONE].into() }
}

fn down(cluster: &str) -> LinkEvent {
    LinkEvent::Reached { through: ONE, cluster: name(cluster), gateways: BTreeSet::new() }
}

fn api() -> ServicePort {
    ServicePort::tcp("shop/api".parse().unwrap(), 80)
}

/// Links to all others, the import of shop/api, and its export with so many endpoints.
fn desired(links: &[&str], endpoints: u16) -> Desired {
    let endpoint = |port| Endpoint::at(([10, 0, 0, 2], port).into());
    let export = Export { endpoints: (1..=endpoints).map(endpoint).collect(), ..Export::default() };
    let services = Services::from([(api().service, Arc::new(summary(80, endpoints.into())))]);
    let import = DesiredImport {
        service: api(),
        affinity: Affinity::None,
        weights: None,
        sticky: false,
        policy: Default::default(),
        member: None,
    };
    Desired {
        exports: if endpoints == 0 { BTreeMap::new() } else { [(api(), Arc::new(export))].into() },
        services: if endpoints == 0 { Arc::default() } else { Arc::new(services) },
        imports: [(LISTEN.parse().unwrap(), Arc::new(import))].into(),
        links: links.iter().map(|link| (name(link), DesiredLink::default())).collect(),
        ..Desired::default()
    }
}

/// Who serves the import.
fn serving(table: &Table) -> Vec<(&str, u32)> {
    let import = &table.imports[&LISTEN.parse().unwrap()];
    import.clusters.iter().map(|(cluster, ready)| (cluster.as_str(), *ready)).collect()
}

/// Starts a cluster whose streams reach `others`.
fn start(
    own: &str,
    state: &std::path::Path,
    desired: Desired,
    channel: Channel,
    others: &[(&str, &Channel)],
) -> Cluster {
    let others: Vec<_> = others.iter().map(|&(other, channel)| ((other, ONE), channel)).collect();
    start_one((own, ONE), state, desired, channel, &others)
}

/// The same of one gateway of a cluster that has several.
fn start_one(
    (own, gateway): (&str, GatewayId),
    state: &std::path::Path,
    desired: Desired,
    channel: Channel,
    others: &[((&str, GatewayId), &Channel)],
) -> Cluster {
    let registry = Written(watch::Sender::new(Arc::new(desired)), watch::Sender::default(), true);
    start_by((own, gateway), state, registry, channel, others)
}

/// The same by a registry.
fn start_by(
    (own, gateway): (&str, GatewayId),
    state: &std::path::Path,
    registry: Written,
    channel: Channel,
    others: &[((&str, GatewayId), &Channel)],
) -> Cluster {
    let (control, handles) = Control::new(name(own), state.join(own), Box::new(registry.clone()));
    let to = others.iter().map(|((other, gateway), channel)| ((name(other), *gateway), channel.0.clone())).collect();
    let wire = Arc::new(Wire { own: (name(own), gateway), to });
    let (shutdown, mut running) = (CancellationToken::new(), JoinSet::new());
    running.spawn(control.run(wire, channel.1.unwrap(), shutdown.clone()));
    Cluster { handles, registry, events: channel.0, shutdown, running }
}

/// A cluster's events, before the cluster is there.
struct Channel(mpsc::Sender<LinkEvent>, Option<mpsc::Receiver<LinkEvent>>);

impl Channel {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(8);
        Self(sender, Some(receiver))
    }

    fn sender(&self) -> Self {
        Self(self.0.clone(), None)
    }
}

/// West imports what east exports with two endpoints.
fn two_clusters(state: &std::path::Path) -> (Cluster, Cluster) {
    let (west, east) = (Channel::new(), Channel::new());
    let (to_west, to_east) = (west.sender(), east.sender());
    let west = start("west", state, desired(&["east"], 0), west, &[("east", &to_east)]);
    let east = start("east", state, desired(&["west"], 2), east, &[("west", &to_west)]);
    (west, east)
}

async fn link(west: &Cluster, east: &Cluster) {
    west.tell(up("east")).await;
    east.tell(up("west")).await;
}

#[tokio::test]
async fn two_clusters_one_service() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, mut east) = two_clusters(state.path());
    assert!(serving(&west.handles.table.borrow()).is_empty());
    link(&west, &east).await;
    west.table(|table| serving(table) == [("east", 2)]).await;

    east.registry.0.send_replace(Arc::new(desired(&["west"], 5)));
    west.table(|table| serving(table) == [("east", 5)]).await;
    east.registry.0.send_replace(Arc::new(desired(&["west"], 0)));
    west.table(|table| serving(table).is_empty()).await;
    east.registry.0.send_replace(Arc::new(desired(&["west"], 1)));
    west.table(|table| serving(table) == [("east", 1)]).await;

    let synced = |state: &PeerStatus| (state.received, state.sent) == (SyncState::Synced, SyncState::Synced);
    let status = west.status(|status| status.peers.values().all(synced)).await;
    assert_eq!(status.peers[&name("east")].imported, 1);
    assert_eq!(serde_json::to_value(&*status).unwrap()["imports"][0]["clusters"], serde_json::json!({ "east": 1 }));
    let status = east.status(|status| status.peers.values().all(synced)).await;
    assert_eq!(status.peers[&name("west")].exported, 1);
    assert_eq!(serde_json::to_value(&*status).unwrap()["exports"][0]["endpoints"], 1);
    let json = serde_json::to_value(&*status).unwrap();
    assert_eq!(json["exports"][0]["service"], "shop/api");
    assert_eq!(json["peers"]["west"]["sent"], "synced");
}

#[tokio::test]
async fn a_dead_peer_is_withdrawn_at_once_and_returns_by_what_it_said_before() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, east) = two_clusters(state.path());
    link(&west, &east).await;
    let before = west.table(|table| serving(table) == [("east", 2)]).await;
    east.stop().await;
    west.tell(down("east")).await;
    let dead = west.table(|table| serving(table).is_empty()).await;
    assert_eq!(dead.links, before.links);
    assert_eq!(west.status(|_| true).await.peers[&name("east")].imported, 1, "kept, not used");
    // Dead is not the same as never heard of.
    let seen = |peers: &Arc<PeerViews>| !peers[&name("east")].up;
    let views = west.handles.peers.wait_for(seen).await.unwrap().clone();
    assert!(views[&name("east")].synced && views[&name("east")].exports.services.len() == 1);
    // It is up again, but its control has not said a word yet.
    west.tell(up("east")).await;
    let back = west.table(|table| serving(table) == [("east", 2)]).await;
    assert_eq!(back.version, dead.version + 1);
}

#[tokio::test]
async fn a_restart_goes_on_from_the_last_good_table() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, east) = two_clusters(state.path());
    link(&west, &east).await;
    let before = west.table(|table| serving(table) == [("east", 2)]).await;
    west.stop().await;
    east.stop().await;

    let mut west = start("west", state.path(), desired(&["east"], 0), Channel::new(), &[]);
    let first = west.handles.table.borrow_and_update().clone();
    let heard = west.handles.peers.borrow()[&name("east")].clone();
    assert!(!heard.synced && heard.exports.services.len() == 1, "known from before, not heard of yet");
    assert_eq!(first.version, before.version + 1, "versions grow over a restart");
    assert!(serving(&first).is_empty(), "no tunnel yet");
    west.tell(up("east")).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
}

/// The runtime's clock jumps ahead whenever all wait.
#[tokio::test(start_paused = true)]
async fn a_link_that_does_not_come_up_in_time_is_down() {
    let state = tempfile::tempdir().unwrap();
    let mut west = start("west", state.path(), desired(&["east"], 0), Channel::new(), &[]);
    let began = tokio::time::Instant::now();
    assert!(!west.handles.peers.borrow_and_update()[&name("east")].late);
    west.handles.peers.wait_for(|peers| peers[&name("east")].late).await.unwrap();
    assert!(began.elapsed() >= SETTLING);
    west.tell(up("east")).await;
    west.handles.peers.wait_for(|peers| !peers[&name("east")].late).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_has_not_loaded_yet_changes_nothing_and_tells_nobody() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, east) = two_clusters(state.path());
    link(&west, &east).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
    west.stop().await;
    east.stop().await;
    let (to_west, to_east) = (Channel::new(), Channel::new());
    let (west_again, east_again) = (to_west.sender(), to_east.sender());
    let loading = || Written(watch::Sender::default(), watch::Sender::default(), false);
    let mut west = start_by(("west", ONE), state.path(), loading(), to_west, &[(("east", ONE), &east_again)]);
    let east = start_by(("east", ONE), state.path(), loading(), to_east, &[(("west", ONE), &west_again)]);
    assert_eq!(east.handles.table.borrow().exports[&api()].endpoints.len(), 2);
    link(&west, &east).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
    let status = west.status(|status| status.peers[&name("east")].up).await;
    assert_eq!(status.peers[&name("east")].received, SyncState::Syncing);
    // East knows what it exports now: west hears of it.
    east.registry.0.send_replace(Arc::new(desired(&["west"], 3)));
    west.table(|table| serving(table) == [("east", 3)]).await;
    west.registry.0.send_replace(Arc::new(Desired::default()));
    west.table(|table| table.imports.is_empty() && table.links.is_empty()).await;
}

/// An empty list would be believed, and its endpoints taken away from gateways that have them.
#[tokio::test]
async fn nothing_is_kept_of_a_peer_that_has_said_nothing() {
    let state = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut west = start("west", state.path(), desired(&["east"], 0), Channel::new(), &[]);
        let status = west.status(|status| status.peers.contains_key(&name("east"))).await;
        assert!(!status.peers[&name("east")].known);
        west.stop().await;
    }
}

#[tokio::test]
async fn a_damaged_store_is_no_obstacle() {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join("west")).unwrap();
    std::fs::write(state.path().join("west/last-good.json"), "{\"format\":1").unwrap();
    let (mut west, east) = two_clusters(state.path());
    link(&west, &east).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
}

#[tokio::test]
async fn a_bad_peer_delays_no_other() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, east) = two_clusters(state.path());
    // South floods, and takes nothing of ours.
    west.registry.0.send_replace(Arc::new(desired(&["east", "south"], 0)));
    west.table(|table| table.links.len() == 2).await;
    west.tell(up("south")).await;
    let (theirs, mut flood) = UnixStream::pair().unwrap();
    west.tell(LinkEvent::Incoming { through: ONE, cluster: name("south"), gateway: ONE, stream: theirs }).await;
    let mut flooding = JoinSet::new();
    flooding.spawn(async move { while flood.write_all(&[0xff; 4096]).await.is_ok() {} });
    let status = west.status(|status| status.peers[&name("south")].error.is_some()).await;
    assert_eq!(status.peers[&name("south")].received, SyncState::Syncing);

    link(&west, &east).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
}

#[tokio::test]
async fn a_lost_stream_is_made_again() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, east) = two_clusters(state.path());
    link(&west, &east).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
    // A stream that ends at once takes the place of east's.
    let (theirs, _) = UnixStream::pair().unwrap();
    west.tell(LinkEvent::Incoming { through: ONE, cluster: name("east"), gateway: ONE, stream: theirs }).await;
    west.status(|status| status.peers[&name("east")].received == SyncState::Syncing).await;
    east.registry.0.send_replace(Arc::new(desired(&["west"], 3)));
    west.table(|table| serving(table) == [("east", 3)]).await;
}

/// East has two gateways, and west is known to both: each has a control of its own.
async fn several(state: &std::path::Path) -> (Cluster, [Cluster; 2]) {
    let (west, one, two) = (Channel::new(), Channel::new(), Channel::new());
    let (to_west, to_one, to_two) = (west.sender(), one.sender(), two.sender());
    let of_east = [(("east", ONE), &to_one), (("east", TWO), &to_two)];
    let mut wanted = desired(&["east"], 7);
    let Desired { exports, services, .. } = desired(&[], 7);
    (wanted.exports, wanted.services) = (exports, services);
    let west = start_one(("west", ONE), state, wanted, west, &of_east);
    let start = |gateway: GatewayId, channel| {
        let state = state.join(gateway.to_string());
        start_one(("east", gateway), &state, desired(&["west"], 2), channel, &[(("west", ONE), &to_west)])
    };
    let east = [start(ONE, one), start(TWO, two)];
    for gateway in &east {
        gateway.tell(up("west")).await;
    }
    west.tell(reached(&[ONE, TWO])).await;
    (west, east)
}

fn reached(gateways: &[GatewayId]) -> LinkEvent {
    LinkEvent::Reached { through: ONE, cluster: name("east"), gateways: gateways.iter().copied().collect() }
}

#[tokio::test]
async fn every_gateway_of_a_peer_is_told_and_none_is_missed() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, mut east) = several(state.path()).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
    for gateway in &mut east {
        gateway.table(|table| serving(table) == [("west", 7)]).await;
    }
    // They keep their streams: none takes the place of the other's.
    let synced = |status: &Arc<ControlStatus>| status.peers[&name("east")].sent == SyncState::Synced;
    west.status(synced).await;
    let settled = west.handles.table.borrow().version;
    // The first of them dies: nothing that it said is missed, as the other one says it, too.
    let [one, mut two] = east;
    one.stop().await;
    west.tell(reached(&[TWO])).await;
    two.registry.0.send_replace(Arc::new(desired(&["west"], 3)));
    let table = west.table(|table| serving(table) == [("east", 3)]).await;
    assert_eq!(table.version, settled + 1, "there was no table without east in between");
    two.table(|table| serving(table) == [("west", 7)]).await;
}

#[tokio::test]
async fn a_gateway_that_has_said_nothing_yet_takes_nothing_away() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, east) = several(state.path()).await;
    let table = west.table(|table| serving(table) == [("east", 2)]).await;
    let three = GatewayId(3);
    // Nobody plays this one.
    west.tell(reached(&[ONE, TWO, three])).await;
    west.tell(reached(&[three])).await;
    drop(east);
    let status = west.status(|status| status.peers[&name("east")].received == SyncState::Syncing).await;
    assert_eq!(status.table_version, table.version);
    assert_eq!(status.peers[&name("east")].imported, 1);
}

/// West has two gateways and one control; east has one of each, and opens a stream to both of west's.
#[tokio::test]
async fn one_control_hears_a_peer_through_each_of_its_gateways() {
    let state = tempfile::tempdir().unwrap();
    let (wests, easts) = (Channel::new(), Channel::new());
    let (to_west, to_east) = (wests.sender(), easts.sender());
    let mut west = start("west", state.path(), desired(&["east"], 0), wests, &[("east", &to_east)]);
    let _east = start("east", state.path(), desired(&["west"], 2), easts, &[]);
    let through = |through, gateways: &[GatewayId]| LinkEvent::Reached {
        through,
        cluster: name("east"),
        gateways: gateways.iter().copied().collect(),
    };
    west.tell(through(ONE, &[ONE])).await;
    west.tell(through(TWO, &[ONE])).await;
    let mut streams = Vec::new();
    for way in [ONE, TWO] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        to_west
            .0
            .send(LinkEvent::Incoming { through: way, cluster: name("east"), gateway: ONE, stream: theirs })
            .await
            .unwrap();
        streams.push(ours);
    }
    // Neither takes the other's place, and each counts.
    let told = |ready| Summaries {
        services: [(api().service, Arc::new(summary(api().port, ready)))].into(),
        ..Summaries::default()
    };
    let hello = Hello { protocol: PROTOCOL, cluster: name("east"), epoch: 1 };
    let mut senders = JoinSet::new();
    let mut said = Vec::new();
    for (stream, ready) in streams.into_iter().zip([2, 3]) {
        let exports = watch::Sender::new(Arc::new(told(ready)));
        senders.spawn(crate::exchange::driver::send(stream, hello.clone(), exports.subscribe(), |_| {}));
        said.push(exports);
    }
    west.table(|table| serving(table) == [("east", 3)]).await;
    // What came through a gateway that has gone does not count any more.
    west.tell(through(TWO, &[])).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
    west.tell(through(ONE, &[])).await;
    west.table(|table| serving(table).is_empty()).await;
    let (told, counts) = oneshot::channel();
    west.tell(LinkEvent::Counts(told)).await;
    counts.await.unwrap();
}

#[tokio::test]
async fn a_later_start_is_a_later_term() {
    let state = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let west = start("west", state.path(), desired(&[], 1), Channel::new(), &[]);
        assert!(west.handles.term > last);
        // As after a clock that was far ahead.
        last = west.handles.term;
        west.stop().await;
    }
    let store = Store::new(state.path().join("west"));
    let kept = store.load().unwrap().unwrap();
    store.save(&Kept { term: u64::MAX - 1, ..kept }).unwrap();
    assert_eq!(start("west", state.path(), desired(&[], 1), Channel::new(), &[]).handles.term, u64::MAX);
}

#[tokio::test]
async fn a_peer_that_speaks_no_exchange_serves_what_is_stated() {
    let state = tempfile::tempdir().unwrap();
    let mut wanted = desired(&["east"], 1);
    wanted.links.insert(name("east"), DesiredLink { services: Arc::new([api()].into()), ..DesiredLink::default() });
    let mut west = start("west", state.path(), wanted, Channel::new(), &[]);
    west.tell(up("east")).await;
    west.table(|table| serving(table) == [("east", 1)]).await;
    let status = west.status(|status| status.peers[&name("east")].up).await;
    assert_eq!(status.peers[&name("east")].sent, SyncState::Stated);
    west.tell(down("east")).await;
    west.table(|table| serving(table).is_empty()).await;
}

#[tokio::test]
async fn a_link_removed_and_made_again_needs_no_new_event() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, east) = two_clusters(state.path());
    link(&west, &east).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
    west.registry.0.send_replace(Arc::new(desired(&[], 0)));
    west.table(|table| table.links.is_empty() && serving(table).is_empty()).await;
    west.registry.0.send_replace(Arc::new(desired(&["east"], 0)));
    west.table(|table| serving(table) == [("east", 2)]).await;
}

#[tokio::test]
async fn a_bad_file_shows_in_the_status_and_changes_no_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("west.yaml");
    let text = "clusterset: demo\ncluster: west\nidentity: id\nlinks: [{cluster: east}]\n";
    std::fs::write(&path, text).unwrap();
    let config = crate::Config::load(&path).unwrap();
    let registry = Box::new(crate::FileRegistry::new(config.clone()));
    let (control, mut handles) = Control::new(config.cluster, config.state, registry);
    let (_events, events) = mpsc::channel(1);
    let mut running = JoinSet::new();
    let wire = Arc::new(Wire { own: (name("west"), ONE), to: BTreeMap::new() });
    running.spawn(control.run(wire, events, CancellationToken::new()));
    let table = handles.table.borrow_and_update().clone();

    std::fs::write(&path, format!("{text}links: []\n")).unwrap();
    let refused = handles.status.wait_for(|status| status.refused_reloads == 1).await.unwrap().clone();
    assert!(refused.last_reload_error.as_ref().unwrap().contains("west.yaml:5:1: links: found the key a second time"));
    assert_eq!(refused.table_version, table.version);

    std::fs::write(&path, text.replace("east", "south")).unwrap();
    handles.status.wait_for(|status| status.last_reload_error.is_none()).await.unwrap();
    let table = handles.table.wait_for(|table| table.links.contains_key(&name("south"))).await.unwrap();
    assert_eq!(table.links.len(), 1);
}

#[tokio::test]
async fn a_peer_hears_of_its_namespaces_only_and_is_taken_within_its_own() {
    let state = tempfile::tempdir().unwrap();
    let (mut west, mut east) = two_clusters(state.path());
    link(&west, &east).await;
    west.table(|table| serving(table) == [("east", 2)]).await;
    // East stops telling west of shop, then west stops taking it.
    let only = |namespace: &str| Namespaces::Only([namespace.into()].into());
    let mut narrow = desired(&["west"], 2);
    narrow.links.get_mut(&name("west")).unwrap().link.exports = only("ops");
    east.registry.0.send_replace(Arc::new(narrow));
    west.table(|table| serving(table).is_empty()).await;
    east.registry.0.send_replace(Arc::new(desired(&["west"], 2)));
    west.table(|table| serving(table) == [("east", 2)]).await;
    let mut narrow = desired(&["east"], 0);
    narrow.links.get_mut(&name("east")).unwrap().imports = only("ops");
    west.registry.0.send_replace(Arc::new(narrow));
    west.table(|table| serving(table).is_empty()).await;
    // What it cannot import for want of a namespace, east is told.
    let mut lacking = desired(&["east"], 0);
    lacking.namespaces = Some(Arc::new(["ops".into()].into()));
    west.registry.0.send_replace(Arc::new(lacking));
    let said =
        |peers: &Arc<PeerViews>| peers[&name("west")].exports.lacking.iter().any(|namespace| &**namespace == "shop");
    east.handles.peers.wait_for(said).await.unwrap();
}
