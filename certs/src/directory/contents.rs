//! Reading an identity directory: all files at once, then as one identity.

use super::{CA, CA_KEY, CRL, Directory, DirectoryError, SVID, SVID_KEY};
use crate::{Identity, TrustAnchors, TrustDomain, pem, svid, svid::Svid, x509::BadCertificate, x509::Facts};
use aws_lc_rs::digest;
use isthmus_control_api::ClusterName;
use rustix::fs::{StatVfsMountFlags, statvfs};
use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// More than any file here needs.
const LARGEST_FILE: u64 = 1 << 20;

/// More clusters than a clusterset has.
const MOST_BUNDLES: usize = 1024;

/// The files as they are, not yet understood.
pub(crate) struct Contents {
    svid: File,
    key: File,
    ca: Option<File>,
    ca_key: Option<Mode>,
    bundles: Vec<File>,
    /// What this cluster's own CA has revoked.
    crl: Option<File>,
    /// What the peers' have, by the names of their files.
    crls: Vec<File>,
    /// The directories, with their modes.
    directories: Vec<(PathBuf, Mode)>,
}

pub(super) struct File {
    path: PathBuf,
    mode: Mode,
    pub(super) bytes: Vec<u8>,
}

type Mode = u32;

impl Contents {
    pub(crate) fn read(directory: &Directory) -> Result<Self, DirectoryError> {
        let files = |extension| -> Result<Vec<File>, DirectoryError> {
            paths_of(&directory.bundles, extension)?.iter().map(|path| read(path)).collect()
        };
        Ok(Self { bundles: files("pem")?, crls: files("crl")?, ..Self::read_own(directory)? })
    }

    /// Without the bundles.
    pub(crate) fn read_own(directory: &Directory) -> Result<Self, DirectoryError> {
        let path = |name| directory.path.join(name);
        Ok(Self {
            svid: read(&path(SVID))?,
            key: read(&path(SVID_KEY))?,
            ca: read_if_there(&path(CA))?,
            ca_key: fs::metadata(path(CA_KEY)).ok().map(|metadata| metadata.mode()),
            bundles: Vec::new(),
            crl: read_if_there(&path(CRL))?,
            crls: Vec::new(),
            directories: [directory.path.clone(), directory.bundles.clone()]
                .into_iter()
                .filter(|path| !is_read_only(path))
                .filter_map(|path| Some((path.clone(), fs::metadata(path).ok()?.mode())))
                .collect(),
        })
    }

    /// The same for the same files, and another for others.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let files = [&self.svid, &self.key].into_iter().chain(&self.ca).chain(&self.bundles);
        let files = files.chain(&self.crl).chain(&self.crls);
        for File { path, bytes, mode } in files {
            // Lengths keep the boundaries: no two sets of files look alike.
            for part in [path.as_os_str().as_encoded_bytes(), bytes.as_slice(), &mode.to_be_bytes()] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// The identity that the files are.
    pub(crate) fn identity(&self) -> Result<Identity, DirectoryError> {
        let chain = self.svid.parse(pem::certificates)?;
        let key = self.key.parse(pem::private_key)?;
        let (domain, ..) = self.svid.parse(|_| svid::process_id(&Facts::read(&chain[0])?))?;
        let bundles: Vec<_> = self.bundles.iter().map(|file| self.bundle(file, &domain)).collect::<Result<_, _>>()?;
        // A CA that is not ours is warned of; who needs ours will miss it.
        let own = |file: &File| TrustAnchors::new(domain.clone(), pem::certificates(&file.bytes).ok()?).ok();
        let own = self.ca.as_ref().and_then(own);
        let own = match (own, &self.crl) {
            (Some(own), Some(crl)) => Some(crl.revocations(own)?),
            (own, _) => own,
        };
        // The files are checked one by one above; what is left is about the pair of SVID and key.
        self.key.parse(|_| Identity::new(Svid { chain, key }, bundles)).map(|identity| identity.with_own(own))
    }

    /// A peer's bundle, and what its CAs have revoked.
    fn bundle(&self, file: &File, own: &TrustDomain) -> Result<TrustAnchors, DirectoryError> {
        let anchors = file.parse(|text| bundle(file, text, own))?;
        let crl = self.crls.iter().find(|crl| crl.path.file_stem() == file.path.file_stem());
        crl.map_or(Ok(anchors.clone()), |crl| crl.revocations(anchors))
    }

    /// What is not wrong, but should not be.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let ca_key = self.key.path.with_file_name(CA_KEY);
        let keys = [(&self.key.path, Some(self.key.mode)), (&ca_key, self.ca_key)];
        let read = keys.into_iter().filter_map(|(path, mode)| open_to_others(path, mode?, 0o007, "0600", "read"));
        let files = [&self.svid].into_iter().chain(&self.ca).chain(&self.bundles).map(|file| (&file.path, file.mode));
        let places = self.directories.iter().map(|(path, mode)| (path, *mode)).chain(files);
        let write =
            places.filter_map(|(path, mode)| open_to_others(path, mode, 0o002, "no write for others", "change"));
        read.chain(write).chain(self.issued_by_another()).collect()
    }

