//! Invitations that were made and not used yet: a file each, which its use renames. So the command that makes one and the process
//! that takes it need nothing but a directory in common, and of two that use one at once, one wins.

use crate::{
    InviteId, Secret,
    secret::{hex, unhex},
};
use isthmus_control_api::ClusterName;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long an invitation is good for: fifteen minutes.
pub const LIFETIME: Duration = Duration::from_mins(15);

/// How long one that is used or over is kept, to say so to whoever comes with it.
const KEPT: Duration = Duration::from_hours(24);

/// The most invitations that wait at once.
const MOST: usize = 64;

const LARGEST: u64 = 4096;
const PENDING: &str = "json";
const USED: &str = "used";
const OVER: &str = "over";

/// How far the clock may be set back before an invitation counts as over.
const SET_BACK: Duration = Duration::from_mins(1);

/// An invitation as the inviter keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// Its id.
    pub id: InviteId,
    /// Its secret.
    pub secret: Secret,
    /// When it was made, to the second.
    pub issued: SystemTime,
    /// When it ends, to the second.
    pub expires: SystemTime,
    /// The cluster whose CA it may replace, if that is linked.
    pub replace: Option<ClusterName>,
}

/// How an invitation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can be used.
    Good,
    /// It was used.
    Used,
    /// It is over.
    Expired,
}

/// The directory of a cluster's invitations.
#[derive(Debug, Clone)]
pub struct Invites {
    directory: PathBuf,
}

/// The invitations' directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvitesError {
    /// The file system.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// There are too many.
    #[error("found {MOST} invitations that wait to be used, expected fewer: use them, or wait until they are over")]
    TooMany,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Stored {
    secret: String,
    issued: u64,
    expires: u64,
    replace: Option<String>,
}

impl Invite {
    /// A new one, from now on, for [`LIFETIME`].
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate(now: SystemTime, replace: Option<ClusterName>) -> io::Result<Self> {
        let issued = UNIX_EPOCH + Duration::from_secs(seconds(now));
        let (id, secret) = (InviteId::generate()?, Secret::generate()?);
        Ok(Self { id, secret, issued, expires: issued + LIFETIME, replace })
    }
}

impl Invite {
    /// What the inviter keeps of it: a secret.
    pub fn to_json(&self) -> String {
        let stored = Stored {
            secret: hex(&self.secret.0),
            issued: seconds(self.issued),
            expires: seconds(self.expires),
            replace: self.replace.as_ref().map(ToString::to_string),
        };
        // Texts and numbers can be written.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// The invitation `id` of what was kept; `None` if it is damaged.
    pub fn from_json(id: InviteId, text: &str) -> Option<Self> {
        parse(id, text)
    }

    /// Whether it is over for good and need not be remembered any more.
    pub fn is_forgotten(&self, now: SystemTime) -> bool {
        now > self.expires + KEPT
    }
}

impl Invites {
    /// The invitations of the identity in the directory `identity`.
    pub fn of(identity: &Path) -> Self {
        Self { directory: identity.join("invites") }
    }

