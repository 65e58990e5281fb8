//! The configuration file: read once, at the edge, into typed values.
//!
//! ```text
//! text ──node──▶ tree with places ──fields, by the schema──▶ Config, or everything that is wrong with it
//! ```

pub mod access;
pub mod compat;
#[cfg(test)]
mod definition;
mod error;
mod fields;
mod imports;
pub mod links;
mod node;
mod parse;
pub mod policy;
pub mod schema;
mod traces;
mod values;

pub use compat::System;
pub use error::{ConfigError, ConfigErrors, Position};
pub use links::LinkFiles;

use crate::registry::{DesiredImport, DesiredLink};
use fields::{Fields, Problems};
use isthmus_control_api::{
    AccessPolicy, Cidr, ClusterName, ClustersetName, Export, Listen, PeerAddress, PolicyName, Relaying, ServicePort,
    Workload,
};
use node::{Node, SyntaxError};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::SocketAddr,
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A larger file is refused unread.
pub const MAX_FILE: u64 = 1 << 20;

/// The most links.
pub const MOST_LINKS: usize = 256;

/// A whole configuration, all of it checked but for what only the file system knows (see [`Config::check_files`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file, as the caller named it.
    pub path: PathBuf,
    /// The set of clusters that share services.
    pub clusterset: ClustersetName,
    /// This cluster's id.
    pub cluster: ClusterName,
    /// The identity's directory.
    pub identity: PathBuf,
    /// Where the peers' bundles lie; `None`: in that directory.
    pub bundles: Option<PathBuf>,
    /// How peers reach this gateway.
    pub tunnel: Tunnel,
    /// Where the admin endpoints are served.
    pub admin: SocketAddr,
    /// Who may look at the console there.
    pub console: Console,
    /// Where the last good table is kept.
    pub state: PathBuf,
    /// Where access records go.
    pub access_log: AccessLog,
    /// Where spans of sampled streams go; `None`: nowhere.
    pub traces: Option<Traces>,
    /// How long streams may go on after SIGTERM.
    pub drain: Duration,
    /// How many cores to serve on; `None`: all.
    pub cores: Option<NonZeroUsize>,
    /// Whether cores ask for more for a moment after work, before they sleep; `None`: unless there is a CPU quota.
    pub busy_poll: Option<bool>,
    /// Whether one socket a core is to take the connections to all imports.
    pub shared_listener: bool,
    /// The addresses that this gateway may use as clients' own, for exports with `transparentSource`.
    pub transparent_sources: Vec<Cidr>,
    /// Whether linked clusters may measure what a link with this gateway carries.
    pub measurements: bool,
    /// The zone that this gateway runs in, where that is said.
    pub zone: Option<Arc<str>>,
    /// The node that it runs on, where that is said.
    pub node: Option<Arc<str>>,
    /// Bounds on what the process takes.
    pub limits: Limits,
    /// How UDP flows are served.
    pub udp: Udp,
    /// What says what this cluster exports and imports; `None`: the file itself.
    pub kubernetes: Option<Kubernetes>,
    /// The DNS server; `None`: none.
    pub dns: Option<Dns>,
    /// Where control and gateway meet, if they are two processes.
    pub control: Option<ControlAt>,
    /// The clusters to link with.
    pub links: BTreeMap<ClusterName, DesiredLink>,
    /// What this cluster's gateways carry for others.
    pub relay: Relaying,
    /// What this cluster serves.
    pub exports: BTreeMap<ServicePort, Export>,
    /// What local clients can use, and where.
    pub imports: BTreeMap<Listen, DesiredImport>,
    /// Whose the addresses of local clients are.
    pub sources: BTreeMap<Cidr, Arc<Workload>>,
    /// Who may use what this cluster serves.
    pub policies: BTreeMap<PolicyName, Arc<AccessPolicy>>,
}

/// The `control` section: which of the two it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlAt {
    /// A control.
    Listen {
        /// Where its gateways come.
        gateways: SocketAddr,
        /// Where they bring those who were invited; `None`: nowhere.
        joins: Option<SocketAddr>,
    },
    /// A gateway.
    Address {
        /// Where its control is.
        control: PeerAddress,
        /// Where those who were invited are brought; `None`: they are refused.
        joins: Option<PeerAddress>,
    },
}

/// The `accessLog` key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// To the end of this file.
    File(PathBuf),
}

/// The `traces` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// The collector's OTLP receiver for gRPC: `http://host:port`, or `https://host:port` for TLS.
    pub endpoint: String,
    /// What its certificate is trusted by, as PEM; `None`: the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Of a million traces that begin here, so many are sampled.
    pub per_million: u32,
}

/// The `console` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Console {
    /// The file with the token that whoever looks has to know; `None`: only those on loopback may look.
    pub token_file: Option<PathBuf>,
}

/// The `tunnel` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Where peers' tunnels are accepted.
    pub listen: SocketAddr,
    /// Where peers can dial this gateway.
    pub advertise: Vec<PeerAddress>,
}

