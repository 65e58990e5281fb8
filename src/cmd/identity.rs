//! `isthmus identity`: the identities by which clusters know each other.

mod init;
pub(super) mod issue;
mod renew;
mod revoke;
mod show;
mod trust;
pub(super) mod words;

use super::Failure;
use clap::Subcommand;

/// Arguments of `isthmus identity`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a cluster's CA and its gateway's SVID
    Init(init::Args),
    /// Trust another cluster: take its CA certificates as its bundle
    Trust(trust::Args),
    /// Show an identity: who it is, until when, and whom it trusts
    Show(show::Args),
    /// Sign an SVID for another workload of this cluster, such as an Envoy
    Issue(issue::Args),
    /// Replace the gateway's SVID now; a running gateway does it by itself
    Renew(renew::Args),
    /// Revoke certificates of this cluster's CA: peers that get the list refuse them
    Revoke(revoke::Args),
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Init(args) => args.output.print(&init::report(args)?),
        Command::Trust(args) => args.output.print(&trust::report(args)?),
        Command::Show(args) => args.output.print(&show::report(args)?),
        Command::Issue(args) => args.output.print(&issue::report(args)?),
        Command::Renew(args) => args.output.print(&renew::report(args)?),
        Command::Revoke(args) => args.output.print(&revoke::report(args)?),
    }?;
    Ok(())
}

#[cfg(test)]
mod tests;
