use super::*;
use crate::cmd::check::line::Mark;
use isthmus_certs::Directory;
use std::{
    net::TcpListener,
    sync::atomic::{AtomicU8, Ordering},
};

/// A directory with west's configuration and identity; the changes are made to the configuration's text.
fn west(change: impl FnOnce(String) -> String) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let lifetime = std::time::Duration::from_hours(24);
    Directory::init(dir.path().join("identity"), "west.demo".parse().unwrap(), lifetime, SystemTime::now()).unwrap();
    let path = dir.path().join("west.yaml");
    // Ports that no other test has: each has an address of its own.
    static TESTS: AtomicU8 = AtomicU8::new(1);
    let host = format!("127.91.{}.1", TESTS.fetch_add(1, Ordering::Relaxed));
    let text = format!(
        "clusterset: demo\ncluster: west\nidentity: identity/\ntunnel: {{listen: \"{host}:15008\"}}\nadmin: \"{host}:15020\"\n\
         limits: {{connections: 10}}\n"
    );
    std::fs::write(&path, change(text)).unwrap();
    (dir, path)
}

/// The checks that failed, with what was found.
async fn failed(path: &Path) -> Vec<(&'static str, String)> {
    let lines = lines(&File::read(path), false, SystemTime::now()).await;
    let failed = lines.into_iter().filter(|line| line.mark == Mark::Failed);
    failed.map(|line| (line.check, line.found.unwrap_or_default())).collect()
}

#[tokio::test]
async fn what_is_in_order_fails_nothing() {
    let (_dir, path) = west(|text| text);
    assert_eq!(failed(&path).await, []);
}

#[tokio::test]
async fn a_wrong_file_is_told_with_its_line_and_field() {
    let (_dir, path) = west(|text| text + "exports: [{service: shop/api, ports: 80}]\n");
    let [(check, found)] = failed(&path).await.try_into().unwrap();
    assert!(check == "config.file" && found.contains("7:") && found.contains("exports[0].ports"), "{found}");
}

#[tokio::test]
async fn an_identity_that_is_missing_or_anothers_is_told() {
    let (dir, path) = west(|text| text.replace("cluster: west", "cluster: east"));
    let [(check, found)] = failed(&path).await.try_into().unwrap();
    assert_eq!((check, &*found), ("identity.cluster", "found that of west.demo, expected that of east.demo"));
    std::fs::remove_file(dir.path().join("identity/svid.key")).unwrap();
    let [(check, _)] = failed(&path).await.try_into().unwrap();
    assert_eq!(check, "identity.cluster", "the start would make an SVID, of the same cluster");
    std::fs::remove_file(dir.path().join("identity/ca.key")).unwrap();
    let [(check, found)] = failed(&path).await.try_into().unwrap();
    assert!(check == "identity.files" && found.contains("svid.key"), "{found}");
}

#[tokio::test]
async fn what_a_start_makes_by_itself_is_told_and_fails_nothing() {
    let (dir, path) = west(|text| text + "links: [{cluster: east}]\n");
    let east = tempfile::tempdir().unwrap();
    let lifetime = std::time::Duration::from_hours(24);
    let (east, _) =
        Directory::init(east.path().join("id"), "east.demo".parse().unwrap(), lifetime, SystemTime::now()).unwrap();
    let west = Directory::new(dir.path().join("identity"));
    west.trust(&"east".parse().unwrap(), &east.ca_path()).unwrap();
    for name in ["svid.key", "svid.pem"] {
        std::fs::remove_file(west.path().join(name)).unwrap();
    }
    assert_eq!(failed(&path).await, []);
    let lines = lines(&File::read(&path), false, SystemTime::now()).await;
    let files = lines.iter().find(|line| line.check == "identity.files").unwrap();
    assert!(files.found.as_ref().unwrap().ends_with("the start makes an SVID, from ca.key"), "{files:?}");
    assert!(!west.path().join("svid.pem").exists(), "a check writes nothing");
}

#[tokio::test]
async fn a_file_that_is_not_there_leads_to_one_that_is() {
    let dir = tempfile::tempdir().unwrap();
    for (name, words) in [("west.yaml", "docs/configuration.md"), ("", "name a file")] {
        let lines = lines(&File::read(&dir.path().join(name)), false, SystemTime::now()).await;
        let [line] = lines.try_into().unwrap();
        assert!(line.check == "config.file" && line.fix.as_ref().unwrap().contains(words), "{line:?}");
    }
}

#[tokio::test]
async fn a_peer_that_is_not_trusted_or_not_there_is_told() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_dir, path) = west(|text| text + &format!("links: [{{cluster: east, endpoints: [\"{gone}\"]}}]\n"));
    let [(trust, bundle), (port, found)] = failed(&path).await.try_into().unwrap();
    assert_eq!((trust, port), ("identity.trust", "peer.port"));
    assert!(bundle.contains("identity/bundles/east.pem"), "{bundle}");
    assert!(found.contains("refused"), "{found}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_its_field() {
    let (_dir, path) = west(|text| text);
    let _taken = TcpListener::bind(File::read(&path).config().unwrap().admin).unwrap();
    let [(check, found)] = failed(&path).await.try_into().unwrap();
    assert!(check == "machine.port" && found.contains("in use"), "{found}");
}
