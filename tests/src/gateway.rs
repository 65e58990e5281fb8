//! A gateway under test: `isthmus run` in its cluster's edge namespace.

use crate::{
    Cluster, Config, Process,
    admin::{self, Metrics},
    identity::{isthmus, text},
    wait::eventually,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{path::PathBuf, process::ExitStatus};

/// A running gateway, its configuration file and its log.
#[derive(Debug)]
pub struct Gateway<'a> {
    cluster: &'a Cluster,
    process: Process,
}

impl<'a> Gateway<'a> {
    /// Writes the configuration, starts the gateway, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(cluster: &'a Cluster, config: &Config) -> Self {
        write(cluster, &config.to_yaml());
        let gateway = Self { cluster, process: run(cluster) };
        gateway.wait_ready();
        gateway
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, with the file as it is now.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = run(self.cluster);
        self.wait_ready();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait_end(&mut self) -> ExitStatus {
        eventually(&format!("{}'s gateway ends", self.cluster.name()), || match self.process.ended() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".into()),
            Err(e) => Err(e.to_string()),
        })
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// If the kernel does not know.
    pub fn runs(&mut self) -> bool {
        self.process.ended().unwrap_or_else(|e| panic!("{e}")).is_none()
    }

    /// Replaces its configuration file.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure(&self, config: &Config) {
        write(self.cluster, &config.to_yaml());
    }

    /// Replaces its configuration file with any text.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure_text(&self, yaml: &str) {
        write(self.cluster, yaml);
    }

    /// Its cluster.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.process.resident()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until its log has a line with all of `words`.
    ///
    /// # Panics
    /// If it gets none.
    pub fn wait_log(&self, words: &[&str]) -> String {
        eventually(&format!("a line with {words:?} in {}'s log", self.cluster.name()), || {
            let log = self.log();
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned).ok_or_else(|| "none".into())
        })
    }

    /// Its /readyz: status code and body.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn readyz(&self) -> std::io::Result<(u16, String)> {
        admin::get(self.cluster.edge(), "/readyz")
    }

    /// Its /metrics.
    ///
    /// # Panics
    /// If there are none.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.must_get("/metrics"))
    }

    /// Its /status.
    ///
    /// # Panics
    /// If there is none.
    pub fn status(&self) -> Value {
        let body = self.must_get("/status");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("/status: {e}: {body}"))
    }

    /// Its link with a cluster, as /status has it.
    ///
    /// # Panics
    /// If there is none.
    pub fn link(&self, cluster: &str) -> Value {
        let status = self.status();
        let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
        let link = links.iter().find(|link| link["cluster"] == cluster);
        link.cloned().unwrap_or_else(|| panic!("/status has no link with {cluster}: {status}"))
    }

    /// The clusters that an imported service has ready endpoints in, as /status has it, in order.
    pub fn clusters_of(&self, service: &str) -> Vec<String> {
        let status = self.status();
        let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
        let import = services.iter().find(|entry| entry["kind"] == "import" && entry["service"] == service);
        let clusters = import.and_then(|import| import["clusters"].as_object());
        let ready = clusters.into_iter().flatten().filter(|(_, ready)| ready.as_u64() > Some(0));
        ready.map(|(cluster, _)| cluster.clone()).collect()
    }

    /// Waits until an imported service has endpoints in exactly these clusters.
    ///
    /// # Panics
    /// If that does not come true.
    pub fn wait_imported(&self, service: &str, clusters: &[&str]) {
        eventually(&format!("{} has {service} from {clusters:?}", self.cluster.name()), || {
            let found = self.clusters_of(service);
            if found == clusters { Ok(()) } else { Err(format!("found {found:?} in {}", self.status())) }
        });
    }

    /// Waits until the link with a cluster is in one of `states`.
    ///
    /// # Panics
    /// If it is not.
    pub fn wait_link(&self, cluster: &str, states: &[&str]) {
        eventually(&format!("{}'s link with {cluster} is in {states:?}", self.cluster.name()), || {
            let link = self.link(cluster);
            let state = link["state"].as_str().unwrap_or_default();
            if states.contains(&state) { Ok(()) } else { Err(link.to_string()) }
        });
    }

    /// Waits until a sum of /metrics is as wanted.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn wait_metric(&self, name: &str, labels: &[&str], wanted: impl Fn(f64) -> bool) {
        eventually(&format!("{name}{labels:?} at {}'s gateway", self.cluster.name()), || {
            let sum = self.metrics().sum(name, labels);
            if wanted(sum) { Ok(()) } else { Err(format!("it is {sum}")) }
        });
    }

    fn must_get(&self, path: &str) -> String {
        match admin::get(self.cluster.edge(), path) {
            Ok((200, body)) => body,
            other => panic!("{}'s gateway: {path}: {other:?}", self.cluster.name()),
        }
    }

    fn wait_ready(&self) {
        eventually(&format!("{}'s gateway is ready", self.cluster.name()), || match self.readyz() {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}\n{}", self.log())),
        });
    }
}

/// The path of a cluster's configuration file.
pub fn config_path(cluster: &Cluster) -> PathBuf {
    cluster.dir().join(format!("{}.yaml", cluster.name()))
}

/// Writes beside and renames, as editors and ConfigMaps do: nobody ever sees half a file.
fn write(cluster: &Cluster, yaml: &str) {
    let path = config_path(cluster);
    let beside = path.with_extension("new");
    let written = std::fs::write(&beside, yaml).and_then(|()| std::fs::rename(&beside, &path));
    written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn run(cluster: &Cluster) -> Process {
    let (log, config) = (cluster.dir().join("gateway.log"), config_path(cluster));
    Process::start(
        cluster.edge(),
        &format!("{}'s gateway", cluster.name()),
        &log,
        &isthmus(),
        &["run", "--config", text(&config)],
    )
}
