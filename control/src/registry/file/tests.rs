use super::*;
use std::path::{Path, PathBuf};

const WEST: &str = "clusterset: demo\ncluster: west\nidentity: id\nlinks: [{cluster: east}]\n";
const EXPORT: &str = "exports: [{service: shop/api, ports: [{port: 80}], endpoints: [\"10.0.0.2:8080\"]}]\n";

/// A registry at work on a file of its own.
struct Fixture {
    directory: tempfile::TempDir,
    path: PathBuf,
    desired: watch::Receiver<Arc<Desired>>,
    status: watch::Receiver<Arc<RegistryStatus>>,
    _running: tokio::task::JoinSet<()>,
}

impl Fixture {
    fn new(write: impl FnOnce(&Path) -> PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = write(directory.path());
        let registry = FileRegistry::new(Config::load(&path).unwrap());
        let (desired, status) = (registry.desired(), registry.status());
        let mut running = tokio::task::JoinSet::new();
        running.spawn(Box::new(registry).run(watch::channel(Arc::default()).1, CancellationToken::new()));
        Self { directory, path, desired, status, _running: running }
    }

    fn plain() -> Self {
        Self::new(|directory| {
            let path = directory.join("west.yaml");
            std::fs::write(&path, WEST).unwrap();
            path
        })
    }

    async fn desired(&mut self, fits: impl FnMut(&Arc<Desired>) -> bool) -> Arc<Desired> {
        self.desired.wait_for(fits).await.unwrap().clone()
    }

    async fn status(&mut self, fits: impl FnMut(&Arc<RegistryStatus>) -> bool) -> Arc<RegistryStatus> {
        self.status.wait_for(fits).await.unwrap().clone()
    }
}

#[tokio::test]
async fn a_change_in_place_is_taken() {
    let mut fixture = Fixture::plain();
    std::fs::write(&fixture.path, format!("{WEST}{EXPORT}")).unwrap();
    let desired = fixture.desired(|desired| !desired.exports.is_empty()).await;
    assert_eq!(desired.links.len(), 1);
}

#[tokio::test]
async fn a_file_renamed_over_it_is_taken() {
    let mut fixture = Fixture::plain();
    let new = fixture.directory.path().join(".west.yaml.swp");
    std::fs::write(&new, format!("{WEST}{EXPORT}")).unwrap();
    std::fs::rename(&new, &fixture.path).unwrap();
    fixture.desired(|desired| !desired.exports.is_empty()).await;
}

/// As the kubelet does it: west.yaml → ..data/west.yaml, ..data → a directory, swapped by a rename.
#[tokio::test]
async fn a_swapped_symbolic_link_is_taken() {
    use std::os::unix::fs::symlink;
    let version = |directory: &Path, name: &str, text: &str| {
        std::fs::create_dir(directory.join(name)).unwrap();
        std::fs::write(directory.join(name).join("west.yaml"), text).unwrap();
    };
    let mut fixture = Fixture::new(|directory| {
        version(directory, "..1", WEST);
        symlink("..1", directory.join("..data")).unwrap();
        symlink("..data/west.yaml", directory.join("west.yaml")).unwrap();
        directory.join("west.yaml")
    });
    let directory = fixture.directory.path().to_owned();
    version(&directory, "..2", &format!("{WEST}{EXPORT}"));
    symlink("..2", directory.join("..data_tmp")).unwrap();
    std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    fixture.desired(|desired| !desired.exports.is_empty()).await;
}

#[tokio::test]
async fn a_bad_change_is_refused_and_the_last_state_stays() {
    let mut fixture = Fixture::plain();
    std::fs::write(&fixture.path, format!("{WEST}exports: []\nfoo: 1\n")).unwrap();
    let status = fixture.status(|status| status.refused > 0).await;
    assert!(status.last_error.as_ref().unwrap().contains("west.yaml:6:1: foo"), "{status:?}");
    assert_eq!(fixture.desired.borrow().links.len(), 1);

    std::fs::remove_file(&fixture.path).unwrap();
    fixture.status(|status| status.last_error.as_ref().is_some_and(|error| error.contains("cannot be read"))).await;
    assert_eq!(fixture.desired.borrow().links.len(), 1, "a missing file is no empty one");

    std::fs::write(&fixture.path, WEST).unwrap();
    fixture.status(|status| status.last_error.is_none()).await;
}

