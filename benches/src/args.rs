//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::case::{Case, Scale};
use crate::leg::{LEGS, Leg};
use crate::schedule::Plan;
use crate::setup::Setup;

/// Which runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// Everything on loopback.
    Loopback,
    /// The two proxies at the ends of an emulated WAN; needs root.
    Wan,
    /// One endpoint of eight twenty times slower than the others.
    Slow,
    /// Retries, with half of a service's endpoints dead and with all of them overloaded; needs root, writes no files.
    Storm,
    /// Ten thousand service ports of one gateway; needs root, writes no files.
    Ports,
}

/// Measures isthmus side by side with Envoy, HAProxy and nginx, on loopback and over an emulated WAN.
#[derive(Debug, Parser)]
#[command(name = "isthmus-benches")]
pub struct Args {
    /// What to run. [default: loopback, and a short form of wan in a whole run]
    pub suite: Option<Suite>,
    /// Only these legs of the WAN.
    #[arg(long, value_delimiter = ',', value_name = "LEG,…", value_parser = Leg::parse)]
    pub legs: Vec<&'static Leg>,
    /// One round of short loads, without the stalled readers, in less than two minutes; writes no files.
    #[arg(long)]
    pub quick: bool,
    /// How often each case runs on each setup. [default: 5, or 1 with --quick, or 3 of wan]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
    /// Seconds of each load. [default: 3, or 1 with --quick, or 2 of wan]
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
    /// Clients and the origin of a run on loopback in network namespaces of their own, as pods are; needs root, and isthmus' setups.
    #[arg(long)]
    pub apart: bool,
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
        let default: &[Case] = if self.quick { &Case::QUICK } else { &Case::LOOPBACK };
        let wanted = if self.cases.is_empty() { default } else { &self.cases };
        Case::ALL.into_iter().filter(|case| wanted.contains(case)).collect()
    }

    /// The setups to run, in the order of the tables.
    pub fn setups(&self) -> Vec<Setup> {
        let wanted = if self.setups.is_empty() { &Setup::LOOPBACK[..] } else { &self.setups };
        Setup::ALL.into_iter().filter(|setup| wanted.contains(setup)).collect()
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

    /// The run on loopback, if there is to be one.
    pub fn loopback(&self) -> Option<Plan> {
        matches!(self.suite, None | Some(Suite::Loopback)).then(|| Plan {
            name: "main".into(),
            setups: self.setups(),
            cases: self.cases(),
            rounds: self.rounds(),
            scale: self.scale(),
            keep_going: self.keep_going,
        })
    }

    /// The legs over the WAN, if there are to be any, with how many rounds.
    pub fn wan(&self) -> Option<(Vec<&'static Leg>, u32)> {
        let chosen = |legs: Vec<&'static Leg>| if self.legs.is_empty() { legs } else { self.legs.clone() };
        match self.suite {
            Some(Suite::Loopback | Suite::Slow | Suite::Storm | Suite::Ports) => None,
            Some(Suite::Wan) => {
                Some((chosen(LEGS.iter().collect()), self.rounds.unwrap_or(if self.quick { 1 } else { 3 })))
            }
            None => self.is_whole().then(|| (chosen(Leg::short()), 1)),
        }
    }

    /// The run with a slow endpoint, if there is to be one.
    pub fn slow(&self) -> Option<Plan> {
        let wanted = |setup: &Setup| self.setups.is_empty() || self.setups.contains(setup);
        (self.suite == Some(Suite::Slow)).then(|| Plan {
            name: "slow".into(),
            setups: crate::slow::SETUPS.into_iter().filter(wanted).collect(),
            cases: Vec::new(),
            rounds: self.rounds(),
            scale: self.scale(),
            keep_going: false,
        })
    }

    /// What a leg does.
    pub fn plan_of(&self, leg: &Leg, rounds: u32) -> Plan {
        let wanted = |setup: &&Setup| self.setups.is_empty() || self.setups.contains(setup);
        let cases = leg.cases().iter().filter(|&case| self.cases.is_empty() || self.cases.contains(case));
        Plan {
            name: leg.key.into(),
            setups: leg.setups.iter().filter(wanted).copied().collect(),
            cases: cases.copied().collect(),
            rounds: rounds * leg.faults_a_round(),
            scale: Scale { seconds: self.seconds.unwrap_or(Scale::WAN.seconds), ..Scale::WAN },
            keep_going: self.keep_going,
        }
    }

    /// All setups that are to run anywhere.
    pub fn all_setups(&self) -> Vec<Setup> {
        match self.suite {
            Some(Suite::Storm) => return vec![Setup::IsthmusTls, Setup::EnvoyTcp],
            Some(Suite::Ports) => return vec![Setup::IsthmusTls],
            _ => {}
        }
        let mut all = self.loopback().or_else(|| self.slow()).map(|plan| plan.setups).unwrap_or_default();
        let (legs, rounds) = self.wan().unwrap_or_default();
        all.extend(legs.into_iter().flat_map(|leg| self.plan_of(leg, rounds).setups));
        all
    }

    fn is_whole(&self) -> bool {
        !self.quick && self.cases.is_empty() && self.setups.is_empty()
    }

    /// Whether results are for the repository: of a whole run, or because it was asked for.
    pub fn writes(&self) -> bool {
        self.write || self.out.is_some() || self.is_whole()
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
    fn a_whole_run_has_the_wan_in_short_and_a_part_has_not() {
        let legs = |arguments| parse(arguments).wan().map(|(legs, rounds)| (legs.len(), rounds));
        assert_eq!([legs(""), legs("wan"), legs("wan --quick")], [Some((3, 1)), Some((6, 3)), Some((6, 1))]);
        assert_eq!([legs("loopback"), legs("--quick"), legs("--cases c1")], [None; 3]);
        assert_eq!(legs("wan --legs 80ms --rounds 2"), Some((1, 2)));
        assert!(parse("wan").loopback().is_none() && parse("loopback").loopback().is_some());
    }

    #[test]
    fn a_leg_takes_what_was_chosen_of_its_own() {
        let leg = Leg::parse("5ms").unwrap();
        let plan = parse("wan --cases bulk,close --setups nginx,legacy").plan_of(leg, 3);
        assert_eq!((plan.cases, plan.setups, plan.rounds), (vec![Case::Close], vec![Setup::Legacy], 3));
        assert_eq!(parse("wan").plan_of(Leg::parse("path-dies").unwrap(), 3).rounds, 12);
    }

    #[test]
    fn quick_is_smaller_and_can_be_overridden() {
        assert_eq!((parse("--quick").rounds(), parse("").rounds(), parse("--quick --rounds 3").rounds()), (1, 5, 3));
        assert_eq!(parse("--quick --seconds 2").scale(), Scale { seconds: 2, ..Scale::QUICK });
    }
}
