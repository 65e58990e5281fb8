//! The identity directory: where a gateway's identity lies as files.
//!
//! ```text
//! ca.pem  ca.key          this cluster's CA; without the key someone else renews the SVID
//! svid.pem  svid.key      the gateway's SVID, or the control's: leaf first
//! crl.pem                 what this cluster's CA has revoked, if anything
//! bundles/<cluster>.pem   CA certificates of each peer, here or where [`Directory::with_bundles`] says
//! bundles/<cluster>.crl   what they have revoked, if anything
//! ```

mod contents;
mod revoke;
mod write;

use crate::{
    Authority, Identity, Role, TrustDomain, anchors::TrustAnchors, issue::IssueError, pem, svid::Svid,
    x509::BadCertificate,
};
use isthmus_control_api::ClusterName;
use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub(crate) use contents::Contents;

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const CRL: &str = "crl.pem";
const SVID: &str = "svid.pem";
const SVID_KEY: &str = "svid.key";
const BUNDLES: &str = "bundles";

/// An identity directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    bundles: PathBuf,
    role: Role,
}

/// An identity directory's file cannot be used. Says which, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The operating system refused.
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `remove`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file's content is not what it has to be.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        source: BadCertificate,
    },
    /// The file is there already, and overwriting it would destroy an identity.
    #[error("{}: found an identity, expected none: choose another directory, or remove this one if nothing uses it", .0.display())]
    Exists(PathBuf),
    /// The CA cannot sign.
    #[error("{}: {source}", path.display())]
    Issue {
        /// The CA's file.
        path: PathBuf,
        /// Why not.
        source: IssueError,
    },
}

