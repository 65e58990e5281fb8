//! ● What a check found: lines with √, × or –, under headings.

use crate::{output::count, paint::Paint};
use serde::Serialize;
use std::{collections::BTreeSet, fmt};

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// It is as it should be.
    Ok,
    /// It is not: the line has what was found, and the fix.
    Failed,
    /// It does not apply, or could not be found out: the line has why.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// What it is about: the heading that it is under.
    pub(super) about: String,
    /// What has to be so, in a word for scripts, as `link.tunnel`.
    pub(super) check: &'static str,
    /// The same for people.
    pub(super) wanted: String,
    pub(super) mark: Mark,
    /// What was found.
    pub(super) found: Option<String>,
    /// What puts it right.
    pub(super) fix: Option<String>,
}

/// Lines about one thing, as they are added.
#[derive(Debug)]
pub(super) struct Lines {
    about: String,
    all: Vec<Line>,
}

impl Lines {
    /// About this.
    pub(super) fn about(about: impl Into<String>) -> Self {
        Self { about: about.into(), all: Vec::new() }
    }

    /// It is so; `found` has more of it, if there is more to say.
    pub(super) fn ok(&mut self, check: &'static str, wanted: impl Into<String>, found: Option<String>) {
        self.push(check, wanted.into(), Mark::Ok, found, None);
    }

    /// It is not.
    pub(super) fn failed(
        &mut self,
        check: &'static str,
        wanted: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(check, wanted.into(), Mark::Failed, Some(found.into()), Some(fix.into()));
    }

    /// It does not apply.
    pub(super) fn skipped(&mut self, check: &'static str, wanted: impl Into<String>, why: impl Into<String>) {
        self.push(check, wanted.into(), Mark::Skipped, Some(why.into()), None);
    }

    fn push(&mut self, check: &'static str, wanted: String, mark: Mark, found: Option<String>, fix: Option<String>) {
        // What comes from a gateway goes to a terminal: lines, and no control characters.
        let clean = |text: String| text.chars().filter(|&c| !c.is_control() || c == '\n').collect::<String>();
        let (about, found, fix) = (self.about.clone(), found.map(clean), fix.map(clean));
        self.all.push(Line { about, check, wanted: clean(wanted), mark, found, fix });
    }

    /// All of them, in order.
    pub(super) fn into_vec(self) -> Vec<Line> {
        self.all
    }
}

/// Everything that was checked.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether nothing failed.
    pub(super) ok: bool,
    pub(super) lines: Vec<Line>,
    #[serde(skip)]
    paint: Paint,
}

impl Report {
    /// Of these lines.
    pub(super) fn new(lines: Vec<Line>, paint: Paint) -> Self {
        Self { ok: lines.iter().all(|line| line.mark != Mark::Failed), lines, paint }
    }

    /// What failed, in one line; `None` if nothing did.
    pub(super) fn problem(&self) -> Option<String> {
        let failed: Vec<_> = self.lines.iter().filter(|line| line.mark == Mark::Failed).collect();
        let about: BTreeSet<_> = failed.iter().map(|line| line.about.as_str()).collect();
        let about = about.into_iter().collect::<Vec<_>>().join(", ");
        (!failed.is_empty()).then(|| format!("{} failed, of {about}", count(failed.len(), "check")))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut about = None;
        for line in &self.lines {
            if about != Some(&line.about) {
                let gap = if about.is_some() { "\n" } else { "" };
                writeln!(f, "{gap}{}", self.paint.bold(&line.about))?;
                about = Some(&line.about);
            }
            self.line(line, f)?;
        }
        Ok(())
    }
}

impl Report {
    fn line(&self, line: &Line, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match line.mark {
            Mark::Ok => self.paint.green("√"),
            Mark::Failed => self.paint.red("×"),
            Mark::Skipped => self.paint.dim("–"),
        };
        let found = line.found.as_deref().unwrap_or_default();
        let mut rows = found.lines();
        match rows.next() {
            Some(first) => writeln!(f, "  {mark} {}: {first}", line.wanted)?,
            None => writeln!(f, "  {mark} {}", line.wanted)?,
        }
        rows.try_for_each(|row| writeln!(f, "      {row}"))?;
        let mut arrow = "→";
        for row in line.fix.iter().flat_map(|fix| fix.lines()) {
            writeln!(f, "    {arrow} {row}")?;
            arrow = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut file = Lines::about("configuration west.yaml");
        file.ok("config.file", "it is valid", None);
        file.failed("config.identity", "the identity is there", "found\u{1b} none\nof two", "make one\nor two");
        let mut link = Lines::about("link east");
        link.ok("link.tunnel", "a tunnel is up", Some("tls, 1.2 ms".into()));
        link.skipped("link.clock", "the clocks agree", "the peer does not tell");
        Report::new([file.into_vec(), link.into_vec()].concat(), Paint::default())
    }

    #[test]
    fn people_see_a_mark_what_was_found_and_the_fix() {
        let expected = "\
configuration west.yaml
  √ it is valid
  × the identity is there: found none
      of two
    → make one
      or two

link east
  √ a tunnel is up: tls, 1.2 ms
  – the clocks agree: the peer does not tell
";
        assert_eq!(report().to_string(), expected);
        assert_eq!(report().problem().unwrap(), "1 check failed, of configuration west.yaml");
    }

    #[test]
    fn scripts_see_the_same() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!((&json["ok"], &json["lines"][1]["mark"]), (&false.into(), &"failed".into()));
        assert_eq!((&json["lines"][3]["check"], &json["lines"][3]["fix"]), (&"link.clock".into(), &().into()));
        assert_eq!(Report::new(Vec::new(), Paint::default()).problem(), None);
    }
}