/// The `limits` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes buffered for all streams together.
    pub memory: u64,
    /// Local connections at once.
    pub connections: usize,
    /// Streams at once that one peer cluster may have open to this one.
    pub streams_per_peer: usize,
    /// TLS handshakes under way at once.
    pub handshakes: usize,
    /// From a tunnel's first byte to its proven identity.
    pub handshake_timeout: Duration,
    /// For connecting to one endpoint.
    pub connect_timeout: Duration,
    /// UDP flows of local clients at once.
    pub udp_flows: usize,
}

/// The `udp` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Udp {
    /// How long a flow lives on in which nothing moves.
    pub idle_timeout: Duration,
}

/// The `registry.kubernetes` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// How to reach the API server; `None`: as a pod of the cluster does.
    pub kubeconfig: Option<PathBuf>,
    /// Which context of it; `None`: its current one.
    pub context: Option<String>,
    /// Where our gateways and the Lease are.
    pub namespace: String,
    /// The label selector of our gateways' pods.
    pub gateway_selector: String,
    /// The ports for imports.
    pub ports: RangeInclusive<u16>,
    /// How many of them the services of one linked cluster can have.
    pub ports_per_cluster: usize,
    /// How many Services with a virtual address they can have.
    pub addresses_per_cluster: usize,
    /// The Secret with this cluster's CA; `None`: the identity directory has it.
    pub ca_secret: Option<String>,
    /// Whether pods are watched, to know whose their addresses are.
    pub pod_identity: bool,
    /// The systems whose manifests are understood.
    pub compat: BTreeSet<System>,
    /// Whether and how ExternalDNS is told of exports; `None`: it is not.
    pub external_dns: Option<ExternalDns>,
}

/// The `registry.kubernetes.externalDns` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalDns {
    /// The Service in our namespace whose load balancer's addresses are those of the gateways.
    pub service: String,
    /// The gateways' public addresses, IP addresses or DNS names; none: those of the Service.
    pub addresses: Vec<String>,
}

/// The `dns` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Where queries are answered.
    pub listen: SocketAddr,
    /// The domain of the clusterset's names.
    pub domain: ClustersetName,
    /// How long clients may keep an answer.
    pub ttl: Duration,
}

impl AccessLog {
    /// The same, a relative path being relative to `directory`.
    fn within(self, directory: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(directory.join(path)),
            Self::Off | Self::Stdout => self,
        }
    }
}

impl Config {
    /// Reads and parses the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is larger than [`MAX_FILE`], or is wrong: everything that one pass finds.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::parse(&read(path)?, path)
    }

    /// Parses `text`. `path` names it in errors, and paths in it are relative to `path`'s directory.
    ///
    /// # Errors
    /// Everything that is wrong with it, as far as one pass finds it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        let root = match Node::parse(text) {
            Ok(Some(root)) => root,
            Ok(None) => return Err(ConfigErrors::whole(path, "nothing", "a configuration")),
            Err(SyntaxError { at, found, expected }) => {
                let error = ConfigError { at: Some(at), field: String::new(), found, expected: expected.into() };
                return Err(ConfigErrors::new(path, vec![error]));
            }
        };
        let problems = Problems::default();
        let config = Fields::open(&root, "", String::new(), &problems).and_then(|top| parse::config(&top, path));
        let errors = problems.into_list();
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            _ => Err(ConfigErrors::new(path, errors)),
        }
    }

    /// The same with the links that `isthmus join` has made, which lie beside the identity.
    ///
    /// Those that are wrong, or that the configuration has itself, are left out: the registry reports them.
    #[must_use]
    pub fn with_links(mut self) -> Self {
        let files = LinkFiles::of(&self.identity);
        let (made, _) = links::all(&files.read());
        let _ = links::merge(&mut self, &files, made);
        self
    }

    /// Checks what only the file system knows: that the identity's directory is there. To be called before a start; a running
    /// process watches its identity anyway.
    ///
    /// # Errors
    /// It is missing, or no directory.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        let is_made = self.kubernetes.as_ref().is_some_and(|kubernetes| kubernetes.ca_secret.is_some());
        if is_made || self.identity.is_dir() {
            return Ok(());
        }
        let found = format!("{:?}, which is no directory", self.identity.display().to_string());
        let mut errors = ConfigErrors::whole(&self.path, found, "what `isthmus identity init` writes");
        for error in &mut errors.errors {
            error.field = "identity".into();
        }
        Err(errors)
    }
}

/// The text at `path`, if it is a text of bounded length.
pub(crate) fn read(path: &Path) -> Result<String, ConfigErrors> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    if let Err(error) = file {
        return Err(ConfigErrors::whole(path, format!("a file that cannot be read ({error})"), "a configuration"));
    }
    if bytes.len() as u64 > MAX_FILE {
        return Err(ConfigErrors::whole(path, "more than 1 MiB", "a configuration of at most 1 MiB"));
    }
    String::from_utf8(bytes)
        .map_err(|error| ConfigErrors::whole(path, format!("no UTF-8 ({error})"), "a text in UTF-8"))
}

#[cfg(test)]
mod tests;