    /// Keeps a new one, and forgets those that are long over.
    ///
    /// # Errors
    /// It cannot be written, or there are too many.
    pub fn add(&self, invite: &Invite, now: SystemTime) -> Result<(), InvitesError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| InvitesError::Io { path, error }
        };
        if !self.directory.is_dir() {
            DirBuilder::new().mode(0o700).create(&self.directory).map_err(at(&self.directory))?;
        }
        if self.sweep(now) >= MOST {
            return Err(InvitesError::TooMany);
        }
        let path = self.path(invite.id, PENDING);
        let text = invite.to_json();
        let write = || {
            let mode = Permissions::from_mode(0o600);
            let mut file =
                tempfile::Builder::new().prefix(".isthmus-").permissions(mode).tempfile_in(&self.directory)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist_noclobber(&path)?;
            self.sync()
        };
        write().map_err(at(&path))
    }

    /// Makes those that wait here the same as `all`, which are kept elsewhere. One that was used or was over here stays so.
    ///
    /// # Errors
    /// The first that cannot be written.
    pub fn mirror(&self, all: &[Invite], now: SystemTime) -> Result<(), InvitesError> {
        for id in self.waiting().into_iter().filter(|id| !all.iter().any(|invite| invite.id == *id)) {
            self.withdraw(id)?;
        }
        let is_new = |invite: &&Invite| [PENDING, USED, OVER].iter().all(|kind| !self.path(invite.id, kind).exists());
        all.iter().filter(is_new).try_for_each(|invite| self.add(invite, now))
    }

    fn waiting(&self) -> Vec<InviteId> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let pending = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == PENDING));
        pending.filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).collect()
    }

    /// The invitation with this id, and how it stands; `None` if there is none, or its file cannot be used, which is logged. One that was
    /// over once stays so, whatever the clock says later.
    pub fn find(&self, id: InviteId, now: SystemTime) -> Option<(Invite, Standing)> {
        for (extension, standing) in [(USED, Standing::Used), (OVER, Standing::Expired)] {
            if let Some(invite) = self.read(id, extension) {
                return Some((invite, standing));
            }
        }
        let invite = self.read(id, PENDING)?;
        if now <= invite.expires && now + SET_BACK >= invite.issued {
            return Some((invite, Standing::Good));
        }
        match fs::rename(self.path(id, PENDING), self.path(id, OVER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%id, %error, "an invitation that is over cannot be put away");
            }
            _ => {}
        }
        Some((invite, Standing::Expired))
    }

    /// Takes back an invitation that waits. Whether there was one.
    ///
    /// # Errors
    /// The file system refuses; then it still waits.
    pub fn withdraw(&self, id: InviteId) -> Result<bool, InvitesError> {
        let path = self.path(id, PENDING);
        match fs::remove_file(&path).and_then(|()| self.sync()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(InvitesError::Io { path, error }),
        }
    }

    /// Uses an invitation up. True for exactly one of all that try.
    ///
    /// # Errors
    /// The file system refuses; then it is not used.
    pub fn redeem(&self, id: InviteId) -> Result<bool, InvitesError> {
        let path = self.path(id, PENDING);
        match fs::rename(&path, self.path(id, USED)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(InvitesError::Io { path, error }),
        }
        self.sync().map(|()| true).map_err(|error| InvitesError::Io { path, error })
    }

    /// Removes every trace of an invitation.
    fn forget(&self, id: InviteId) {
        for extension in [PENDING, USED, OVER] {
            // What is not there is forgotten.
            let _ = fs::remove_file(self.path(id, extension));
        }
    }

    /// Puts away what is over, and removes what is long over; how many wait.
    pub fn sweep(&self, now: SystemTime) -> usize {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return 0,
            Err(error) => {
                tracing::error!(path = %self.directory.display(), %error, "the invitations cannot be read");
                return 0;
            }
        };
        let mut waiting = 0;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let id = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            let Some(id) = id else { continue };
            match self.find(id, now) {
                Some((invite, _)) if now > invite.expires + KEPT => self.forget(id),
                Some((_, Standing::Good)) => waiting += 1,
                Some(_) | None => {}
            }
        }
        waiting
    }

    fn read(&self, id: InviteId, extension: &str) -> Option<Invite> {
        let (path, mut text) = (self.path(id, extension), String::new());
        match File::open(&path).and_then(|file| file.take(LARGEST).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "an invitation cannot be read");
                return None;
            }
        }
        let invite = parse(id, &text);
        if invite.is_none() {
            tracing::error!(path = %path.display(), "an invitation is damaged");
        }
        invite
    }

    fn path(&self, id: InviteId, extension: &str) -> PathBuf {
        self.directory.join(format!("{id}.{extension}"))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

fn parse(id: InviteId, text: &str) -> Option<Invite> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    let moment = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let (issued, expires) = (moment(stored.issued)?, moment(stored.expires)?);
    expires.checked_add(KEPT)?;
    let replace = stored.replace.map(|cluster| cluster.parse()).transpose().ok()?;
    Some(Invite { id, secret: Secret(unhex(&stored.secret)?), issued, expires, replace })
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn fixture() -> (tempfile::TempDir, Invites, Invite, SystemTime) {
        let directory = tempfile::tempdir().unwrap();
        let invites = Invites::of(directory.path());
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let invite = Invite::generate(now, Some("north".parse().unwrap())).unwrap();
        invites.add(&invite, now).unwrap();
        (directory, invites, invite, now)
    }

    #[test]
    fn those_kept_elsewhere_are_here_while_they_are_there_and_are_used_once() {
        let (_directory, invites, invite, now) = fixture();
        let other = Invite::generate(now, None).unwrap();
        let text = invite.to_json();
        assert_eq!(Invite::from_json(invite.id, &text), Some(invite.clone()));
        let all = [invite.clone(), other.clone()];
        invites.mirror(&all, now).unwrap();
        assert!(invites.redeem(invite.id).unwrap());
        invites.mirror(&all, now).unwrap();
        let standing = |invite: &Invite| invites.find(invite.id, now).map(|found| found.1);
        assert_eq!((standing(&invite), standing(&other)), (Some(Standing::Used), Some(Standing::Good)));
        invites.mirror(&all[..1], now).unwrap();
        assert_eq!((standing(&invite), standing(&other)), (Some(Standing::Used), None));
    }

    #[test]
    fn an_invitation_is_good_until_it_is_over() {
        let (_directory, invites, invite, now) = fixture();
        assert_eq!(invites.find(invite.id, now), Some((invite.clone(), Standing::Good)));
        assert_eq!(invites.find(invite.id, now + LIFETIME), Some((invite.clone(), Standing::Good)));
        let later = now + LIFETIME + Duration::from_secs(1);
        assert_eq!(invites.find(invite.id, later), Some((invite, Standing::Expired)));
        assert_eq!(invites.find(InviteId([0; 8]), now), None);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_invitation_last_longer() {
        let (_directory, invites, invite, now) = fixture();
        let second = Duration::from_secs(1);
        assert_eq!(invites.find(invite.id, now - SET_BACK).unwrap().1, Standing::Good);
        // It was seen to be over: it stays so.
        assert_eq!(invites.find(invite.id, now + LIFETIME + second).unwrap().1, Standing::Expired);
        assert_eq!(invites.find(invite.id, now), Some((invite.clone(), Standing::Expired)));
        assert!(!invites.redeem(invite.id).unwrap());

        // One of a time that is not yet would last until long after its fifteen minutes.
        let ahead = Invite::generate(now + LIFETIME * 4, None).unwrap();
        invites.add(&ahead, ahead.issued).unwrap();
        assert_eq!(invites.find(ahead.id, ahead.issued - SET_BACK - second).unwrap().1, Standing::Expired);
        assert_eq!(invites.find(ahead.id, ahead.issued).unwrap().1, Standing::Expired);
    }

    #[test]
    fn one_that_waits_can_be_withdrawn() {
        let (_directory, invites, invite, now) = fixture();
        assert!(invites.withdraw(invite.id).unwrap());
        assert_eq!(invites.find(invite.id, now), None);
        assert!(!invites.withdraw(invite.id).unwrap() && !invites.redeem(invite.id).unwrap());
    }

    #[test]
    fn a_sweep_ends_what_is_over() {
        let (_directory, invites, invite, now) = fixture();
        assert_eq!(invites.sweep(now), 1);
        assert_eq!(invites.sweep(now + LIFETIME * 2), 0);
        assert_eq!(invites.find(invite.id, now).unwrap().1, Standing::Expired);
    }

    #[test]
    fn it_is_used_once() {
        let (_directory, invites, invite, now) = fixture();
        assert!(invites.redeem(invite.id).unwrap());
        assert!(!invites.redeem(invite.id).unwrap());
        assert_eq!(invites.find(invite.id, now), Some((invite, Standing::Used)));
        assert!(!invites.redeem(InviteId([0; 8])).unwrap());
    }

    #[test]
    fn of_many_that_use_it_at_once_one_wins() {
        let (_directory, invites, invite, _) = fixture();
        let barrier = Barrier::new(8);
        let won: usize = std::thread::scope(|scope| {
            let attempt = || {
                barrier.wait();
                usize::from(invites.redeem(invite.id).unwrap())
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(attempt)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    }

    #[test]
    fn files_are_for_their_owner_alone() {
        let (directory, _invites, invite, _) = fixture();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let invites = directory.path().join("invites");
        assert_eq!(mode(&invites), 0o700);
        assert_eq!(mode(&invites.join(format!("{}.json", invite.id))), 0o600);
    }

    #[test]
    fn what_is_long_over_is_forgotten_and_what_waits_is_bounded() {
        let (directory, invites, first, now) = fixture();
        for _ in 1..MOST {
            invites.add(&Invite::generate(now, None).unwrap(), now).unwrap();
        }
        let refused = invites.add(&Invite::generate(now, None).unwrap(), now).unwrap_err();
        assert!(matches!(refused, InvitesError::TooMany), "{refused}");
        let later = now + LIFETIME + KEPT + Duration::from_secs(1);
        invites.add(&Invite::generate(later, None).unwrap(), later).unwrap();
        assert_eq!(invites.find(first.id, later), None);
        assert_eq!(fs::read_dir(directory.path().join("invites")).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_no_invitation() {
        let (directory, invites, invite, now) = fixture();
        let path = directory.path().join("invites").join(format!("{}.json", invite.id));
        for text in ["", "{", "{\"secret\":\"00\",\"issued\":0,\"expires\":18446744073709551615,\"replace\":null}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(invites.find(invite.id, now), None, "{text}");
        }
    }
}
