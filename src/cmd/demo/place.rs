//! Where a program or a thread of the demonstration has its network.

use rustix::{
    process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    process::Stdio,
    sync::Arc,
    thread::JoinHandle,
};
use tokio::process::Command;

/// A network namespace, or the network that the demonstration itself was started in.
///
/// A namespace has no name in the file system: with its last process and this value gone, the kernel removes it and every device
/// in it, even if the demonstration was killed.
#[derive(Debug, Clone)]
pub(super) struct Place(Option<Arc<OwnedFd>>);

impl Place {
    /// The network that we were started in.
    pub(super) fn here() -> Self {
        Self(None)
    }

    /// A new, empty network namespace.
    pub(super) fn namespace() -> io::Result<Self> {
        let maker = std::thread::Builder::new().name("unshare".into()).spawn(|| {
            // SAFETY: only CLONE_FILES would endanger other threads (by a file table of one's own), and it is not given.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            File::open("/proc/thread-self/ns/net")
        })?;
        let made = maker.join().map_err(|_| io::Error::other("the thread panicked"))??;
        Ok(Self(Some(Arc::new(made.into()))))
    }

    /// A path by which other programs find the namespace while we run.
    pub(super) fn path(&self) -> String {
        let fd = self.0.as_deref().map(AsRawFd::as_raw_fd);
        let own = getpid().as_raw_nonzero();
        fd.map_or_else(|| format!("/proc/{own}/ns/net"), |fd| format!("/proc/{own}/fd/{fd}"))
    }

    /// A program in this place. It dies with us, whatever we die of, and a terminal's Ctrl-C reaches it only through us.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        let (place, parent) = (self.clone(), getpid());
        // SAFETY: between fork and exec the closure makes system calls only: it neither allocates nor takes a lock.
        unsafe { command.pre_exec(move || die_with(parent).and_then(|()| place.enter())) };
        command
    }

    /// A thread in this place.
    pub(super) fn thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<JoinHandle<io::Result<T>>> {
        let place = self.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || place.enter().and_then(|()| work()))
    }

    /// Moves the calling thread here.
    fn enter(&self) -> io::Result<()> {
        let Some(namespace) = &self.0 else { return Ok(()) };
        Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

/// Asks the kernel to kill the calling process as soon as its parent ends.
fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that ended before the line above sends nothing any more.
    if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
}
