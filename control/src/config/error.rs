//! What is wrong with a configuration file, and where.

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

/// A file with more mistakes than this is not that kind of file.
const REPORTED: usize = 100;

/// Everything that is wrong with a configuration file: as much as one pass can find, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, as it was named by the caller.
    pub path: PathBuf,
    /// What is wrong; never empty, at most 100.
    pub errors: Vec<ConfigError>,
    /// How many more there are.
    pub more: usize,
}

/// One thing that is wrong: `14:11: exports[0].ports[0].protocol: found "TPC", expected TCP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where; `None` if it is the file as a whole.
    pub at: Option<Position>,
    /// The path of the field, as `exports[0].service`; empty for the whole file.
    pub field: String,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
}

/// A place in a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// A value and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) at: Position,
    pub(super) value: T,
}

impl ConfigErrors {
    /// One error about a field, wherever it stands.
    pub(super) fn field(path: &Path, field: &str, found: String, expected: String) -> Self {
        Self::new(path, vec![ConfigError { at: None, field: field.into(), found, expected }])
    }

    /// One error about the whole file.
    pub(super) fn whole(path: &Path, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let error = ConfigError { at: None, field: String::new(), found: found.into(), expected: expected.into() };
        Self::new(path, vec![error])
    }

    /// All of `errors`, sorted by place and cut to a bound.
    pub(super) fn new(path: &Path, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.at);
        let more = errors.len().saturating_sub(REPORTED);
        errors.truncate(REPORTED);
        Self { path: path.into(), errors, more }
    }
}

/// One line an error, each beginning with the file's name.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{}{error}", self.path.display(), if error.at.is_none() { " " } else { "" })?;
        }
        if self.more > 0 {
            write!(f, "\n{}: and {} more", self.path.display(), self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "{at}: ")?;
        }
        if !self.field.is_empty() {
            // A key may hold anything; none can forge a line of its own.
            for c in self.field.chars() {
                if c.is_control() { write!(f, "{}", c.escape_debug())? } else { f.write_char(c)? }
            }
            f.write_str(": ")?;
        }
        write!(f, "found {}, expected {}", self.found, self.expected)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