    fn issued_by_another(&self) -> Option<String> {
        let ca = self.ca.as_ref()?;
        let leaf = Facts::read(pem::certificates(&self.svid.bytes).ok()?.first()?).ok()?;
        let issuers = pem::certificates(&ca.bytes).ok()?;
        let known = issuers.iter().any(|cert| Facts::read(cert).is_ok_and(|facts| facts.subject == leaf.issuer));
        let (svid, ca) = (self.svid.path.display(), ca.path.display());
        (!known).then(|| format!("{svid}: found an SVID issued by {:?}, expected one by {ca}", leaf.issuer))
    }
}

/// Whether nobody here can change what is in `path`, whatever its mode says: volumes of Secrets are mounted so.
fn is_read_only(path: &Path) -> bool {
    statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// A complaint if `mode` has any of `bits`, by which every user of this machine can `verb` what is at `path`.
fn open_to_others(path: &Path, mode: Mode, bits: Mode, expected: &str, verb: &str) -> Option<String> {
    let (path, mode) = (path.display(), mode & 0o7777);
    let open = mode & bits != 0;
    open.then(|| {
        format!("{path}: found mode {mode:04o}, expected {expected}: every user of this machine can {verb} it")
    })
}

/// The bundle in `file`, which is named after the peer's cluster.
fn bundle(file: &File, text: &[u8], own: &TrustDomain) -> Result<TrustAnchors, BadCertificate> {
    let stem = file.path.file_stem().unwrap_or_default().to_string_lossy();
    let cluster: ClusterName =
        stem.parse().map_err(|e| BadCertificate::new(e, "a file named after the peer, <cluster>.pem"))?;
    if cluster == own.cluster {
        return Err(BadCertificate::new("a bundle of this cluster itself", "only bundles of others"));
    }
    TrustAnchors::new(own.sibling(&cluster), pem::certificates(text)?)
}

impl File {
    /// `anchors` with the revocation lists in the file.
    pub(super) fn revocations(&self, anchors: TrustAnchors) -> Result<TrustAnchors, DirectoryError> {
        self.parse(|text| anchors.with_revocations(pem::revocation_lists(text)?))
    }

    fn parse<T>(&self, parse: impl FnOnce(&[u8]) -> Result<T, BadCertificate>) -> Result<T, DirectoryError> {
        parse(&self.bytes).map_err(|source| DirectoryError::Content { path: self.path.clone(), source })
    }
}

/// Where the bundles are, ordered by name.
pub(super) fn bundle_paths(directory: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    paths_of(directory, "pem")
}

/// The files with names that end so. Those that begin with a dot are someone's work in progress.
fn paths_of(directory: &Path, ends: &str) -> Result<Vec<PathBuf>, DirectoryError> {
    let failed = |source| DirectoryError::Io { verb: "read", path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == ends) {
            paths.push(path);
        }
        if paths.len() > MOST_BUNDLES {
            return Err(failed(io::Error::other(format!("found more than {MOST_BUNDLES} bundles"))));
        }
    }
    paths.sort();
    Ok(paths)
}

pub(super) fn read_if_there(path: &Path) -> Result<Option<File>, DirectoryError> {
    match read(path) {
        Err(DirectoryError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

pub(super) fn read(path: &Path) -> Result<File, DirectoryError> {
    let failed = |source| DirectoryError::Io { verb: "read", path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    // Opening a pipe would wait for its writer.
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        let found = if metadata.is_file() { "a larger file" } else { "something that is no file" };
        let source = BadCertificate::new(found, format!("a file of at most {LARGEST_FILE} bytes"));
        return Err(DirectoryError::Content { path: path.to_owned(), source });
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(File { path: path.to_owned(), mode: metadata.mode(), bytes })
}
