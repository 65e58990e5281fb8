//! Guides that are run from their text: the commands of a Markdown document, on the machines of a [`Topology`].
//!
//! What a fenced block is, its info string and its first line say; everybody who reads the guide sees it, too:
//!
//! ```text
//! sh      `# on west`               begins a section: its commands are run on that machine. Several may follow in one block
//! sh      after `Illustration: …`   is not run; the line before the block says why
//! text    after a block of sh       what the last section shows. `...` is any lines, `…` any text; spaces do not count
//! others  `# on west: west.yaml`    a file of that machine, from now on
//! others  `# from tests/….yaml`     a file of the repository, which another test uses; both are the same but for comments
//! ```
//!
//! A block that is none of these is an error. A machine is `west`, a cluster's gateway, or `client in west`, among its pods. It has
//! its own processes, home and /run, and one terminal: variables, directories and background jobs stay from section to section. A
//! section with a stated output is asked until it shows it, for two minutes, as people do; so it must only look. What a section
//! printed is the standard input of the next one: whoever reads `join -` pastes it. `isthmus run` keeps its terminal, so the next
//! command gets another one, once the gateway is ready. `scp` copies between the machines' homes.

mod expect;
mod machine;
mod text;

use crate::{Topology, wait::PAUSE};
use machine::{Machine, Shown};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
pub use text::{Step, Wrong, parse, uncommented};

/// How long a section is asked again for what it is to show. Generous: it bounds a failing test, it measures nothing.
const BOUND: Duration = Duration::from_secs(120);

/// A document, or a part of it.
#[derive(Debug)]
pub struct Guide {
    path: PathBuf,
    steps: Vec<Step>,
}

/// What was run of a guide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// Sections of commands.
    pub sections: usize,
    /// Those whose output was stated, and was so.
    pub compared: usize,
}

impl Guide {
    /// Reads a document.
    ///
    /// # Panics
    /// If it is not there, or has blocks that are neither run nor marked: the message has all of them.
    pub fn read(path: &Path) -> Self {
        Self::read_part(path, None)
    }

    /// Reads what is below a heading of a document, up to the next one.
    ///
    /// # Panics
    /// As [`Guide::read`], and if there is no such heading.
    pub fn read_section(path: &Path, heading: &str) -> Self {
        Self::read_part(path, Some(heading))
    }

    /// What it says is to be done.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn read_part(path: &Path, heading: Option<&str>) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let parsed = parse(&text, heading);
        let steps = parsed.unwrap_or_else(|wrong| {
            let lines: Vec<_> = wrong.iter().map(|w| format!("{}:{}: {}", path.display(), w.line, w.what)).collect();
            panic!("{}", lines.join("\n"))
        });
        Self { path: path.to_owned(), steps }
    }

    /// Does what it says, step by step, on the machines of a topology.
    ///
    /// # Panics
    /// If a command fails, or shows something else than is stated; and if nothing was run.
    pub fn run(&self, topology: &Topology) -> Ran {
        let mut machines = BTreeMap::new();
        let mut ran = Ran { sections: 0, compared: 0 };
        let mut pasted = String::new();
        for step in &self.steps {
            match step {
                Step::Illustration { .. } | Step::Quote { .. } => {}
                Step::File { line, machine, path, text } => {
                    self.machine(&mut machines, topology, machine, *line).write(path, text);
                }
                Step::Section { line, machine, commands, shows } => {
                    let machine = self.machine(&mut machines, topology, machine, *line);
                    let at = format!("{}:{line}", self.path.display());
                    pasted = match shows {
                        None => machine.run(&at, commands, &pasted).out,
                        Some(stated) => look(machine, &at, commands, &pasted, stated).out,
                    };
                    ran.sections += 1;
                    ran.compared += usize::from(shows.is_some());
                }
            }
        }
        assert!(ran.sections > 0 && ran.compared > 0, "{}: nothing was run and compared: {ran:?}", self.path.display());
        ran
    }

    fn machine<'m>(
        &self,
        machines: &'m mut BTreeMap<String, Machine>,
        topology: &Topology,
        name: &str,
        line: usize,
    ) -> &'m mut Machine {
        let at = || format!("{}:{line}", self.path.display());
        machines.entry(name.to_owned()).or_insert_with(|| Machine::start(topology, name, &at()))
    }
}

/// Asks until what is shown is what is stated.
fn look(machine: &mut Machine, at: &str, commands: &str, pasted: &str, stated: &str) -> Shown {
    let deadline = Instant::now() + BOUND;
    let mut first = None;
    loop {
        let shown = machine.look(at, commands, pasted);
        if expect::shows(&shown.all(), stated) {
            return shown;
        }
        let first = first.get_or_insert_with(|| shown.all());
        assert!(
            Instant::now() < deadline,
            "{at}: not within {BOUND:?}: expected\n{stated}\nfound at last\n{}\nfound at first\n{first}",
            shown.all(),
        );
        std::thread::sleep(PAUSE * 10);
    }
}
