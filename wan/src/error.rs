//! Why the WAN cannot do what it was asked for.

use std::io;

/// An error of [`crate::Wan`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller named an attachment that there is none of.
    #[error("found {found:?}, expected one of the WAN's attachments: {}", .expected.join(", "))]
    Unknown {
        /// What was found.
        found: String,
        /// What there is.
        expected: Vec<String>,
    },
    /// The relay's thread has ended, which it does on its own only when the system fails it.
    #[error("the WAN's thread has ended")]
    Ended,
    /// A system call failed.
    #[error("the WAN: {0}")]
    Io(#[from] io::Error),
}
