//! The directory with all files of a run, and those that killed runs have left.

use super::error::{Doing, Error};
use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// What the names of these directories begin with; the process id and its start time follow.
const PREFIX: &str = "isthmus-demo-";

/// A directory that only its owner can read, and that is removed with everything in it.
#[derive(Debug)]
pub(super) struct Scratch(TempDir);

impl Scratch {
    /// Makes one that carries our process id and start time in its name.
    pub(super) fn new() -> Result<Self, Error> {
        let root = std::env::temp_dir();
        let pid = std::process::id();
        let doing = || format!("make a directory in {}", root.display());
        let started = start_time(pid).ok_or_else(|| io::Error::other("cannot read /proc/self/stat")).doing(doing())?;
        let (prefix, private) = (format!("{PREFIX}{pid}-{started}-"), fs::Permissions::from_mode(0o700));
        let made = tempfile::Builder::new().prefix(&prefix).permissions(private).tempdir_in(&root);
        made.map(Self).doing(doing())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Removes it; unlike dropping, it tells if that failed.
    pub(super) fn remove(self) -> Result<(), Error> {
        let path = self.path().to_owned();
        self.0.close().map_err(|source| Error::Left { path, source })
    }
}

/// Removes the directories of runs that were killed before they could. Returns how many there were.
pub(super) fn sweep() -> usize {
    let own = rustix::process::geteuid().as_raw();
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let orphans = entries.map(|entry| entry.path()).filter(|path| is_orphan(path, own));
    // One that cannot be removed is left for the next run.
    orphans.filter(|path| fs::remove_dir_all(path).is_ok()).count()
}

/// Whether a path is a directory of ours (not a link to one) whose process is gone.
fn is_orphan(path: &PathBuf, own: u32) -> bool {
    let ours = || fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == own);
    let owner = path.file_name().and_then(|name| name.to_str()).and_then(parse_name);
    owner.is_some_and(|(pid, started)| start_time(pid) != Some(started)) && ours()
}

/// The process id and start time in a directory's name.
fn parse_name(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// When a process was started, in clock ticks since the boot; together with its id that names it for good.
fn start_time(pid: u32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of proc_pid_stat(5). The second field is a file name in parentheses, which can itself have any of these.
fn parse_stat(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_process() {
        assert_eq!(parse_name("isthmus-demo-12-345-aB3"), Some((12, 345)));
        for other in ["isthmus-demo-12", "isthmus-e2e-12-3-x", "isthmus-demo--3-x", "isthmus-demo-x-3-x"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn the_start_time_is_found_behind_an_odd_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        assert_eq!(parse_stat(stat), Some(98765));
    }

    #[test]
    fn the_living_keep_their_directories() {
        let scratch = Scratch::new().unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert!(!is_orphan(&scratch.path().to_owned(), own));
        let gone = scratch.path().join("isthmus-demo-4294967295-1-x");
        fs::create_dir(&gone).unwrap();
        assert!(is_orphan(&gone, own));
        assert!(!is_orphan(&gone, own + 1));
        let link = scratch.path().join("isthmus-demo-4294967295-1-y");
        std::os::unix::fs::symlink(&gone, &link).unwrap();
        assert!(!is_orphan(&link, own));
    }
}
