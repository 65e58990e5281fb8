//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::case::{Case, Scale};
use crate::setup::Setup;

/// Measures isthmus side by side with Envoy, HAProxy and nginx, on loopback.
#[derive(Debug, Parser)]
#[command(name = "isthmus-benches")]
pub struct Args {
    /// One round of short loads, without the stalled readers, in less than two minutes; writes no files.
    #[arg(long)]
    pub quick: bool,
    /// How often each case runs on each setup. [default: 5, or 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
    /// Seconds of each load. [default: 3, or 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: Option<u32>,
    /// Only these cases.
    #[arg(long, value_delimiter = ',', value_name = "CASE,…")]
    pub cases: Vec<Case>,
    /// Only these setups.
    #[arg(long, value_delimiter = ',', value_name = "SETUP,…")]
    pub setups: Vec<Setup>,
    /// The isthmus to measure. [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub isthmus: Option<PathBuf>,
    /// The Envoy to measure against. [default: target/tools/bin/envoy, where setup.sh puts it, or PATH]
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// How many CPUs everything shares: the first ones of those allowed.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub cpus: usize,
    /// Note what fails and go on with the rest; the exit code tells.
    #[arg(long)]
    pub keep_going: bool,
    /// Write RESULTS.md, results.json and results.svg with --quick or only some cases or setups too.
    #[arg(long)]
    pub write: bool,
    /// Where they go. [default: benches/ of the workspace]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Args {
    /// The cases to run, in the order of a round.
    pub fn cases(&self) -> Vec<Case> {
        let default: &[Case] = if self.quick { &Case::QUICK } else { &Case::ALL };
        let wanted = if self.cases.is_empty() { default } else { &self.cases };
        Case::ALL.into_iter().filter(|case| wanted.contains(case)).collect()
    }

    /// The setups to run, in the order of the tables.
    pub fn setups(&self) -> Vec<Setup> {
        Setup::ALL.into_iter().filter(|setup| self.setups.is_empty() || self.setups.contains(setup)).collect()
    }

    /// How many rounds.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// How much of each load.
    pub fn scale(&self) -> Scale {
        let scale = if self.quick { Scale::QUICK } else { Scale::FULL };
        Scale { seconds: self.seconds.unwrap_or(scale.seconds), ..scale }
    }

    /// Whether results are for the repository: of a whole run, or because it was asked for.
    pub fn writes(&self) -> bool {
        self.write || self.out.is_some() || !self.quick && self.cases.is_empty() && self.setups.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Args {
        Args::parse_from(std::iter::once("x").chain(arguments.split_ascii_whitespace()))
    }

    #[test]
    fn a_whole_run_writes_and_parts_do_not() {
        assert!(parse("").writes() && parse("--quick --write").writes());
        assert!(!parse("--quick").writes() && !parse("--cases c1").writes() && !parse("--setups nginx").writes());
    }

    #[test]
    fn lists_keep_the_order_of_the_tables() {
        let args = parse("--cases close,c1 --setups haproxy,direct");
        assert_eq!(args.cases(), [Case::One, Case::Close]);
        assert_eq!(args.setups(), [Setup::Direct, Setup::Haproxy]);
    }

    #[test]
    fn names_on_the_command_line_are_those_of_the_results() {
        for case in Case::ALL {
            assert_eq!(parse(&format!("--cases {}", case.key())).cases(), [case]);
        }
        for setup in Setup::ALL {
            assert_eq!(parse(&format!("--setups {}", setup.key())).setups(), [setup]);
        }
    }

    #[test]
    fn quick_is_smaller_and_can_be_overridden() {
        assert_eq!((parse("--quick").rounds(), parse("").rounds(), parse("--quick --rounds 3").rounds()), (1, 5, 3));
        assert_eq!(parse("--quick --seconds 2").scale(), Scale { seconds: 2, ..Scale::QUICK });
    }
}
