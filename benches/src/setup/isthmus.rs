//! Two clusters, west and east, by the documented way in: `isthmus identity` and `isthmus run`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Pair, Place, READY, Setup};
use crate::error::{Error, Result};
use crate::ground::local;
use crate::{http, process};

pub(super) fn start(place: &Place<'_>, setup: Setup, transport: &str) -> Result<Pair> {
    let identities = Identities::make(place)?;
    let (tunnel, back, web, bulk) = (place.port()?, place.port()?, place.port()?, place.port()?);
    let (admin, east_admin) = (place.port()?, place.port()?);
    let ground = place.site.ground;
    let near = SocketAddr::new(place.site.ground.near(), back);
    let east = config(&Side {
        place,
        cluster: "east",
        identity: &identities.east,
        tunnel: place.listen(tunnel),
        admin: east_admin,
        // Streams go the way that an HTTP/2 connection was dialled, and each side opens one to say what it exports.
        link: if transport == "h2" { dial("west", &[near], transport) } else { "  - cluster: west\n".into() },
        services: exports(
            &place.site.origin.endpoints,
            ground.back(place.site.origin.bulk.port()),
            policy(setup.hops()),
        ),
    });
    let west = config(&Side {
        place,
        cluster: "west",
        identity: &identities.west,
        tunnel: near,
        admin,
        link: dial("east", &place.far(tunnel), transport),
        services: imports(ground.front(web), ground.front(bulk), policy(setup == Setup::IsthmusHop)),
    });
    let ingress = place.ingress(command(place, &place.config("ingress", "yaml", &east)?))?;
    let egress = place.egress(command(place, &place.config("egress", "yaml", &west)?))?;
    if setup == Setup::IsthmusHop {
        ground.west().within(|| wait_local_hop(place, local(admin)))?;
    }
    if setup.hops() {
        ground.east().within(|| wait_local_hop(place, local(east_admin)))?;
    }
    let pair = Pair::new(setup, ground.front(web), ground.front(bulk), vec![egress, ingress]);
    Ok(Pair { admin: Some(local(admin)), ..pair })
}

/// One gateway, whose cluster has both the clients and the origin.
pub(super) fn start_single(place: &Place<'_>, setup: Setup) -> Result<Pair> {
    if place.site.ground.wan().is_some() {
        return Err(Error::Load(format!(
            "{}: found an emulated WAN, expected loopback: it is one gateway",
            setup.key()
        )));
    }
    let identities = Identities::make(place)?;
    let (tunnel, web, bulk, admin) = (place.port()?, place.port()?, place.port()?, place.port()?);
    let (ground, origin) = (place.site.ground, place.site.origin);
    let exported = exports(&origin.endpoints, ground.back(origin.bulk.port()), policy(setup.hops()));
    let own = format!("\n    affinity: local{}", policy(setup.hops()));
    let config = config(&Side {
        place,
        cluster: "west",
        identity: &identities.west,
        tunnel: local(tunnel),
        admin,
        link: "  []\n".into(),
        services: exported + &imports(ground.front(web), ground.front(bulk), &own),
    });
    let gateway = place.egress(command(place, &place.config("gateway", "yaml", &config)?))?;
    if setup.hops() {
        ground.west().within(|| wait_local_hop(place, local(admin)))?;
    }
    let pair = Pair::new(setup, ground.front(web), ground.front(bulk), vec![gateway]);
    Ok(Pair { admin: Some(local(admin)), ..pair })
}

fn policy(hops: bool) -> &'static str {
    if hops { "\n    policy: {localHop: \"on\"}" } else { "" }
}

/// Waits until the gateway has tested this kernel.
fn wait_local_hop(place: &Place<'_>, admin: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + READY;
    loop {
        let status = http::get(admin, "/status").unwrap_or_default();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        let hop = &status["local_hop"];
        match hop["state"].as_str() {
            Some("on") => return Ok(()),
            Some("off" | "distrusted") => return Err(Error::Load(format!("{}: no local hop: {hop}", place.name))),
            _ if place.site.env.interrupted() => return Err(Error::Interrupted),
            _ if Instant::now() > deadline => return Err(Error::Load(format!("{}: no local hop in time", place.name))),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn command(place: &Place<'_>, config: &Path) -> Command {
    let mut command = Command::new(&place.site.env.tools.isthmus);
    command.arg("run").arg("--config").arg(config).current_dir(place.site.env.dir());
    command
}

struct Side<'a> {
    place: &'a Place<'a>,
    cluster: &'a str,
    identity: &'a Path,
    tunnel: SocketAddr,
    admin: u16,
    link: String,
    services: String,
}

fn config(side: &Side<'_>) -> String {
    let Side { place, cluster, identity, tunnel, admin, link, services } = side;
    // The state's directory is this pair's own, so that it starts from nothing like the peers.
    let (identity, state, cores) = (identity.display(), format!("{}-{cluster}-state", place.name), place.cpus());
    format!(
        "clusterset: bench
cluster: {cluster}
identity: {identity}/
state: {state}/
cores: {cores}
tunnel: {{listen: \"{tunnel}\"}}
admin: \"127.0.0.1:{admin}\"
links:
{link}{services}"
    )
}

fn dial(cluster: &str, endpoints: &[SocketAddr], transport: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!("  - cluster: {cluster}\n    endpoints: [{}]\n    transport: {transport}\n", endpoints.join(", "))
}

fn exports(web: &[SocketAddr], bulk: SocketAddr, policy: &str) -> String {
    let web: Vec<String> = web.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let web = web.join(", ");
    format!(
        "exports:
  - service: bench/web
    ports: [{{name: http, port: 80, protocol: TCP}}]
    endpoints: [{web}]{policy}
  - service: bench/bulk
    ports: [{{name: bulk, port: 81, protocol: TCP}}]
    endpoints: [\"{bulk}\"]{policy}
"
    )
}

fn imports(web: SocketAddr, bulk: SocketAddr, policy: &str) -> String {
    format!(
        "imports:
  - service: bench/web
    port: 80
    listen: \"{web}\"{policy}
  - service: bench/bulk
    port: 81
    listen: \"{bulk}\"{policy}
"
    )
}

struct Identities {
    west: PathBuf,
    east: PathBuf,
}

impl Identities {
    fn make(place: &Place<'_>) -> Result<Self> {
        let dir = |cluster: &str| place.site.env.dir().join(format!("{}-{cluster}", place.name));
        let made = Self { west: dir("west"), east: dir("east") };
        for (cluster, out) in [("west", &made.west), ("east", &made.east)] {
            // A fresh pair of the same name has been here in an earlier round.
            if out.exists() {
                std::fs::remove_dir_all(out).map_err(Error::io(format!("remove {}", out.display())))?;
            }
            identity(place, |command| {
                command.args(["init", "--clusterset", "bench", "--cluster", cluster, "--out"]).arg(out);
            })?;
        }
        for (own, peer, other) in [(&made.west, "east", &made.east), (&made.east, "west", &made.west)] {
            identity(place, |command| {
                command.args(["trust", "--cluster", peer, "--identity"]).arg(own);
                command.arg("--bundle").arg(other.join("ca.pem"));
            })?;
        }
        Ok(made)
    }
}

fn identity(place: &Place<'_>, arguments: impl FnOnce(&mut Command)) -> Result<()> {
    let mut command = Command::new(&place.site.env.tools.isthmus);
    command.arg("identity");
    arguments(&mut command);
    process::run("isthmus identity", command, Duration::from_secs(30), || place.site.env.interrupted()).map(drop)
}
