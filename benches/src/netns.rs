//! Network namespaces for the two ends of a WAN.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::error::{Error, Result};
use crate::process::{self, Process};

/// A network namespace, or the network that the harness was started in.
///
/// A namespace has no name in the file system: with its last process and this value gone, the kernel removes it and
/// every device in it, even if the harness was killed.
#[derive(Debug, Clone)]
pub struct Netns(Option<Arc<OwnedFd>>);

impl Netns {
    /// The network that the harness was started in.
    pub fn here() -> Self {
        Self(None)
    }

    /// A new, empty one; needs root.
    pub fn new() -> Result<Self> {
        let home = own()?;
        // SAFETY: only CLONE_FILES would endanger other threads (by a file table of one's own), and it is not given.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
            .map_err(|errno| Error::io("making a network namespace, which needs root")(errno.into()))?;
        let made = own();
        enter(&home)?;
        Ok(Self(Some(Arc::new(made?))))
    }

    /// A process inside, by which `ip` names it.
    pub fn hold(&self) -> Result<Process> {
        let mut command = Command::new("sleep");
        command.arg("60");
        self.within(|| Process::start("holder", command, &std::env::temp_dir()))
    }

    /// Runs `work` with the calling thread inside. Sockets, threads and processes that it makes stay there.
    pub fn within<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(namespace) = &self.0 else { return work() };
        let home = own()?;
        enter(namespace)?;
        let done = work();
        enter(&home)?;
        done
    }

    /// Runs `program` with `arguments`, separated by blanks, inside to its end.
    pub fn exec(&self, program: &str, arguments: &str) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments.split_ascii_whitespace());
        let line = format!("{program} {arguments}");
        self.within(|| process::run(&line, command, Duration::from_secs(10), || false).map(drop))
    }
}

fn own() -> Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from).map_err(Error::io("opening the network namespace"))
}

fn enter(namespace: &OwnedFd) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|errno| Error::io("entering a network namespace")(errno.into()))
}
