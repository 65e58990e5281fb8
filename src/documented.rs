//! Keeps the documents true: each command line in them parses, and each configuration in them is one.

use crate::args::Args;
use clap::{CommandFactory, error::ErrorKind};
use isthmus_control::config::Config;
use std::path::{Path, PathBuf};

/// A place in a document, for messages.
struct Found {
    at: String,
    text: String,
}

#[test]
fn every_documented_command_line_parses() {
    let mut count = 0;
    for document in documents() {
        for line in command_lines(&document) {
            count += 1;
            let parsed = Args::command().try_get_matches_from(line.text.split_whitespace());
            assert!(parsed.is_ok(), "{}: {}\n{}", line.at, line.text, parsed.unwrap_err());
        }
        for mention in mentions(&document) {
            count += 1;
            let parsed = Args::command().try_get_matches_from(mention.text.split_whitespace());
            let wrong = parsed.err().filter(|e| names_what_is_not_there(e.kind()));
            assert!(wrong.is_none(), "{}: {}\n{}", mention.at, mention.text, wrong.unwrap());
        }
    }
    assert!(count > 0, "the documents have lost their command lines, or this test its eyes");
}

#[test]
fn every_documented_configuration_is_accepted() {
    let mut count = 0;
    // Guides are run (tests/guides/), and one of them shows how a mistake is told.
    for document in documents().into_iter().filter(|path| !path.parent().is_some_and(|dir| dir.ends_with("guides"))) {
        let is_ours = |block: &Found| block.text.lines().any(|line| line.starts_with("clusterset:"));
        for block in blocks(&document, "yaml").into_iter().filter(is_ours) {
            count += 1;
            let parsed = Config::parse(&block.text, Path::new("documented.yaml"));
            assert!(parsed.is_ok(), "{}: {}", block.at, parsed.unwrap_err());
        }
    }
    assert!(count > 0, "the documents have lost their configurations, or this test its eyes");
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in ["", "docs", "docs/decisions", "docs/guides", "deploy"] {
        let entries = std::fs::read_dir(root.join(directory)).unwrap();
        found.extend(
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
        );
    }
    found.sort();
    found
}

/// Fenced blocks whose opening fence says `language`.
fn blocks(document: &Path, language: &str) -> Vec<Found> {
    let text = std::fs::read_to_string(document).unwrap();
    let (mut found, mut open): (Vec<Found>, Option<Found>) = (Vec::new(), None);
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        match line.strip_prefix("```") {
            Some(_) if inside => {
                inside = false;
                found.extend(open.take());
            }
            Some(opened) => {
                inside = true;
                let at = format!("{}:{number}", document.display());
                open = (opened == language).then(|| Found { at, text: String::new() });
            }
            None => {
                if let Some(block) = &mut open {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
        }
    }
    found
}

/// Words that end a command.
const SHELL: [&str; 7] = ["#", "|", "||", "&&", "&", ">", "2>"];

/// Whole command lines: those of `sh` blocks that begin with `isthmus`, up to what the shell takes. A `#` begins a comment.
fn command_lines(document: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for block in blocks(document, "sh") {
        let joined = block.text.replace("\\\n", " ");
        let lines = joined.lines().filter(|line| line.starts_with("isthmus "));
        let words = lines.map(|line| line.split_whitespace().take_while(|word| !SHELL.contains(word)));
        found.extend(words.map(|words| Found { at: block.at.clone(), text: words.collect::<Vec<_>>().join(" ") }));
    }
    found
}

/// Commands mentioned in running text: `isthmus …` between backticks, with what is optional in brackets.
fn mentions(document: &Path) -> Vec<Found> {
    let text = std::fs::read_to_string(document).unwrap();
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let quoted = line.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("isthmus "));
        found.extend(
            quoted.map(|text| Found {
                at: format!("{}:{number}", document.display()),
                text: text.replace(['[', ']'], ""),
            }),
        );
    }
    found
}

/// Whether the words themselves are wrong. Values may be placeholders, and required ones may be left out.
fn names_what_is_not_there(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument)
}
