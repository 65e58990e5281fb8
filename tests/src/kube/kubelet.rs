//! What a kubelet does with Secrets that pods mount: files, and a swap of all of them at once when the Secret changes.

use super::{KubeCluster, kubeconfig};
use crate::wait::PAUSE;
use ::kube::Api;
use k8s_openapi::api::core::v1::Secret;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

type Files = BTreeMap<String, Vec<u8>>;

/// Keeps directories the same as Secrets of a namespace, as long as it lives.
#[derive(Debug)]
pub struct Kubelet {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Kubelet {
    /// Mounts each Secret at the directory beside its name.
    ///
    /// # Panics
    /// If that does not work, in its own thread.
    pub fn start(cluster: &KubeCluster, namespace: &str, volumes: Vec<(String, PathBuf)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, namespace) = (Arc::clone(&stop), namespace.to_owned());
        let access = super::admin(&cluster.server, &cluster.name, cluster.relay.address());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|e| panic!("a runtime: {e}"));
            runtime.block_on(async {
                let secrets: Api<Secret> = Api::namespaced(kubeconfig::client(access).await, &namespace);
                let mut mounted: BTreeMap<String, Files> = BTreeMap::new();
                while !stopped.load(Ordering::Relaxed) {
                    for (name, path) in &volumes {
                        // An API server that is away changes nothing.
                        let Ok(Some(secret)) = secrets.get_opt(name).await else { continue };
                        let files = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                        let files: Files = files.collect();
                        if mounted.get(name) != Some(&files) {
                            swap(path, &files).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                            mounted.insert(name.clone(), files);
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it panicked of was told.
            let _ = thread.join();
        }
    }
}

/// As k8s.io/kubernetes/pkg/volume/util/atomic_writer.go has it: the files are links into `..data`, which is a link to a directory and is
/// replaced by one rename.
fn swap(volume: &Path, files: &Files) -> std::io::Result<()> {
    fs::create_dir_all(volume)?;
    let data = volume.join("..data");
    let old = fs::read_link(&data).ok();
    let number = old.as_ref().and_then(|old| old.to_str()?.strip_prefix("..version-")?.parse::<u32>().ok());
    let new = format!("..version-{}", number.map_or(0, |number| number + 1));
    fs::create_dir(volume.join(&new))?;
    for (name, bytes) in files {
        fs::write(volume.join(&new).join(name), bytes)?;
    }
    let next = volume.join("..data_tmp");
    symlink(&new, &next)?;
    fs::rename(&next, &data)?;
    for name in files.keys().filter(|name| volume.join(name).symlink_metadata().is_err()) {
        symlink(Path::new("..data").join(name), volume.join(name))?;
    }
    for entry in fs::read_dir(volume)? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !files.contains_key(&*name) {
            fs::remove_file(entry)?;
        }
    }
    old.map_or(Ok(()), |old| fs::remove_dir_all(volume.join(old)))
}
