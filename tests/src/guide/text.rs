//! What a guide says is to be done.

/// One thing that a guide says, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Commands of one machine.
    Section {
        /// Where its first line is.
        line: usize,
        /// Where it is run.
        machine: String,
        /// The commands.
        commands: String,
        /// What they show, if that is stated.
        shows: Option<String>,
    },
    /// A file of a machine.
    File {
        /// Where its first line is.
        line: usize,
        /// Whose file.
        machine: String,
        /// Its path, relative to the machine's home.
        path: String,
        /// What is in it.
        text: String,
    },
    /// A file of the repository, as another test uses it.
    Quote {
        /// Where it is.
        line: usize,
        /// Its path in the repository.
        path: String,
        /// What is in it.
        text: String,
    },
    /// A block that is only shown.
    Illustration {
        /// Where it is.
        line: usize,
        /// Why it is not run.
        reason: String,
    },
}

/// What is wrong with a guide's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Where.
    pub line: usize,
    /// What was found, and what was expected.
    pub what: String,
}

/// A fenced block.
#[derive(Debug, Default)]
struct Block<'a> {
    line: usize,
    info: &'a str,
    text: Vec<&'a str>,
    /// The last line before it that is not empty.
    before: &'a str,
}

const ILLUSTRATION: &str = "Illustration: ";
const ON: &str = "# on ";

/// What a document says is to be done; of one part of it, if a heading is given.
///
/// # Errors
/// Everything that is neither run, nor written, nor compared, nor marked.
pub fn parse(document: &str, heading: Option<&str>) -> Result<Vec<Step>, Vec<Wrong>> {
    let mut wrong = Vec::new();
    let mut steps = Vec::new();
    let mut is_output_next = false;
    for block in blocks(document, heading).map_err(|wrong| vec![wrong])? {
        let taken = if block.info == "text" && is_output_next { compare(&mut steps, &block) } else { step(&block) };
        is_output_next = false;
        match taken {
            Ok(more) => {
                is_output_next = matches!(more.last(), Some(Step::Section { .. }));
                steps.extend(more);
            }
            Err(e) => wrong.push(e),
        }
    }
    if wrong.is_empty() { Ok(steps) } else { Err(wrong) }
}

fn blocks<'a>(document: &'a str, heading: Option<&str>) -> Result<Vec<Block<'a>>, Wrong> {
    let mut found = Vec::new();
    let mut open: Option<Block<'_>> = None;
    let (mut before, mut is_wanted, mut is_there) = ("", heading.is_none(), heading.is_none());
    for (line, text) in (1..).zip(document.lines()) {
        match (&mut open, text.strip_prefix("```")) {
            (None, Some(info)) => open = Some(Block { line, info: info.trim(), text: Vec::new(), before }),
            (Some(_), Some(_)) => found.extend(open.take().filter(|_| is_wanted)),
            (Some(block), None) => block.text.push(text),
            (None, None) => {
                if let (Some(wanted), Some(this)) = (heading, text.strip_prefix("## ")) {
                    is_wanted = this == wanted;
                    is_there |= is_wanted;
                }
                if !text.trim().is_empty() {
                    before = text;
                }
            }
        }
    }
    if let Some(block) = open {
        return Err(Wrong { line: block.line, what: "a block that does not end".into() });
    }
    if !is_there {
        return Err(Wrong { line: 1, what: format!("expected a heading \"{}\"", heading.unwrap_or_default()) });
    }
    Ok(found)
}

/// What is stated of the last section's output.
fn compare(steps: &mut [Step], block: &Block<'_>) -> Result<Vec<Step>, Wrong> {
    match steps.last_mut() {
        Some(Step::Section { shows, .. }) => *shows = Some(block.text.join("\n")),
        _ => return Err(Wrong { line: block.line, what: "an output of nothing that is run".into() }),
    }
    Ok(Vec::new())
}

fn step(block: &Block<'_>) -> Result<Vec<Step>, Wrong> {
    let line = block.line;
    if let Some(reason) = block.before.strip_prefix(ILLUSTRATION) {
        return Ok(vec![Step::Illustration { line, reason: reason.trim().to_owned() }]);
    }
    match block.info {
        "sh" => sections(block),
        "text" => Err(Wrong { line, what: "an output that follows no block of sh that is run".into() }),
        info => {
            let text = || block.text.iter().skip(1).map(|line| format!("{line}\n")).collect();
            if let Some(path) = block.text.first().and_then(|first| first.strip_prefix("# from ")) {
                return Ok(vec![Step::Quote { line, path: path.to_owned(), text: text() }]);
            }
            let named =
                block.text.first().and_then(|first| on(first)).and_then(|(machine, rest)| Some((machine, rest?)));
            let Some((machine, path)) = named else {
                let what = format!(
                    "a block of \"{info}\" that is no file (`# on MACHINE: PATH`), not quoted (`# from PATH`) and not marked (`{ILLUSTRATION}…`)"
                );
                return Err(Wrong { line, what });
            };
            Ok(vec![Step::File { line, machine, path: path.to_owned(), text: text() }])
        }
    }
}

/// The commands of a block, machine by machine.
fn sections(block: &Block<'_>) -> Result<Vec<Step>, Wrong> {
    let mut found = Vec::new();
    for (line, text) in (block.line + 1..).zip(&block.text) {
        let machine = on(text);
        if machine.is_none() && text.starts_with(ON) {
            let what = format!("found \"{text}\", expected `# on west`, or `# on the client in west`");
            return Err(Wrong { line, what });
        }
        match (machine, found.last_mut()) {
            (Some((machine, _)), _) => {
                found.push(Step::Section { line, machine, commands: String::new(), shows: None });
            }
            (None, Some(Step::Section { commands, .. })) => {
                commands.push_str(text);
                commands.push('\n');
            }
            (None, _) => {
                let what = format!(
                    "commands of no machine: expected `# on MACHINE` first, or `{ILLUSTRATION}…` before the block"
                );
                return Err(Wrong { line, what });
            }
        }
    }
    let empty = found.iter().find_map(|step| match step {
        Step::Section { line, commands, .. } if commands.trim().is_empty() => Some(*line),
        _ => None,
    });
    match empty {
        Some(line) => Err(Wrong { line, what: "a machine without commands".into() }),
        None if found.is_empty() => Err(Wrong { line: block.line, what: "a block without commands".into() }),
        None => Ok(found),
    }
}

/// A text without its lines of comments.
pub fn uncommented(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// `# on the database in east: path`: the machine, without its article, and what follows the colon.
fn on(line: &str) -> Option<(String, Option<&str>)> {
    let rest = line.strip_prefix(ON)?;
    let (machine, more) = rest.split_once(':').map_or((rest, None), |(machine, more)| (machine, Some(more.trim())));
    let words: Vec<_> = machine.split_whitespace().filter(|word| !["a", "the"].contains(word)).collect();
    matches!(words.as_slice(), [_] | [_, .., "in", _]).then(|| (words.join(" "), more))
}

#[cfg(test)]
mod tests;