#[tokio::test]
async fn what_cannot_change_live_is_named_and_the_rest_applied() {
    let mut fixture = Fixture::plain();
    let text = format!("{WEST}{EXPORT}admin: 127.0.0.1:9\nconsole: {{tokenFile: t}}\ntraces: {{endpoint: \"http://127.0.0.1:4317\"}}\ndrain: 1s\naccessLog: stdout\nzone: a\nnode: b\nbundles: c\n")
        .replace("cluster: west", "cluster: south");
    std::fs::write(&fixture.path, text).unwrap();
    let status = fixture.status(|status| !status.needs_restart.is_empty()).await;
    assert_eq!(
        status.needs_restart,
        ["cluster", "bundles", "admin", "console", "state", "accessLog", "traces", "drain", "zone", "node"]
    );
    fixture.desired(|desired| !desired.exports.is_empty()).await;
    std::fs::write(&fixture.path, WEST).unwrap();
    fixture.status(|status| status.needs_restart.is_empty()).await;
}

#[test]
fn a_service_keeps_the_time_it_was_first_seen() {
    let config = Config::parse(&format!("{WEST}{EXPORT}"), Path::new("west.yaml")).unwrap();
    let early = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let since = first_seen(&BTreeMap::new(), &config, early);
    let later = first_seen(&since, &config, early + Duration::from_secs(9));
    assert_eq!(since, later);
    let told = desired(&config, &later).services;
    let api = &told[&"shop/api".parse().unwrap()];
    assert_eq!((api.since, api.ports.len(), api.most_ready()), (1000, 1, 1));
}

#[tokio::test]
async fn a_link_that_join_makes_is_taken_and_one_that_unlink_removes_goes() {
    let mut fixture = Fixture::plain();
    let identity = fixture.directory.path().join("id");
    std::fs::create_dir(&identity).unwrap();
    let north = "north".parse().unwrap();
    LinkFiles::of(&identity).write(&north, &[]).unwrap();
    fixture.desired(|desired| desired.links.contains_key(&north)).await;
    LinkFiles::of(&identity).remove(&north).unwrap();
    let desired = fixture.desired(|desired| !desired.links.contains_key(&north)).await;
    assert_eq!(desired.links.len(), 1);
}

/// The identity's directory is not there when it would be watched. By a clock that goes on whenever nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_watched_is_looked_at_as_often_as_makes_no_difference() {
    let mut fixture = Fixture::plain();
    sleep(Duration::from_millis(1)).await;
    let identity = fixture.directory.path().join("id");
    std::fs::create_dir(&identity).unwrap();
    sleep(SETTLE * 2).await;
    let (north, began) = ("north".parse().unwrap(), tokio::time::Instant::now());
    LinkFiles::of(&identity).write(&north, &[]).unwrap();
    fixture.desired(|desired| desired.links.contains_key(&north)).await;
    assert!(began.elapsed() <= UNWATCHED + SETTLE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_link_file_that_is_wrong_costs_no_other_link_and_is_reported() {
    let mut fixture = Fixture::plain();
    let identity = fixture.directory.path().join("id");
    std::fs::create_dir(&identity).unwrap();
    let files = LinkFiles::of(&identity);
    let [north, south, centre] = ["north", "south", "centre"].map(|name| name.parse::<ClusterName>().unwrap());
    files.write(&north, &[]).unwrap();
    fixture.desired(|desired| desired.links.contains_key(&north)).await;
    // One that never was good, and one that was: that stays.
    std::fs::write(files.path(&south), "cluster: null\n").unwrap();
    std::fs::write(files.path(&north), ": [").unwrap();
    files.write(&centre, &[]).unwrap();
    let desired = fixture.desired(|desired| desired.links.contains_key(&centre)).await;
    assert!(desired.links.contains_key(&north) && !desired.links.contains_key(&south));
    let wrong = |status: &Arc<RegistryStatus>| status.last_error.clone().unwrap_or_default();
    let both = |status: &_| wrong(status).contains("south.yaml") && wrong(status).contains("north.yaml");
    fixture.status(both).await;
    // The configuration is read in spite of it, and the link whose file has gone ends.
    std::fs::write(&fixture.path, format!("{WEST}{EXPORT}")).unwrap();
    files.remove(&north).unwrap();
    fixture.desired(|desired| !desired.links.contains_key(&north) && !desired.exports.is_empty()).await;
    files.remove(&south).unwrap();
    fixture.status(|status| status.last_error.is_none()).await;
}
