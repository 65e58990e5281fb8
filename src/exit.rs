//! What exit codes mean. docs/exit-codes.md is made of these, and of what each command's help says of its own.

/// It was tried and failed.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// It was done, and what it found is not well.
pub(crate) const UNWELL: u8 = 3;
/// And a signal's number: it was ended by that.
pub(crate) const SIGNAL: u8 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use clap::{Command, CommandFactory};
    use std::{fmt::Write as _, path::Path};

    /// Where a command's help says what its exit codes mean.
    const HEADING: &str = "Exit codes:\n";

    /// `UPDATE_DOCS=1 cargo test -p isthmus exit` rewrites it.
    #[test]
    fn the_document_has_every_exit_code() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/exit-codes.md");
        let text = document();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "run it again with UPDATE_DOCS=1");
    }

    fn document() -> String {
        let mut text = format!(
            "# Exit codes\n\nMade from the commands' definitions: `UPDATE_DOCS=1 cargo test -p isthmus exit`. What failed is on \
             stderr, in one line or more that begin with `isthmus: error:`.\n\n| code | meaning, of every command |\n|---|---|\n\
             | 0 | it did what it was asked to; a gateway or control: it drained and ended |\n| {FAILED} | it failed |\n| {USAGE} | \
             the command line is wrong |\n| {UNWELL} | it was done, and what it found is not well |\n| {SIGNAL} + n | ended by \
             signal n, where it is not to end by one |\n\nWhere a command means something more exact:\n"
        );
        commands(&mut text, "isthmus", &Args::command());
        text
    }

    fn commands(text: &mut String, path: &str, of: &Command) {
        for command in of.get_subcommands() {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            if let Some((_, codes)) = help.split_once(HEADING) {
                write!(text, "\n## {path}\n\n| code | meaning |\n|---|---|\n").unwrap();
                rows(codes).iter().for_each(|(code, meaning)| writeln!(text, "| {code} | {meaning} |").unwrap());
            }
            commands(text, &path, command);
        }
    }

    /// Lines of `  N  text`, and such that go on with it.
    fn rows(codes: &str) -> Vec<(String, String)> {
        let mut rows: Vec<(String, String)> = Vec::new();
        for line in codes.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_once("  ") {
                Some((code, meaning)) if code.starts_with(|c: char| c.is_ascii_digit()) => {
                    rows.push((code.to_owned(), meaning.trim().to_owned()));
                }
                _ => rows.last_mut().unwrap().1.push_str(&format!(" {line}")),
            }
        }
        rows
    }

    #[test]
    fn codes_that_a_help_names_are_those_that_there_are() {
        for (_, help) in helps("isthmus", &Args::command()) {
            for (code, _) in rows(help.split_once(HEADING).unwrap().1) {
                let number = code.split(' ').next().unwrap().parse::<u8>().unwrap();
                assert!([0, FAILED, USAGE, UNWELL, SIGNAL].contains(&number) || number > SIGNAL, "{code} in {help}");
            }
        }
    }

    fn helps(path: &str, of: &Command) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for command in of.get_subcommands() {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            found.extend(helps(&path, command));
            if help.contains(HEADING) {
                found.push((path, help));
            }
        }
        found
    }
}
