//! The setups: none, ours and the peers, each a pair of proxies on loopback.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::certs::Certs;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::origin::{BODY, Origin};
use crate::process::Process;
use crate::{bulk, http};

mod envoy;
mod haproxy;
mod isthmus;
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
    /// isthmus, transport quic.
    IsthmusQuic,
    /// isthmus, transport h2.
    IsthmusH2,
    /// Envoy, one mTLS connection for each TCP connection.
    EnvoyTcp,
    /// Envoy, HTTP/2 CONNECT.
    EnvoyHbone,
    /// HAProxy, one mTLS connection for each TCP connection.
    Haproxy,
    /// nginx stream, one mTLS connection for each TCP connection.
    Nginx,
}

impl Setup {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 8] = [
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
            Self::IsthmusQuic => "isthmus-quic",
            Self::IsthmusH2 => "isthmus-h2",
            Self::EnvoyTcp => "envoy-tcp",
            Self::EnvoyHbone => "envoy-hbone",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// As in the tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct, no proxy",
            Self::IsthmusTls => "isthmus x2, tls",
            Self::IsthmusQuic => "isthmus x2, quic",
            Self::IsthmusH2 => "isthmus x2, h2",
            Self::EnvoyTcp => "Envoy x2, TLS per connection",
            Self::EnvoyHbone => "Envoy x2, HBONE",
            Self::Haproxy => "HAProxy x2, TLS per connection",
            Self::Nginx => "nginx stream x2, TLS per connection",
        }
    }

    /// Starts the pair and waits until a request and bytes pass through it. `instance` tells this pair's files from
    /// those of another pair of the same setup.
    pub fn start(self, env: &Env, origin: &Origin, certs: &Certs, instance: &str) -> Result<Pair> {
        let place = Place { env, origin, certs, name: format!("{}-{instance}", self.key()) };
        let mut pair = match self {
            Self::Direct => Pair { setup: self, web: origin.web, bulk: origin.bulk.port(), processes: Vec::new() },
            Self::IsthmusTls => isthmus::start(&place, self, "tls")?,
            Self::IsthmusQuic => isthmus::start(&place, self, "quic")?,
            Self::IsthmusH2 => isthmus::start(&place, self, "h2")?,
            Self::EnvoyTcp => envoy::start_tcp(&place)?,
            Self::EnvoyHbone => envoy::start_hbone(&place)?,
            Self::Haproxy => haproxy::start(&place)?,
            Self::Nginx => nginx::start(&place)?,
        };
        pair.wait_ready(env)?;
        Ok(pair)
    }
}

/// What the start of a pair is given.
struct Place<'a> {
    env: &'a Env,
    origin: &'a Origin,
    certs: &'a Certs,
    name: String,
}

impl Place<'_> {
    /// Starts one of the two processes.
    fn spawn(&self, role: &str, command: Command) -> Result<Process> {
        Process::start(&format!("{}-{role}", self.name), command, self.env.dir())
    }

    /// Writes a configuration for `role` and returns where.
    fn config(&self, role: &str, extension: &str, content: &str) -> Result<std::path::PathBuf> {
        let path = self.env.dir().join(format!("{}-{role}.{extension}", self.name));
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
    pub web: u16,
    /// Leads to the bulk server.
    pub bulk: u16,
    processes: Vec<Process>,
}

impl Pair {
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
