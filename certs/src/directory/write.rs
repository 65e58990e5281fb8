//! Writing an identity directory: each file whole or not at all, keys for nobody else.

use super::{BUNDLES, CA, CA_KEY, DirectoryError, SVID, SVID_KEY};
use crate::{Authority, TrustAnchors, pem, svid::Svid};
use isthmus_control_api::ClusterName;
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Writes a new identity; what is there already is refused.
pub(super) fn identity(directory: &Path, authority: &Authority, svid: &Svid) -> Result<(), DirectoryError> {
    if let Some(path) = [CA_KEY, CA, SVID_KEY, SVID].map(|name| directory.join(name)).into_iter().find(|p| p.exists()) {
        return Err(DirectoryError::Exists(path));
    }
    make_directory(directory)?;
    make_directory(&directory.join(BUNDLES))?;
    let files = [
        (CA_KEY, SECRET, authority.key_pem()),
        (CA, PUBLIC, pem::encode([authority.certificate()])),
        (SVID_KEY, SECRET, pem::encode_key(&svid.key)),
        (SVID, PUBLIC, pem::encode(&svid.chain)),
    ];
    let mut written = Vec::new();
    for (name, mode, text) in files {
        let path = directory.join(name);
        if let Err(e) = file(&path, mode, text.as_bytes(), Existing::Refuse) {
            // Half an identity would be in the way of the next attempt. What cannot be removed is named by that one's error.
            written.iter().for_each(|path: &PathBuf| drop(fs::remove_file(path)));
            return Err(e);
        }
        written.push(path);
    }
    sync_directory(directory)
}

/// Replaces the SVID. The key goes first: should the machine stop between the two, the pair does not match, which is noticed, and
/// made good where the CA is.
pub(super) fn svid(directory: &Path, svid: &Svid) -> Result<(), DirectoryError> {
    let lock = fs::File::open(directory).map_err(|e| failed(directory, e))?;
    // Two processes that renew at once would leave the key of one and the certificate of the other.
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| failed(directory, e.into()))?;
    file(&directory.join(SVID_KEY), SECRET, pem::encode_key(&svid.key).as_bytes(), Existing::Replace)?;
    file(&directory.join(SVID), PUBLIC, pem::encode(&svid.chain).as_bytes(), Existing::Replace)?;
    sync_directory(directory)
}

/// Writes or replaces a peer's bundle.
pub(super) fn bundle(directory: &Path, cluster: &ClusterName, anchors: &TrustAnchors) -> Result<(), DirectoryError> {
    make_directory(directory)?;
    let text = pem::encode(anchors.certificates());
    file(&directory.join(format!("{cluster}.pem")), PUBLIC, text.as_bytes(), Existing::Replace)?;
    sync_directory(directory)
}

/// Writes or replaces revocation lists.
pub(super) fn revocations(path: &Path, text: &[u8]) -> Result<(), DirectoryError> {
    file(path, PUBLIC, text, Existing::Replace)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Writes or replaces a CA. The key goes first, as with [`svid`].
pub(super) fn authority(
    directory: &Path,
    authority: &Authority,
    certificates: &TrustAnchors,
) -> Result<(), DirectoryError> {
    make_directory(directory)?;
    file(&directory.join(CA_KEY), SECRET, authority.key_pem().as_bytes(), Existing::Replace)?;
    let text = pem::encode(certificates.certificates());
    file(&directory.join(CA), PUBLIC, text.as_bytes(), Existing::Replace)?;
    sync_directory(directory)
}

/// Removes a file for good; whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, DirectoryError> {
    let failed = |source| DirectoryError::Io { verb: "remove", path: path.to_owned(), source };
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed(e)),
    }
    path.parent().map_or(Ok(()), sync_directory).map(|()| true)
}

/// Writes an SVID for another workload, which may be a renewal.
pub(super) fn workload(out: &Path, workload: &Svid, ca: &[u8]) -> Result<(), DirectoryError> {
    if out.join(CA_KEY).exists() {
        return Err(DirectoryError::Exists(out.join(CA_KEY)));
    }
    make_directory(out)?;
    file(&out.join(CA), PUBLIC, ca, Existing::Replace)?;
    svid(out, workload)
}

#[derive(Clone, Copy, PartialEq)]
enum Existing {
    Refuse,
    Replace,
}

/// Writes a file under another name, and gives it its own once all of it is on the disk.
fn file(path: &Path, mode: u32, bytes: &[u8], existing: Existing) -> Result<(), DirectoryError> {
    let write = || {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut temporary = tempfile::Builder::new()
            .prefix(".isthmus-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        temporary.write_all(bytes)?;
        temporary.as_file().sync_all()?;
        match existing {
            Existing::Refuse => temporary.persist_noclobber(path)?,
            Existing::Replace => temporary.persist(path)?,
        };
        Ok(())
    };
    write().map_err(|e: io::Error| match e.kind() {
        io::ErrorKind::AlreadyExists if existing == Existing::Refuse => DirectoryError::Exists(path.to_owned()),
        _ => failed(path, e),
    })
}

/// Makes a directory for its owner alone, and its parents as usual. One that is there stays as it is.
fn make_directory(path: &Path) -> Result<(), DirectoryError> {
    let make = || {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        DirBuilder::new().mode(0o700).create(path)
    };
    make().map_err(|e| failed(path, e))
}

/// Makes the new names last.
fn sync_directory(path: &Path) -> Result<(), DirectoryError> {
    fs::File::open(path).and_then(|directory| directory.sync_all()).map_err(|e| failed(path, e))
}

fn failed(path: &Path, source: io::Error) -> DirectoryError {
    DirectoryError::Io { verb: "write", path: path.to_owned(), source }
}
