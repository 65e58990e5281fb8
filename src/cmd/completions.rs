//! `isthmus completions` and `isthmus man`: what shells and readers want to know of the command line.

use super::Failure;
use crate::args::Args as Whole;
use clap::CommandFactory as _;
use std::{
    io::{self, Write as _},
    path::PathBuf,
};

/// Arguments of `isthmus completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
bash: isthmus completions bash > /etc/bash_completion.d/isthmus
zsh:  isthmus completions zsh > \"${fpath[1]}/_isthmus\"
fish: isthmus completions fish > ~/.config/fish/completions/isthmus.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints what the shell reads.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Whole::command(), "isthmus", &mut script);
    match io::stdout().lock().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Arguments of `isthmus man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The directory that the pages are written to, one for each command; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes manual pages.
pub(crate) fn man(args: &Man) -> Result<(), Failure> {
    let written =
        std::fs::create_dir_all(&args.out).and_then(|()| clap_mangen::generate_to(Whole::command(), &args.out));
    let failed = |error| Failure::failed(format!("--out: {}: {error}", args.out.display()));
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        man(&Man { out: dir.path().join("man") }).unwrap();
        let page = |name: &str| std::fs::read_to_string(dir.path().join("man").join(name)).unwrap();
        for command in Whole::command().get_subcommands() {
            let text = page(&format!("isthmus-{}.1", command.get_name()));
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{text}");
        }
        assert!(page("isthmus-check.1").contains("Exit codes"));
    }

    #[test]
    fn every_shell_is_told_of_every_command() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Whole::command(), "isthmus", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Whole::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} {}", command.get_name());
            }
        }
    }
}
