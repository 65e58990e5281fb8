//! What the upkeep does each time that it looks: no clock of its own.

use crate::{
    Directory, DirectoryError, Identity, IdentityStore, directory::Contents, issue::SVID_LIFETIME, renew::Renewal,
};
use std::time::{Duration, SystemTime};

/// Keeps a store in step with a directory.
pub(crate) struct Keeper {
    directory: Directory,
    store: IdentityStore,
    renewal: Renewal,
    /// What the files were when they were last looked at, good or bad: a bad change is reported once.
    seen: Option<[u8; 32]>,
    unreadable: Option<String>,
    /// Whether it was said that nobody renews the SVID.
    warned: bool,
}

impl Keeper {
    pub(crate) fn open(
        directory: Directory,
        now: SystemTime,
        random: impl Fn() -> f64,
    ) -> Result<Self, DirectoryError> {
        let healed = heal(&directory, now)?;
        let contents = Contents::read(&directory)?;
        let identity = contents.identity()?;
        let renewal = Renewal::plan(identity.validity(), random());
        let store = IdentityStore::kept_in(identity, Some(directory.clone()));
        store.update_status(|status| status.renewals = u64::from(healed));
        let keeper = Self { directory, store, renewal, seen: Some(contents.digest()), unreadable: None, warned: false };
        keeper.note_warnings(&contents);
        Ok(keeper)
    }

    pub(crate) fn store(&self) -> &IdentityStore {
        &self.store
    }

    /// Takes over what has changed, renews what is due, and says how long nothing will be.
    pub(crate) fn tick(&mut self, now: SystemTime, random: impl Fn() -> f64) -> Duration {
        self.reload(&random);
        if self.renewal.due(now) {
            self.renew(now, &random);
        }
        self.store.update_status(|status| status.renewal_due = self.renews().then(|| self.renewal.at()));
        // Without a CA a renewal that is due stays due, and is none of our business.
        if self.renews() { self.renewal.wait(now) } else { Duration::MAX }
    }

    fn reload(&mut self, random: impl Fn() -> f64) {
        let contents = match Contents::read(&self.directory) {
            Ok(contents) => contents,
            Err(e) => {
                let e = e.to_string();
                if self.unreadable.as_ref() != Some(&e) {
                    self.refuse(&e);
                    self.unreadable = Some(e);
                    self.seen = None;
                }
                return self.withdraw();
            }
        };
        self.unreadable = None;
        let digest = contents.digest();
        if self.seen.replace(digest) == Some(digest) {
            return;
        }
        match contents.identity() {
            Ok(identity) => {
                self.note_warnings(&contents);
                self.take(identity, random());
            }
            Err(e) => {
                self.refuse(&e.to_string());
                self.withdraw();
            }
        }
    }

    /// Takes trust away where a bundle has gone, or a certificate was revoked, whatever is wrong with other files: that must not wait
    /// for them.
    fn withdraw(&self) {
        self.withdraw_revoked();
        let old = self.store.current();
        let gone: Vec<_> =
            old.bundles().keys().filter(|cluster| self.directory.is_distrusted(cluster)).cloned().collect();
        if gone.is_empty() {
            return;
        }
        let names: Vec<_> = gone.iter().map(ToString::to_string).collect();
        tracing::warn!(
            clusters = names.join(", "),
            "their bundles have gone: not trusted any more, in spite of the file that is wrong"
        );
        self.store.replace(old.without(&gone));
    }

    fn withdraw_revoked(&self) {
        let old = self.store.current();
        let revoked = old.bundles().values().filter_map(|bundle| {
            let new = self.directory.revoked(bundle).ok()?;
            (new.revocations() != bundle.revocations()).then_some(new)
        });
        let revoked: Vec<_> = revoked.collect();
        if revoked.is_empty() {
            return;
        }
        for bundle in &revoked {
            tracing::warn!(cluster = %bundle.domain().cluster, "took over what it has revoked, in spite of the file that is wrong");
        }
        self.store.replace(old.revoking(revoked));
    }

