//! What was revoked: the lists beside the bundles, and this cluster's own.

use super::{CRL, Directory, DirectoryError, contents, write};
use crate::{Revoked, TrustAnchors};
use isthmus_control_api::ClusterName;
use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

impl Directory {
    /// What the CAs of `anchors` have revoked, as the file beside their bundle says; as it was, if there is none.
    ///
    /// # Errors
    /// It is there, but cannot be used.
    pub(crate) fn revoked(&self, anchors: &TrustAnchors) -> Result<TrustAnchors, DirectoryError> {
        let path = self.crl_path(&anchors.domain().cluster);
        let Some(file) = contents::read_if_there(&path)? else { return Ok(anchors.clone()) };
        file.revocations(anchors.clone())
    }

    /// Takes the revocation lists in the file `list` as those of `cluster`'s CAs, instead of any before.
    ///
    /// # Errors
    /// There is no bundle of the cluster, they are not lists that it has signed, or they cannot be written.
    pub fn trust_revocations(&self, cluster: &ClusterName, list: &Path) -> Result<TrustAnchors, DirectoryError> {
        let domain = self.load_own()?.domain().sibling(cluster);
        let bundle = self.bundle(&domain)?.ok_or_else(|| DirectoryError::Io {
            verb: "read",
            path: self.bundle_path(cluster),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let file = contents::read(list)?;
        let anchors = file.revocations(bundle)?;
        write::revocations(&self.crl_path(cluster), &file.bytes)?;
        Ok(anchors)
    }

    /// Takes `text` as what `cluster`'s CAs have revoked, or that they have revoked nothing: it was checked. Whether that is new.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn write_revocations(&self, cluster: &ClusterName, text: Option<&[u8]>) -> Result<bool, DirectoryError> {
        replace(&self.crl_path(cluster), text)
    }

    /// Takes `text` as what this cluster's own CA has revoked, or that it has revoked nothing: it was checked. Whether that is new.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn write_own_revocations(&self, text: Option<&[u8]>) -> Result<bool, DirectoryError> {
        replace(&self.own_crl_path(), text)
    }

    /// Revokes certificates of this cluster's CA, besides those that are revoked already: who they are by their serial numbers. The list
    /// is written; peers have to be given it.
    ///
    /// # Errors
    /// The CA's key is not here, or the list there is cannot be used, or written.
    pub fn revoke(&self, serials: &[Vec<u8>], now: SystemTime) -> Result<Option<Vec<Revoked>>, DirectoryError> {
        let Some(authority) = self.authority()? else { return Ok(None) };
        let path = self.own_crl_path();
        let own = self.own_bundle(authority.domain())?;
        let known = contents::read_if_there(&path)?.map(|file| file.revocations(own)).transpose()?;
        let mut revoked: Vec<Revoked> = known.iter().flat_map(|known| known.revocations().revoked().cloned()).collect();
        for serial in serials {
            if !revoked.iter().any(|of| of.serial == *serial) {
                revoked.push(Revoked { serial: serial.clone(), since: now });
            }
        }
        let list = authority.revocation_list_pem(&revoked, now);
        let list = list.map_err(|source| DirectoryError::Issue { path: self.ca_path(), source })?;
        write::revocations(&path, list.as_bytes())?;
        Ok(Some(revoked))
    }

    /// Where lies what a peer's CAs have revoked.
    pub fn crl_path(&self, cluster: &ClusterName) -> PathBuf {
        self.bundles.join(format!("{cluster}.crl"))
    }

    /// Where lies what this cluster's own CA has revoked, to be handed to its peers.
    pub fn own_crl_path(&self) -> PathBuf {
        self.path.join(CRL)
    }
}

/// Makes the file say `text`, or takes it away. Whether that is new.
fn replace(path: &Path, text: Option<&[u8]>) -> Result<bool, DirectoryError> {
    let Some(text) = text else { return write::remove(path) };
    if contents::read_if_there(path)?.is_some_and(|file| file.bytes == text) {
        return Ok(false);
    }
    write::revocations(path, text).map(|()| true)
}
