//! A gateway under test, in its cluster's edge namespace: `isthmus run`, or one of the two that this is made of.

use crate::{
    Cluster, Config, Netns, Process,
    admin::{self, Metrics},
    identity::{isthmus, text},
    maps::KernelMap,
    wait::eventually,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
};

/// A running gateway, its configuration file and its log.
#[derive(Debug)]
pub struct Gateway<'a> {
    cluster: &'a Cluster,
    part: Part,
    process: Process,
    surroundings: Surroundings,
}

/// Which command it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `isthmus run`.
    Both,
    /// `isthmus control`.
    Control,
    /// `isthmus gateway`.
    Gateway,
}

impl Part {
    const fn command(self) -> &'static str {
        match self {
            Self::Both => "run",
            Self::Control => "control",
            Self::Gateway => "gateway",
        }
    }

    const fn admin(self) -> SocketAddr {
        match self {
            Self::Both | Self::Gateway => admin::ADDRESS,
            Self::Control => admin::CONTROL,
        }
    }

    /// The path of its file of this kind.
    fn file(self, cluster: &Cluster, kind: &str) -> PathBuf {
        let name = match (self, kind) {
            (Self::Both, "log") => "gateway".to_owned(),
            (Self::Both, _) => cluster.name().to_owned(),
            (part, _) => format!("{}-{}", cluster.name(), part.command()),
        };
        cluster.dir().join(format!("{name}.{kind}"))
    }
}

/// What is different for one gateway than for the others on this machine.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Its /etc/resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// Its /etc/hosts.
    pub hosts: Option<PathBuf>,
    /// How its clock differs, as libfaketime takes it: `+20s`, `-1h`. How fast time passes is not touched.
    pub clock: Option<String>,
    /// Capabilities that root has everywhere else, as `net_raw`.
    pub without: &'static [&'static str],
}

impl Surroundings {
    /// Runs `isthmus <args>` in them to its end.
    ///
    /// # Panics
    /// If it fails.
    pub fn command(&self, netns: &Netns, args: &[&str]) -> String {
        let (binary, mut command) = (isthmus(), self.prefix());
        command.push(text(&binary).to_owned());
        let args: Vec<_> = command.iter().skip(1).map(String::as_str).chain(args.iter().copied()).collect();
        netns.exec(&command[0], &args)
    }

    /// The command that runs what follows it in them.
    pub fn prefix(&self) -> Vec<String> {
        let mut prefix = Vec::new();
        let files = [(&self.resolv_conf, "/etc/resolv.conf"), (&self.hosts, "/etc/hosts")];
        for (file, at) in files.iter().filter_map(|(file, at)| Some((file.as_ref()?, at))) {
            let script = format!("mount --bind {} {at} && exec \"$@\"", text(file));
            prefix.extend(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"].map(String::from),
            );
        }
        if let Some(clock) = &self.clock {
            let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
            assert!(Path::new(&library).is_file(), "{library} is not there: run `make setup`");
            let fake = [format!("LD_PRELOAD={library}"), format!("FAKETIME={clock}")];
            prefix.push("env".into());
            prefix.extend(fake);
            prefix.extend(["FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_RESET=1"].map(String::from));
        }
        if !self.without.is_empty() {
            let dropped: Vec<_> = self.without.iter().map(|capability| format!("-{capability}")).collect();
            prefix.extend(["setpriv".into(), format!("--bounding-set={}", dropped.join(","))]);
        }
        prefix
    }
}

