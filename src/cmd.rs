//! The subcommands, and how any of them fails.

mod admin;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod control;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod gateway;
pub(crate) mod identity;
pub(crate) mod install;
pub(crate) mod invite;
pub(crate) mod join;
mod kubernetes;
pub(crate) mod link;
mod linking;
pub(crate) mod run;
mod serve;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod unlink;

use crate::{args::Command, exit};
use std::{error::Error, io::Write, process::ExitCode};

/// Runs one subcommand to its end.
pub(crate) fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Bench(args) => bench::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Control(args) => control::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Gateway(args) => gateway::run(&args),
        Command::Identity(args) => identity::run(&args),
        Command::Install(args) => install::run(&args),
        Command::Invite(args) => invite::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Link(args) => link::run(&args),
        Command::Man(args) => completions::man(&args),
        Command::Services(args) => services::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Unexport(args) => export::unexport(&args),
        Command::Uninstall(args) => install::uninstall(&args),
        Command::Unlink(args) => unlink::run(&args),
    }
}

/// Why a command did not succeed. Any error becomes one with `?`, as exit code 1; its `Display` has to say everything.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// It was tried and failed: exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: exit::FAILED, message: message.into() }
    }

    /// The command line is wrong: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: exit::USAGE, message: message.into() }
    }

    /// The same, with what follows from it.
    pub(crate) fn with(self, remark: &str) -> Self {
        Self { message: format!("{}: {remark}", self.message), ..self }
    }

    /// What went wrong, for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The process's exit code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// It was ended by a signal: exit code 128 and the signal's number, as shells have it.
    pub(crate) fn interrupted(message: impl Into<String>, signal: u8) -> Self {
        Self { code: exit::SIGNAL + signal, message: message.into() }
    }

    /// It was done, and what it found is not well: exit code 3.
    pub(crate) fn unwell(message: impl Into<String>) -> Self {
        Self { code: exit::UNWELL, message: message.into() }
    }

    /// Tells people on stderr and scripts by the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // With stderr gone nobody is left to be told.
        let _ = writeln!(std::io::stderr(), "isthmus: error: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::failed(error.to_string())
    }
}
