//! What `invite`, `join`, `unlink` and the running gateway have in common: this cluster's files, and what linking does to them.

mod by_secrets;

pub(super) use by_secrets::decide_by;

use super::Failure;
use isthmus_certs::{Directory, Fingerprint, Identity, IdentityStore, Role, TrustAnchors, TrustDomain};
use isthmus_control::{Config, LinkFiles, MOST_LINKS};
use isthmus_control_api::{ClusterName, PeerAddress};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// `--config`: flatten it into a subcommand's arguments.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigFile {
    /// This cluster's configuration, with which its gateway runs
    #[arg(long = "config", value_name = "FILE", default_value = "isthmus.yaml")]
    pub(super) path: PathBuf,
}

/// This cluster, as its files have it.
pub(super) struct Here {
    pub(super) config: Config,
    pub(super) directory: Directory,
    pub(super) identity: Arc<Identity>,
    /// Its own CA certificates.
    pub(super) bundle: TrustAnchors,
}

impl Here {
    /// Reads them.
    pub(super) fn open(file: &ConfigFile) -> Result<Self, Failure> {
        let config = Config::load(&file.path)?;
        config.check_files()?;
        if config.control.is_some() {
            let path = config.path.display();
            return Err(Failure::failed(format!(
                "{path}: control: found control and gateway apart, expected `isthmus run`: only that takes those who are \
                 invited. Link by hand: docs/identity.md"
            )));
        }
        if let Some(secret) = config.kubernetes.as_ref().and_then(|kubernetes| kubernetes.ca_secret.as_ref()) {
            let path = config.path.display();
            return Err(Failure::failed(format!(
                "{path}: registry.kubernetes.caSecret: found {secret:?}, expected none for a command with --config: links and trust \
                 are in the cluster's objects then, and files would be undone: name the cluster with --kubeconfig or --context"
            )));
        }
        check_owner(&config.identity)?;
        let directory = super::serve::directory(&config, Role::Gateway);
        let store = IdentityStore::new(directory.load_own()?);
        super::serve::belongs(&config, &store, Role::Gateway)?;
        let identity = store.current();
        let bundle = directory.own_bundle(identity.domain())?;
        Ok(Self { config, directory, identity, bundle })
    }

    /// The identity, for handshakes of a moment.
    pub(super) fn store(&self) -> Result<IdentityStore, Failure> {
        Ok(IdentityStore::new(self.directory.load_own()?))
    }

    /// Its trust domain.
    pub(super) fn domain(&self) -> &TrustDomain {
        self.identity.domain()
    }
}

/// What linking with a cluster changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    /// The cluster was not trusted before.
    New,
    /// It was, and has proven to be the same: what is trusted stays as it is.
    Renewed,
    /// It was, with other CA certificates.
    Replaced,
}

/// What linking with a cluster does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) change: Change,
    /// What is trusted then: what was offered only where nothing was known before, or where that is to be replaced.
    pub(super) bundle: TrustAnchors,
}

/// What linking with the cluster that offers `offered` would do; an objection where it must not. `configured` are the links of the
/// configuration. `proven` says whether what the cluster has shown of itself stands under the CA certificates known before: those are
/// public, so that it offers one of them among others proves nothing.
pub(super) fn plan(
    directory: &Directory,
    offered: &TrustAnchors,
    configured: &BTreeSet<ClusterName>,
    replace: bool,
    proven: impl Fn(&TrustAnchors) -> bool,
) -> Result<Plan, String> {
    let cluster = &offered.domain().cluster;
    if configured.contains(cluster) {
        return Err(format!(
            "{cluster} is linked already, under `links:` of the configuration: remove it there first, or exchange \
             bundles with `isthmus identity trust`"
        ));
    }
    check_room(directory, cluster, configured)?;
    decide(directory.bundle(offered.domain()).map_err(|e| e.to_string())?, offered, replace, proven)
}

