//! What can stop a run, and what to do about it.

use std::path::PathBuf;

/// Why a block of the run, or the whole of it, could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Ctrl-C or SIGTERM: everything is taken down and the run ends.
    #[error("interrupted")]
    Interrupted,
    /// A program is not installed.
    #[error("{program} was not found: {hint}")]
    Missing {
        /// What was looked for.
        program: String,
        /// How to get it.
        hint: String,
    },
    /// A child ended, or did not answer in time; carries the end of its log.
    #[error("{name}: {problem}\n--- the last lines of its log ---\n{log}")]
    Child {
        /// The child, by the name that its log has.
        name: String,
        /// What was seen.
        problem: String,
        /// The last lines it wrote.
        log: String,
    },
    /// A file or socket operation of the harness itself failed.
    #[error("{doing}: {source}")]
    Io {
        /// What the harness was doing.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ran but what it printed made no sense, or a load moved nothing.
    #[error("{0}")]
    Load(String),
}

/// The harness's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err`: says what was being done when the system refused.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// A program that has to be installed first.
    pub fn missing(program: impl Into<String>) -> Self {
        Self::Missing { program: program.into(), hint: "`make setup` installs it".into() }
    }
}

/// Writes `content` to `path`, with the path in the error.
pub fn write_file(path: &PathBuf, content: &str) -> Result<()> {
    std::fs::write(path, content).map_err(Error::io(format!("writing {}", path.display())))
}