impl Directory {
    /// The directory at `path`; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::of(path, Role::Gateway)
    }

    /// The same of a process of that role, which counts where the directory has no SVID that says so itself.
    pub fn of(path: impl Into<PathBuf>, role: Role) -> Self {
        let path = path.into();
        Self { bundles: path.join(BUNDLES), path, role }
    }

    /// The same, with the peers' bundles in the directory `bundles`, if there is one: two volumes cannot be mounted into each other.
    #[must_use]
    pub fn with_bundles(mut self, bundles: Option<&Path>) -> Self {
        if let Some(bundles) = bundles {
            bundles.clone_into(&mut self.bundles);
        }
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the peers' bundles lie.
    pub fn bundles_path(&self) -> &Path {
        &self.bundles
    }

    /// Reads and checks the whole identity.
    ///
    /// # Errors
    /// The first file that is missing or wrong.
    pub fn load(&self) -> Result<Identity, DirectoryError> {
        Contents::read(self)?.identity()
    }

    /// Reads and checks the gateway's SVID alone: an identity that trusts nobody.
    ///
    /// # Errors
    /// The SVID or its key is missing or wrong.
    pub fn load_own(&self) -> Result<Identity, DirectoryError> {
        Contents::read_own(self)?.identity()
    }

    /// What is not wrong, but should not be, one line each: keys that others can read, an SVID that `ca.pem` did not issue.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn warnings(&self) -> Result<Vec<String>, DirectoryError> {
        Ok(Contents::read(self)?.warnings())
    }

    /// This cluster's CA, if its key is here.
    ///
    /// # Errors
    /// It is here, but cannot be used.
    pub fn authority(&self) -> Result<Option<Authority>, DirectoryError> {
        let key_path = self.path.join(CA_KEY);
        let Some(key) = contents::read_if_there(&key_path)? else { return Ok(None) };
        let path = self.path.join(CA);
        let text = contents::read(&path)?;
        let content = |path: &Path| {
            let path = path.to_owned();
            move |source| DirectoryError::Content { path, source }
        };
        let mut certificates = pem::certificates(&text.bytes).map_err(content(&path))?;
        let key = pem::private_key(&key.bytes).map_err(content(&key_path))?;
        Authority::load(certificates.swap_remove(0), &key)
            .map(Some)
            .map_err(|source| DirectoryError::Issue { path, source })
    }

    /// Whether this cluster's CA key is here, so that SVIDs can be renewed from it.
    pub fn has_authority(&self) -> bool {
        self.path.join(CA_KEY).exists()
    }

    /// Signs a new SVID in place of the one here, for the same role; it is not written yet. None if the CA's key is not here.
    ///
    /// # Errors
    /// The CA cannot sign.
    pub fn issue_own(&self, lifetime: Duration, now: SystemTime) -> Result<Option<Svid>, DirectoryError> {
        let Some(authority) = self.authority()? else { return Ok(None) };
        let role = self.load_own().map_or(self.role, |identity| identity.role());
        let svid = authority.issue(&authority.domain().process(role), lifetime, now);
        svid.map(Some).map_err(|source| DirectoryError::Issue { path: self.path.join(CA), source })
    }

    /// Puts `svid` in the place of the gateway's own.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write_own(&self, svid: &Svid) -> Result<(), DirectoryError> {
        write::svid(&self.path, svid)
    }

    /// Puts this CA in the place of the directory's own, which is made if it is not there. `certificates` are those of `ca.pem`, the
    /// authority's first. An SVID of another CA is removed, and what that one has revoked.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn adopt(&self, authority: &Authority, certificates: &TrustAnchors) -> Result<(), DirectoryError> {
        let own = || Some(self.authority().ok()??.certificate().clone());
        if own().as_ref() != Some(authority.certificate()) {
            for name in [SVID, SVID_KEY, CRL] {
                write::remove(&self.path.join(name))?;
            }
        }
        write::authority(&self.path, authority, certificates)
    }

    /// The bundles that lie here, by the clusters after which their files are called.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn bundled(&self) -> Result<Vec<ClusterName>, DirectoryError> {
        let named = |path: PathBuf| path.file_stem()?.to_str()?.parse().ok();
        Ok(contents::bundle_paths(&self.bundles)?.into_iter().filter_map(named).collect())
    }

    /// Makes the directory with a new CA for `domain` and an SVID for its gateway.
    ///
    /// # Errors
    /// There is an identity already, which is left alone, or the files cannot be written.
    pub fn init(
        path: impl Into<PathBuf>,
        domain: TrustDomain,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(Self, Authority), DirectoryError> {
        let directory = Self::new(path);
        let issue = |source| DirectoryError::Issue { path: directory.path.join(CA), source };
        let gateway = domain.gateway();
        let authority = Authority::create(domain, now).map_err(issue)?;
        let svid = authority.issue(&gateway, lifetime, now).map_err(issue)?;
        write::identity(&directory.path, &authority, &svid)?;
        Ok((directory, authority))
    }

    /// Takes the CA certificates in the file `bundle` as those of `cluster`, instead of any before. Returns them.
    ///
    /// # Errors
    /// They are not CA certificates of that cluster in this clusterset, or cannot be written; nothing has changed then.
    pub fn trust(&self, cluster: &ClusterName, bundle: &Path) -> Result<TrustAnchors, DirectoryError> {
        // Other bundles are none of its business, and one that is broken is what it is to replace.
        let own = self.load_own()?.domain().clone();
        let content = |source| DirectoryError::Content { path: bundle.to_owned(), source };
        if *cluster == own.cluster {
            let found = format!("the cluster {cluster}, which this identity is of");
            return Err(content(BadCertificate::new(found, "the name of another cluster")));
        }
        let certificates = pem::certificates(&contents::read(bundle)?.bytes).map_err(content)?;
        let anchors = TrustAnchors::new(own.sibling(cluster), certificates).map_err(content)?;
        self.write_bundle(&anchors)?;
        Ok(anchors)
    }

    /// Takes `anchors` as their cluster's bundle, instead of any before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_bundle(&self, anchors: &TrustAnchors) -> Result<(), DirectoryError> {
        write::bundle(&self.bundles, &anchors.domain().cluster, anchors)
    }

    /// Whether `cluster`'s bundle was taken away: it is not there, and the directory that it would be in is.
    pub(crate) fn is_distrusted(&self, cluster: &ClusterName) -> bool {
        let path = self.bundle_path(cluster);
        let gone = path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        gone && path.parent().is_some_and(Path::is_dir)
    }

    /// Trusts `cluster` no more. Whether it was trusted.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn distrust(&self, cluster: &ClusterName) -> Result<bool, DirectoryError> {
        write::remove(&self.bundle_path(cluster))
    }

    /// The bundle of `domain`'s cluster, if there is one.
    ///
    /// # Errors
    /// It is there, but cannot be used.
    pub fn bundle(&self, domain: &TrustDomain) -> Result<Option<TrustAnchors>, DirectoryError> {
        let path = self.bundle_path(&domain.cluster);
        contents::read_if_there(&path)?.map(|file| anchors(&path, &file.bytes, domain)).transpose()
    }

    /// This cluster's own bundle, what peers have to trust: `ca.pem`.
    ///
    /// # Errors
    /// It is missing or wrong.
    pub fn own_bundle(&self, domain: &TrustDomain) -> Result<TrustAnchors, DirectoryError> {
        let path = self.ca_path();
        anchors(&path, &contents::read(&path)?.bytes, domain)
    }

    /// Writes `svid` for another workload to `out`: `svid.pem`, `svid.key` and the CA as `ca.pem`.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn export(&self, svid: &Svid, out: &Path) -> Result<(), DirectoryError> {
        let ca = contents::read(&self.path.join(CA))?;
        write::workload(out, svid, &ca.bytes)
    }

    /// Where the bundle of `cluster` lies, or would.
    pub fn bundle_path(&self, cluster: &ClusterName) -> PathBuf {
        self.bundles.join(format!("{cluster}.pem"))
    }

    /// Where this cluster's own bundle lies, to be handed to its peers.
    pub fn ca_path(&self) -> PathBuf {
        self.path.join(CA)
    }
}

fn anchors(path: &Path, text: &[u8], domain: &TrustDomain) -> Result<TrustAnchors, DirectoryError> {
    let anchors = pem::certificates(text).and_then(|certificates| TrustAnchors::new(domain.clone(), certificates));
    anchors.map_err(|source| DirectoryError::Content { path: path.to_owned(), source })
}
