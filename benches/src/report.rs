//! What a run found: on the terminal, and as `RESULTS.md`, `results.json` and `results.svg`.

use std::path::{Path, PathBuf};

use crate::args::Args;
use crate::case::Scale;
use crate::env::workspace;
use crate::error::{Error, Result, write_file};
use crate::leg::Leg;
use crate::machine::Machine;
use crate::schedule::{Plan, Run};

pub mod json;
pub mod markdown;
pub mod svg;
pub mod table;
pub mod wan;

/// All that a report draws on.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Where and when.
    pub machine: &'a Machine,
    /// What was measured.
    pub run: &'a Run,
    /// The command that repeats it.
    pub command: &'a str,
    /// How often.
    pub rounds: u32,
    /// How much.
    pub scale: Scale,
}

/// One line about the machine.
pub fn heading(machine: &Machine) -> String {
    let Machine { cpu, cpus, kernel, congestion, date, commit, .. } = machine;
    let versions: Vec<String> = machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!("{date}, commit {commit}, {cpus} CPUs of {cpu}, Linux {kernel}, {congestion}; {}", versions.join(", "))
}

/// Writes the files, if this run is one to be kept; returns which.
pub fn write(args: &Args, machine: &Machine, plan: &Plan, run: &Run) -> Result<Vec<PathBuf>> {
    if !args.writes() {
        return Ok(Vec::new());
    }
    let command = own_command();
    let source = Source { machine, run, command: &command, rounds: plan.rounds, scale: plan.scale };
    let dir = directory(args)?;
    let file = |name: &str, content: String| {
        let path = Path::new(&dir).join(name);
        write_file(&path, &content)?;
        Ok(path)
    };
    Ok(vec![
        file("RESULTS.md", markdown::render(&source))?,
        file("results.json", json::render(&source))?,
        file("results.svg", svg::render(&run.samples))?,
    ])
}

/// The same of a leg over the WAN.
pub fn write_leg(args: &Args, machine: &Machine, leg: &'static Leg, plan: &Plan, run: &Run) -> Result<Vec<PathBuf>> {
    if !args.writes() {
        return Ok(Vec::new());
    }
    let result = wan::result(&heading(machine), &own_command(), plan.rounds, run.took.as_secs(), &run.samples);
    wan::write(&directory(args)?, &[(leg, result)])
}

fn directory(args: &Args) -> Result<PathBuf> {
    let dir = args.out.clone().unwrap_or_else(|| workspace().join("benches"));
    std::fs::create_dir_all(&dir).map_err(Error::io(format!("creating {}", dir.display())))?;
    Ok(dir)
}

fn own_command() -> String {
    command(&std::env::args().skip(1).collect::<Vec<_>>())
}

/// The documented way to repeat a run. Paths are of one machine and are left out.
fn command(given: &[String]) -> String {
    let mut kept = Vec::new();
    let mut words = given.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--isthmus" | "--envoy" | "--out" => _ = words.next(),
            path if ["--isthmus=", "--envoy=", "--out="].iter().any(|option| path.starts_with(option)) => {}
            other => kept.push(other),
        }
    }
    if kept.is_empty() { "make bench".into() } else { format!("make bench ARGS=\"{}\"", kept.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_no_path_of_this_machine() {
        let given = |text: &str| command(&text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(given("--isthmus /x/y --out=/z"), "make bench");
        assert_eq!(given("--rounds 3 --envoy /e --keep-going"), "make bench ARGS=\"--rounds 3 --keep-going\"");
    }
}
