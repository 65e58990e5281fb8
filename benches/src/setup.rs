//! The setups: none, ours and the peers, each a pair of proxies.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::case::Case;
use crate::certs::Certs;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::ground::{Ground, local};
use crate::origin::{BODY, Origin};
use crate::process::Process;
use crate::{bulk, http};

mod envoy;
mod haproxy;
mod isthmus;
mod legacy;
mod nginx;

/// How long a pair has to pass a request, from its start.
const READY: Duration = Duration::from_secs(20);

/// What stands between the client and the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Setup {
    /// Nothing: what the machine can do.
    Direct,
    /// isthmus, transport tls.
    IsthmusTls,
    /// isthmus, transport tls, with the local hop at both ends; needs root.
    IsthmusHop,
    /// The same between the gateway and endpoints only.
    IsthmusHopEndpoints,
    /// One gateway of isthmus between the client and the origin, both local; on loopback only.
    IsthmusLocal,
    /// The same with the local hop at both ends; needs root.
    IsthmusLocalHop,
    /// isthmus, transport quic.
    IsthmusQuic,
    /// isthmus, transport h2.
    IsthmusH2,
    /// isthmus, transport auto: over TLS and QUIC, by what the path asks for.
    IsthmusAuto,
    /// Envoy, one mTLS connection for each TCP connection.
    EnvoyTcp,
    /// Envoy, HTTP/2 CONNECT.
    EnvoyHbone,
    /// HAProxy, one mTLS connection for each TCP connection.
    Haproxy,
    /// nginx stream, one mTLS connection for each TCP connection.
    Nginx,
    /// No proxy at the client: TLS from client to origin, through an external load balancer of layer 4.
    Legacy,
}

impl Setup {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 14] = [
        Self::Direct,
        Self::IsthmusTls,
        Self::IsthmusHop,
        Self::IsthmusHopEndpoints,
        Self::IsthmusLocal,
        Self::IsthmusLocalHop,
        Self::IsthmusQuic,
        Self::IsthmusH2,
        Self::IsthmusAuto,
        Self::EnvoyTcp,
        Self::EnvoyHbone,
        Self::Haproxy,
        Self::Nginx,
        Self::Legacy,
    ];
    /// Those that a run on loopback has if none are named.
    pub const LOOPBACK: [Self; 8] = [
        Self::Direct,
        Self::IsthmusTls,
        Self::IsthmusQuic,
        Self::IsthmusH2,
        Self::EnvoyTcp,
        Self::EnvoyHbone,
        Self::Haproxy,
        Self::Nginx,
    ];
    /// Those that isthmus is measured against.
    pub const PEERS: [Self; 4] = [Self::EnvoyTcp, Self::EnvoyHbone, Self::Haproxy, Self::Nginx];

    /// As on the command line and in results.json.
    pub fn key(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::IsthmusTls => "isthmus-tls",
            Self::IsthmusHop => "isthmus-hop",
            Self::IsthmusHopEndpoints => "isthmus-hop-endpoints",
            Self::IsthmusLocal => "isthmus-local",
            Self::IsthmusLocalHop => "isthmus-local-hop",
            Self::IsthmusQuic => "isthmus-quic",
            Self::IsthmusH2 => "isthmus-h2",
            Self::IsthmusAuto => "isthmus-auto",
            Self::EnvoyTcp => "envoy-tcp",
            Self::EnvoyHbone => "envoy-hbone",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Legacy => "legacy",
        }
    }

    /// As in the tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct, no proxy",
            Self::IsthmusTls => "isthmus x2, tls",
            Self::IsthmusHop => "isthmus x2, tls, local hop",
            Self::IsthmusHopEndpoints => "isthmus x2, tls, local hop to endpoints",
            Self::IsthmusLocal => "isthmus x1, inside its cluster",
            Self::IsthmusLocalHop => "isthmus x1, inside its cluster, local hop",
            Self::IsthmusQuic => "isthmus x2, quic",
            Self::IsthmusH2 => "isthmus x2, h2",
            Self::IsthmusAuto => "isthmus x2, auto",
            Self::EnvoyTcp => "Envoy x2, TLS per connection",
            Self::EnvoyHbone => "Envoy x2, HBONE",
            Self::Haproxy => "HAProxy x2, TLS per connection",
            Self::Nginx => "nginx stream x2, TLS per connection",
            Self::Legacy => "external load balancer, TLS from the client",
        }
    }

    /// Whether it has the local hop at one end or both.
    pub fn hops(self) -> bool {
        matches!(self, Self::IsthmusHop | Self::IsthmusHopEndpoints | Self::IsthmusLocalHop)
    }

    /// Whether it is one gateway, with the client on one side and the origin on the other.
    pub fn is_single(self) -> bool {
        matches!(self, Self::IsthmusLocal | Self::IsthmusLocalHop)
    }

    /// Whether it is isthmus.
    pub fn is_ours(self) -> bool {
        self.key().starts_with("isthmus")
    }

    /// Whether it goes by what it has seen of a service, so that a load says something only after another one like it.
    pub fn learns(self, case: Case) -> bool {
        self.hops() && !case.wants_fresh_pair()
    }

    /// Whether it can be measured with clients and the origin apart from the proxies.
    pub fn runs_apart(self) -> bool {
        matches!(self, Self::Direct | Self::IsthmusTls) || self.hops() || self.is_single()
    }

    /// Whether `case` says anything about it.
    pub fn runs(self, case: Case) -> bool {
        match self {
            Self::Direct => case != Case::Memory,
            // Our own clients speak no TLS, and its bulk would be without.
            Self::Legacy => matches!(case, Case::Many | Case::Close),
            _ => true,
        }
    }

    /// Starts the pair and waits until a request and bytes pass through it. `instance` tells this pair's files from
    /// those of another pair of the same setup.
    pub fn start(self, site: &Site<'_>, instance: &str) -> Result<Pair> {
        let place = Place { site, name: format!("{}-{instance}", self.key()) };
        let mut pair = match self {
            Self::Direct => {
                let origin = |port| site.ground.origin(port);
                Pair::new(self, origin(site.origin.web), origin(site.origin.bulk.port()), Vec::new())
            }
            Self::IsthmusTls | Self::IsthmusHop | Self::IsthmusHopEndpoints => isthmus::start(&place, self, "tls")?,
            Self::IsthmusLocal | Self::IsthmusLocalHop => isthmus::start_single(&place, self)?,
            Self::IsthmusQuic => isthmus::start(&place, self, "quic")?,
            Self::IsthmusH2 => isthmus::start(&place, self, "h2")?,
            Self::IsthmusAuto => isthmus::start(&place, self, "auto")?,
            Self::EnvoyTcp => envoy::start_tcp(&place)?,
            Self::EnvoyHbone => envoy::start_hbone(&place)?,
            Self::Haproxy => haproxy::start(&place)?,
            Self::Nginx => nginx::start(&place)?,
            Self::Legacy => legacy::start(&place)?,
        };
        site.ground.clients().within(|| pair.wait_ready(site.env))?;
        Ok(pair)
    }
}

