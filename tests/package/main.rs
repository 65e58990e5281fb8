//! Packages of the binary under test: what is in them, that packing twice gives the same bytes, and that what they hold runs.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

mod contents;
mod image;
mod install;
mod made;
mod made_of;
mod unit;
