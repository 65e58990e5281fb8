//! What the whole run shares: the directory, the ports, the programs, the interruption flag.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::ports::Ports;
use crate::setup::Setup;

/// Shared by all parts of a run; removes the temporary directory when dropped.
#[derive(Debug)]
pub struct Env {
    dir: TempDir,
    interrupted: Arc<AtomicBool>,
    /// Free ports.
    pub ports: Ports,
    /// Programs that are driven.
    pub tools: Tools,
    /// CPUs that everything shares, and so how many threads or workers each proxy is given.
    pub cpus: usize,
}

impl Env {
    /// A fresh directory for a run that uses `tools` on `cpus` and ends when `interrupted` is set.
    pub fn new(tools: Tools, cpus: usize, interrupted: Arc<AtomicBool>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("isthmus-bench-").tempdir();
        let dir = dir.map_err(Error::io("creating a temporary directory"))?;
        Ok(Self { dir, interrupted, ports: Ports::new(std::process::id()), tools, cpus })
    }

    /// Where configurations, keys and logs are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether Ctrl-C was pressed.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// Paths of programs.
#[derive(Debug)]
pub struct Tools {
    /// The load generator.
    pub wrk: PathBuf,
    /// Origin, and a peer.
    pub nginx: PathBuf,
    /// Makes the peers' certificates.
    pub openssl: PathBuf,
    /// A peer.
    pub haproxy: PathBuf,
    /// A peer, from PyPI.
    pub envoy: PathBuf,
    /// Ours.
    pub isthmus: PathBuf,
}

impl Tools {
    /// Finds what `setups` need; `isthmus` and `envoy` where given, else where they are built and installed.
    pub fn find(setups: &[Setup], isthmus: Option<PathBuf>, envoy: Option<PathBuf>) -> Result<Self> {
        let wanted = |these: &[Setup]| setups.iter().any(|setup| these.contains(setup));
        let optional = |name: &str, these: &[Setup]| if wanted(these) { find(name) } else { Ok(PathBuf::new()) };
        let isthmus = isthmus.unwrap_or_else(|| beside_us("isthmus"));
        if setups.iter().any(|setup| setup.is_ours()) && !isthmus.is_file() {
            let hint = "build it with `cargo build --release`, or name one with --isthmus PATH".into();
            return Err(Error::Missing { program: isthmus.display().to_string(), hint });
        }
        Ok(Self {
            wrk: find("wrk")?,
            nginx: find("nginx")?,
            openssl: find("openssl")?,
            haproxy: optional("haproxy", &[Setup::Haproxy])?,
            envoy: match envoy.unwrap_or_else(|| beside_us("../tools/bin/envoy")) {
                there if there.is_file() => there,
                _ => optional("envoy", &[Setup::EnvoyTcp, Setup::EnvoyHbone])?,
            },
            isthmus,
        })
    }
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// A file of the build that we are of.
fn beside_us(path: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(path)
}

/// In PATH, or where Debian has daemons, which is not in every user's PATH.
fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::missing(name))
}
