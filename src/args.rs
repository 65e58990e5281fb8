//! The command line. A subcommand is one variant here and one file in `cmd/`, which has its arguments and its `run`.

use crate::cmd::{self, Failure};
use clap::{Parser, Subcommand, error::ErrorKind};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "isthmus", version, about, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure a service or a link: how long streams take, and what it carries
    Bench(cmd::bench::Args),
    /// Check configuration, gateway, links and services, and say how to put right what is wrong
    Check(cmd::check::Args),
    /// Print completions for a shell
    Completions(cmd::completions::Args),
    /// Run a cluster's control, which tells the cluster's gateways what to do
    Control(cmd::control::Args),
    /// Two clusters on this machine, one service, real traffic, and what happens when things break
    Demo(cmd::demo::Args),
    /// Export a service to linked clusters: a ServiceExport, or lines for the configuration file
    Export(cmd::export::Args),
    /// Run one of a cluster's gateways, which is told by the cluster's control what to do
    Gateway(cmd::gateway::Args),
    /// Make, show and exchange the identities by which clusters know each other
    Identity(cmd::identity::Args),
    /// Install isthmus in a cluster of Kubernetes, or print what that takes
    Install(cmd::install::Args),
    /// Make an invitation: a token with which one other cluster can link with this one
    Invite(cmd::invite::Args),
    /// Link with the cluster that made an invitation
    Join(cmd::join::Args),
    /// Make the manifests that link two clusters of Kubernetes
    Link(cmd::link::Args),
    /// Write manual pages
    Man(cmd::completions::Man),
    /// Show the services that a running gateway knows: imports and exports
    Services(cmd::services::Args),
    /// Show how a running gateway fares: its links, its services, their endpoints
    Status(cmd::status::Args),
    /// Watch links, services and streams of a running gateway, live
    Top(cmd::top::Args),
    /// Follow a stream to a service, hop by hop; show who could serve it, and where its next streams would go
    Trace(cmd::trace::Args),
    /// Run a cluster's gateway, with its control, from a configuration file
    Run(cmd::run::Args),
    /// Export a service no longer
    Unexport(cmd::export::Unexport),
    /// Take isthmus out of a cluster of Kubernetes
    Uninstall(cmd::install::Uninstall),
    /// End the link with a cluster, and the trust in it: open tunnels close at once
    Unlink(cmd::unlink::Args),
}

/// Parses the process's arguments. Help and version are printed here, and end the process.
pub(crate) fn parse() -> Result<Args, Failure> {
    Args::try_parse().map_err(|e| {
        let asks_for_help = e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        if asks_for_help || !e.use_stderr() {
            e.exit();
        }
        Failure::usage(e.render().to_string().trim_start_matches("error: ").trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
