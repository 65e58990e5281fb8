//! The container image: its layers, put over each other, run a gateway as nobody in particular, and nothing else is needed.

use crate::made::{EPOCH, file, scratch, succeed};
use isthmus_tests::{Netns, Process, admin, eventually, identity};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Whom the Dockerfile names.
const USER: u32 = 65532;

/// An image's layout, unpacked.
struct Image(TempDir);

impl Image {
    fn unpack() -> Self {
        let layout = scratch();
        succeed(Command::new("tar").arg("-C").arg(layout.path()).arg("-xf").arg(file(".oci.tar")));
        Self(layout)
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.0.path().join(path)).unwrap()).unwrap()
    }

    /// Where a blob is that a descriptor names; it must be what the descriptor says.
    fn blob(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap();
        let path = self.0.path().join("blobs").join(digest.replace(':', "/"));
        let bytes = fs::read(&path).unwrap();
        assert_eq!((digest_of(&bytes), Some(bytes.len() as u64)), (digest.to_owned(), descriptor["size"].as_u64()));
        path
    }

    fn manifest(&self) -> Value {
        let index = self.json("index.json");
        let manifest = &index["manifests"][0];
        assert_eq!(manifest["annotations"]["org.opencontainers.image.ref.name"], env!("CARGO_PKG_VERSION"));
        serde_json::from_slice(&fs::read(self.blob(manifest)).unwrap()).unwrap()
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.blob(&self.manifest()["config"])).unwrap()).unwrap()
    }

    fn layers(&self) -> Vec<PathBuf> {
        self.manifest()["layers"].as_array().unwrap().iter().map(|layer| self.blob(layer)).collect()
    }
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

#[test]
fn the_layout_is_whole_and_says_what_the_dockerfile_says() {
    let image = Image::unpack();
    assert_eq!(image.json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let config = image.config();
    assert_eq!(config["config"]["User"], format!("{USER}:{USER}"));
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/isthmus"]));
    assert_eq!(config["os"], "linux");
    let created = time::OffsetDateTime::from_unix_timestamp(i64::try_from(EPOCH).unwrap()).unwrap();
    let rfc3339 = time::format_description::well_known::Rfc3339;
    assert_eq!(config["created"], created.format(&rfc3339).unwrap());
    // Runtimes refuse a layer that unpacks to something else than the configuration names.
    let unpacked = image.layers().into_iter().map(|layer| {
        let tar = Command::new("gzip").args(["-dc"]).arg(layer).output().unwrap();
        Value::from(digest_of(&tar.stdout))
    });
    assert_eq!(config["rootfs"]["diff_ids"], unpacked.collect::<Value>());
    // And Docker's own list names the same blobs.
    let docker = image.json("manifest.json");
    let path = |path: &Path| Value::from(path.strip_prefix(image.0.path()).unwrap().to_str().unwrap());
    assert_eq!(docker[0]["Layers"], image.layers().iter().map(|layer| path(layer)).collect::<Value>());
    assert_eq!(docker[0]["Config"], path(&image.blob(&image.manifest()["config"])));
}

#[test]
fn its_layers_run_a_gateway_as_nobody_in_particular() {
    let image = Image::unpack();
    let scratch = scratch();
    let root = scratch.path().join("root");
    fs::create_dir(&root).unwrap();
    for layer in image.layers() {
        succeed(Command::new("tar").arg("-C").arg(&root).arg("-xzf").arg(layer));
    }
    // What a runtime mounts: the configuration, and a volume for identity and state.
    let volume = root.join("volume");
    identity::init("demo", "west", "24h", &volume.join("identity"));
    fs::write(
        volume.join("west.yaml"),
        "clusterset: demo\ncluster: west\nidentity: identity/\nstate: state/\nimports:\n  - {service: shop/api, port: 80, listen: \"127.0.0.1:18080\"}\n",
    )
    .unwrap();
    given(&volume);
    let entrypoint = image.config()["config"]["Entrypoint"][0].as_str().unwrap().to_owned();
    let netns = Netns::new("container");
    let user = format!("--userspec={USER}:{USER}");
    let args = [&user, "--groups=", root.to_str().unwrap(), &entrypoint, "run", "--config", "/volume/west.yaml"];
    let log = scratch.path().join("log");
    let gateway = Process::start(&netns, "the container's gateway", &log, Path::new("chroot"), &args);
    eventually("the container's gateway is ready", || match admin::get(&netns, admin::ADDRESS, "/readyz") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}\n{}", gateway.log())),
    });
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    assert!(line("Uid:").split_whitespace().all(|uid| uid == USER.to_string()), "{status}");
    assert_eq!(line("CapEff:"), "0000000000000000", "{status}");
}

/// All of it becomes the container's user's.
fn given(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        fs::read_dir(path).unwrap().for_each(|entry| given(&entry.unwrap().path()));
    }
}