/// What all pairs of a run, or of a part of it, have in common.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The run.
    pub env: &'a Env,
    /// Where the two halves are.
    pub ground: &'a Ground,
    /// What they lead to.
    pub origin: &'a Origin,
    /// The peers' identity.
    pub certs: &'a Certs,
}

/// What the start of a pair is given.
struct Place<'a> {
    site: &'a Site<'a>,
    name: String,
}

impl Place<'_> {
    /// The next free port.
    fn port(&self) -> Result<u16> {
        self.site.env.ports.take()
    }

    /// How many threads or workers each proxy has.
    fn cpus(&self) -> usize {
        self.site.env.cpus
    }

    /// Where the ingress proxy listens.
    fn listen(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.site.ground.listen(), port)
    }

    /// Where the egress proxy finds the ingress proxy: an address for each path.
    fn far(&self, port: u16) -> Vec<SocketAddr> {
        self.site.ground.far().iter().map(|&address: &IpAddr| SocketAddr::new(address, port)).collect()
    }

    /// Whether there are several paths, and so a reason to find out which are alive.
    fn has_paths(&self) -> bool {
        self.site.ground.far().len() > 1
    }

    /// Starts the process on the client's side.
    fn egress(&self, command: Command) -> Result<Process> {
        self.site.ground.west().within(|| self.spawn("egress", command))
    }

    /// Starts the process on the service's side.
    fn ingress(&self, command: Command) -> Result<Process> {
        self.site.ground.east().within(|| self.spawn("ingress", command))
    }

    fn spawn(&self, role: &str, command: Command) -> Result<Process> {
        Process::start(&format!("{}-{role}", self.name), command, self.site.env.dir())
    }

    /// Writes a configuration for `role` and returns where.
    fn config(&self, role: &str, extension: &str, content: &str) -> Result<std::path::PathBuf> {
        let path = self.site.env.dir().join(format!("{}-{role}.{extension}", self.name));
        crate::error::write_file(&path, content)?;
        Ok(path)
    }
}

/// A running pair of proxies, or nothing for [`Setup::Direct`]; ended when dropped.
#[derive(Debug)]
pub struct Pair {
    /// Of which setup.
    pub setup: Setup,
    /// Leads to the origin's nginx.
    pub web: SocketAddr,
    /// The same as wrk wants it.
    pub url: String,
    /// Leads to the bulk server.
    pub bulk: SocketAddr,
    /// Where isthmus' egress says what it does, on its own loopback.
    pub admin: Option<SocketAddr>,
    processes: Vec<Process>,
}

impl Pair {
    fn new(setup: Setup, web: SocketAddr, bulk: SocketAddr, processes: Vec<Process>) -> Self {
        Self { setup, web, url: format!("http://{web}/"), bulk, admin: None, processes }
    }

    /// A pair whose egress proxy has these ports of its own loopback.
    fn behind(setup: Setup, web: u16, bulk: u16, processes: Vec<Process>) -> Self {
        Self::new(setup, local(web), local(bulk), processes)
    }

    /// Whether clients speak plain HTTP to it, and so ours can; others can be measured with wrk only.
    pub fn is_plain(&self) -> bool {
        self.url.starts_with("http:")
    }

    /// The processes' ids; their children are found through these.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::pid).collect()
    }

    /// An error, with the log, if one of the two has ended.
    pub fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    fn wait_ready(&mut self, env: &Env) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            self.check()?;
            let problem = match self.probe() {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            };
            if Instant::now() > deadline {
                return Err(self.not_ready(&problem.to_string()));
            }
            bulk::sleep(Duration::from_millis(50), &|| env.interrupted())?;
        }
    }

    fn probe(&self) -> std::io::Result<()> {
        if !self.is_plain() {
            return http::connect(self.web).map(drop);
        }
        let length = http::exchange(&mut http::connect(self.web)?, "/")?;
        if length != BODY {
            return Err(std::io::Error::other(format!("expected a body of {BODY} bytes, found {length}")));
        }
        bulk::probe(self.bulk)
    }

    fn not_ready(&self, problem: &str) -> Error {
        let logs = self.processes.iter().map(|process| process.failure(problem).to_string()).collect::<Vec<_>>();
        Error::Load(format!("{}: no request passed within {READY:?}\n{}", self.setup.title(), logs.join("\n")))
    }
}
