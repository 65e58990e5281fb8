//! Why a demonstration did not come to its end.

use std::{io, path::PathBuf, process::ExitStatus};

/// What went wrong, and what to do about it where there is something to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Programs that it calls are not installed.
    #[error("{} not installed: run `apt-get install {}`", .programs.join(", "), .packages.join(" "))]
    Missing {
        /// The programs.
        programs: Vec<&'static str>,
        /// The packages of Debian and Ubuntu that have them.
        packages: Vec<&'static str>,
    },
    /// Namespaces need root.
    #[error("network namespaces need root: run `sudo isthmus demo`, or `isthmus demo --loopback`, which does without")]
    NotRoot,
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What it was for.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to stderr.
        stderr: String,
    },
    /// A program did not end.
    #[error("`{command}` did not end within {seconds} s")]
    Slow {
        /// The command line.
        command: String,
        /// The bound.
        seconds: u64,
    },
    /// A program that should have kept running has ended.
    #[error("{name} ended by itself ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// Nothing answered in time.
    #[error("{what} did not answer within {seconds} s: {last}{log}")]
    Silent {
        /// What was asked.
        what: String,
        /// The bound.
        seconds: u64,
        /// The last answer or error.
        last: String,
        /// The last lines of the gateways' logs.
        log: String,
    },
    /// The topology is not what it claims to be.
    #[error("the WAN has a route to {address}, which it must not have: {route}")]
    Routed {
        /// An address of the pods.
        address: String,
        /// What `ip route get` said.
        route: String,
    },
    /// The emulated WAN failed.
    #[error(transparent)]
    Wan(#[from] isthmus_wan::Error),
    /// wrk printed something else than our script's line.
    #[error("wrk printed no result: {found:?}")]
    Wrk {
        /// What it printed.
        found: String,
    },
    /// A thread of ours panicked.
    #[error("the thread {0} panicked")]
    Thread(&'static str),
    /// Ctrl-C or its like.
    #[error("stopped by {name}; everything is removed")]
    Interrupted {
        /// The signal's name.
        name: &'static str,
        /// Its number.
        number: u8,
    },
    /// Files of ours are still there.
    #[error("cannot remove {path}: {source}")]
    Left {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Names what was being done when a system call failed.
pub(super) trait Doing<T> {
    /// Turns the error into one that says `doing`.
    fn doing(self, doing: impl Into<String>) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: doing.into(), source })
    }
}