impl<'a> Gateway<'a> {
    /// Writes the configuration, starts the gateway, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(cluster: &'a Cluster, config: &Config) -> Self {
        Self::start_in(cluster, config, &Surroundings::default())
    }

    /// The same, in surroundings of its own.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_in(cluster: &'a Cluster, config: &Config, surroundings: &Surroundings) -> Self {
        Self::start_part(cluster, Part::Both, &config.to_yaml(), surroundings)
    }

    /// Writes the text of a configuration, starts that part of a gateway, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start_part(cluster: &'a Cluster, part: Part, yaml: &str, surroundings: &Surroundings) -> Self {
        let gateway = Self::launch(cluster, part, yaml, surroundings);
        gateway.wait_ready();
        gateway
    }

    /// The same without waiting.
    pub fn launch(cluster: &'a Cluster, part: Part, yaml: &str, surroundings: &Surroundings) -> Self {
        write(cluster, part, yaml);
        Self { cluster, part, process: run(cluster, part, surroundings), surroundings: surroundings.clone() }
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
        self.process = run(self.cluster, self.part, &self.surroundings);
        self.wait_ready();
    }

    /// SIGSTOP: it does nothing any more, and the kernel answers for it.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// SIGHUP: it is to look at its configuration.
    pub fn hang_up(&self) {
        self.process.signal(Signal::HUP);
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
        self.configure_text(&config.to_yaml());
    }

    /// Replaces its configuration file with any text.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure_text(&self, yaml: &str) {
        write(self.cluster, self.part, yaml);
    }

    /// Runs `isthmus <args>` to its end where it runs, in its surroundings.
    ///
    /// # Panics
    /// If the command cannot be started.
    pub fn command(&self, args: &[&str]) -> std::process::Output {
        let (binary, mut command) = (isthmus(), self.surroundings.prefix());
        command.push(text(&binary).to_owned());
        let args: Vec<_> = command.iter().skip(1).map(String::as_str).chain(args.iter().copied()).collect();
        self.cluster.edge().output(&command[0], &args)
    }

    /// Where its admin endpoints are.
    pub fn admin(&self) -> SocketAddr {
        self.part.admin()
    }

    /// Its cluster.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.process.resident()
    }

    /// How many descriptors it has open.
    ///
    /// # Panics
    /// If it has ended.
    pub fn descriptors(&self) -> usize {
        self.process.descriptors()
    }

    /// Lets it have no more than so many descriptors from now on.
    pub fn bound_descriptors(&self, most: usize) {
        self.process.bound_descriptors(most);
    }

    /// The same by kind: see [`crate::descriptors::by_kind`].
    ///
    /// # Panics
    /// If it has ended.
    pub fn descriptors_by_kind(&self) -> BTreeMap<String, usize> {
        self.process.descriptors_by_kind()
    }

    /// How many threads it has of each name.
    ///
    /// # Panics
    /// If it has ended.
    pub fn threads_by_name(&self) -> BTreeMap<String, u64> {
        self.process.threads_by_name()
    }

    /// The map of this name in the programs of its local hop.
    ///
    /// # Panics
    /// If it has none.
    pub fn map(&self, name: &str) -> KernelMap {
        KernelMap::of(self.process.pid(), name)
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
        admin::get(self.cluster.edge(), self.part.admin(), "/readyz")
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
        match admin::get(self.cluster.edge(), self.part.admin(), path) {
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
    Part::Both.file(cluster, "yaml")
}

/// Writes beside and renames, as editors and ConfigMaps do: nobody ever sees half a file.
fn write(cluster: &Cluster, part: Part, yaml: &str) {
    let path = part.file(cluster, "yaml");
    let beside = path.with_extension("new");
    let written = std::fs::write(&beside, yaml).and_then(|()| std::fs::rename(&beside, &path));
    written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn run(cluster: &Cluster, part: Part, surroundings: &Surroundings) -> Process {
    let (log, config, binary) = (part.file(cluster, "log"), part.file(cluster, "yaml"), isthmus());
    let mut command = surroundings.prefix();
    command.extend([text(&binary), part.command(), "--config", text(&config)].map(String::from));
    let args: Vec<_> = command.iter().skip(1).map(String::as_str).collect();
    let name = format!("{}'s {}", cluster.name(), if part == Part::Control { "control" } else { "gateway" });
    Process::start(cluster.edge(), &name, &log, Path::new(&command[0]), &args)
}