    /// Puts `identity` in place, unless it is another cluster's.
    fn take(&mut self, identity: Identity, random: f64) -> bool {
        let old = self.store.current();
        if identity.id() != old.id() {
            // Every link, tunnel and peer knows this process under the old name.
            let (found, expected) = (identity.id(), old.id());
            self.refuse(&format!("found an SVID of {found}, expected one of {expected}: restart to change it"));
            return false;
        }
        if identity.is_same(&old) {
            self.store.update_status(|status| status.last_error = None);
            return true;
        }
        if identity.serial() != old.serial() {
            self.renewal = Renewal::plan(identity.validity(), random);
            self.warned = false;
        }
        let (serial, bundles) = (identity.serial(), identity.bundles().len());
        tracing::info!(id = %identity.id(), serial, bundles, "took over a changed identity");
        self.store.replace(identity);
        self.store.update_status(|status| status.last_error = None);
        true
    }

    fn renew(&mut self, now: SystemTime, random: impl Fn() -> f64) {
        let old = self.store.current();
        let left = old.validity().remaining(now).as_secs();
        match self.renewed(&old, now) {
            Ok(Some((identity, written))) => {
                // The bundles stay those of the moment: a broken one among the files must not cost the SVID too.
                if !self.take(identity, random()) {
                    return self.renewal.failed(now, random());
                }
                self.store.update_status(|status| status.renewals += 1);
                if let Err(e) = written {
                    let error = format!("the renewed SVID is in use in memory only: {e}");
                    tracing::error!("{error}");
                    self.note_failure(&error);
                }
            }
            Ok(None) if !self.warned => {
                self.warned = true;
                tracing::warn!("the SVID has {left}s left, and has to be replaced from outside: ca.key is not here");
            }
            Ok(None) => {}
            Err(e) => {
                self.renewal.failed(now, random());
                self.refuse(&format!("{e} (renewing the SVID, which has {left}s left)"));
            }
        }
    }

    /// The identity `old` with a new SVID, and whether it could be written.
    #[expect(clippy::type_complexity, reason = "an outcome of two steps, taken apart at once")]
    fn renewed(
        &self,
        old: &Identity,
        now: SystemTime,
    ) -> Result<Option<(Identity, Result<(), DirectoryError>)>, DirectoryError> {
        let Some(svid) = self.directory.issue_own(old.validity().lifetime(), now)? else { return Ok(None) };
        let written = self.directory.write_own(&svid);
        let identity = Identity::new(svid, old.bundles().values().cloned())
            .map(|identity| identity.with_own(old.own().cloned()))
            .map_err(|source| DirectoryError::Content { path: self.directory.ca_path(), source })?;
        Ok(Some((identity, written)))
    }

    /// Whether this process renews the SVID.
    fn renews(&self) -> bool {
        self.directory.has_authority()
    }

    fn refuse(&self, error: &str) {
        tracing::error!("the identity stays as it is: {error}");
        self.note_failure(error);
    }

    fn note_failure(&self, error: &str) {
        self.store.update_status(|status| {
            status.failures += 1;
            status.last_error = Some(error.to_owned());
        });
    }

    fn note_warnings(&self, contents: &Contents) {
        let warnings = contents.warnings();
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.store.update_status(|status| status.warnings.clone_from(&warnings));
    }
}

/// Makes a new SVID if the one in `directory` is over or broken and the CA is there; whether it did.
fn heal(directory: &Directory, now: SystemTime) -> Result<bool, DirectoryError> {
    let (lifetime, why) = match directory.load_own() {
        Ok(identity) if identity.validity().contains(now) => return Ok(false),
        Ok(identity) => (identity.validity().lifetime(), "it is not valid now".to_owned()),
        Err(e) => (SVID_LIFETIME, e.to_string()),
    };
    let Some(svid) = directory.issue_own(lifetime, now)? else { return Ok(false) };
    directory.write_own(&svid)?;
    tracing::warn!(path = %directory.path().display(), "made a new SVID in place of the old one: {why}");
    Ok(true)
}