/// ● The same where the cluster is trusted by `known`, or not yet.
pub(super) fn decide(
    known: Option<TrustAnchors>,
    offered: &TrustAnchors,
    replace: bool,
    proven: impl Fn(&TrustAnchors) -> bool,
) -> Result<Plan, String> {
    let cluster = &offered.domain().cluster;
    let as_offered = |change| Ok(Plan { change, bundle: offered.clone() });
    match known {
        None => as_offered(Change::New),
        Some(known) if replace && known != *offered => as_offered(Change::Replaced),
        // An SVID speaks for its gateway, not for its CA: it gives no reason to trust another.
        Some(known) if proven(&known) => Ok(Plan { change: Change::Renewed, bundle: known }),
        Some(_) => Err(format!(
            "{cluster} is trusted already, with another CA: if it has a new one, say so (`isthmus join --replace` where you \
             join, `isthmus invite --replace {cluster}` where you invite); if not, somebody else uses its name"
        )),
    }
}

/// One link more than may be would not be taken up.
fn check_room(directory: &Directory, cluster: &ClusterName, configured: &BTreeSet<ClusterName>) -> Result<(), String> {
    let mut linked =
        LinkFiles::of(directory.path()).clusters().map_err(|e| format!("the links cannot be read: {e}"))?;
    linked.extend(configured.iter().cloned());
    if linked.contains(cluster) || linked.len() < MOST_LINKS {
        return Ok(());
    }
    Err(format!("there are {} links already, expected at most {MOST_LINKS}: unlink a cluster first", linked.len()))
}

/// The SHA-256 of `bundle`'s certificates, for people to compare.
pub(super) fn fingerprints(bundle: &TrustAnchors) -> String {
    bundle.certificates().map(|ca| Fingerprint::of(ca).to_string()).collect::<Vec<_>>().join(", ")
}

/// Refuses to change an identity directory as another user than its owner, whom the gateway runs as: that one could not read what was
/// written, or only until the next renewal.
pub(super) fn check_owner(identity: &Path) -> Result<(), Failure> {
    let metadata = std::fs::metadata(identity).map_err(|e| Failure::failed(format!("{}: {e}", identity.display())))?;
    same_user(identity, metadata.uid(), rustix::process::geteuid().as_raw())
}

fn same_user(identity: &Path, owner: u32, user: u32) -> Result<(), Failure> {
    if owner == user {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{} is of the user {owner}, and this runs as {user}: the gateway could not read what this would write: run it as {owner} \
         (sudo -u '#{owner}' isthmus ...)",
        identity.display()
    )))
}

/// Trusts and links. The bundle comes first: a link without trust would be dialled in vain, trust without a link does nothing.
pub(super) fn link(directory: &Directory, bundle: &TrustAnchors, endpoints: &[PeerAddress]) -> Result<(), Failure> {
    directory.write_bundle(bundle)?;
    write_link(directory.path(), &bundle.domain().cluster, endpoints)
}

fn write_link(identity: &Path, cluster: &ClusterName, endpoints: &[PeerAddress]) -> Result<(), Failure> {
    let files = LinkFiles::of(identity);
    let failed = |e| Failure::failed(format!("cannot write {}: {e}", files.path(cluster).display()));
    files.write(cluster, endpoints).map_err(failed)
}

/// An address to be dialled on this machine, of one that is listened on.
pub(super) fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// An address of a socket as an endpoint.
pub(super) fn endpoint(address: SocketAddr) -> PeerAddress {
    PeerAddress { host: address.ip().to_string(), port: address.port() }
}

/// What goes to people while stdout is a script's.
pub(super) fn tell(text: &str) {
    use std::io::Write as _;
    // With stderr gone nobody is left to be told.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The endpoints that are named on the command line, or those that the configuration advertises.
pub(super) fn advertised(named: &[PeerAddress], config: &Config) -> Result<Vec<PeerAddress>, Failure> {
    if named.len() > isthmus_link::MOST_ENDPOINTS {
        let (found, most) = (named.len(), isthmus_link::MOST_ENDPOINTS);
        return Err(Failure::usage(format!("--endpoint: found {found}, expected at most {most}")));
    }
    Ok(if named.is_empty() { config.tunnel.advertise.clone() } else { named.to_vec() })
}

/// A runtime for a command's one conversation.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests;
