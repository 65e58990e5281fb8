//! `isthmus identity`: the identities by which clusters know each other.

use super::Failure;
use clap::Subcommand;

/// Arguments of `isthmus identity`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match args.command {}
}
