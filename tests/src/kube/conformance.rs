//! The MCS API's own conformance suite, and what it said, as a table for people.

use crate::identity::text;
use serde::Deserialize;
use std::{fmt::Write as _, path::Path, process::Command};

/// Labels of the specs that run commands inside pods, which nothing here can: no pod has containers.
pub const NEEDS_CONTAINERS: [&str; 2] = ["DNS", "Connectivity"];

/// Of the specs with this label, a conformant implementation passes all.
const REQUIRED: &str = "Required";

/// How one spec went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It ran and passed.
    Passed,
    /// It ran and failed; the first lines of why.
    Failed(String),
    /// It did not run; why.
    NotRun(String),
}

/// One spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What it says, with all that it is nested in.
    pub text: String,
    /// Whether the suite counts it as required.
    pub required: bool,
    /// How it went.
    pub verdict: Verdict,
}

/// Runs the suite with the contexts of `kubeconfig`, the first of which is the exporting cluster. What it says as it goes is this
/// program's output, too; what it writes is in `dir`.
///
/// # Errors
/// If it cannot be run, or has written no report that can be read.
pub fn run(suite: &Path, kubeconfig: &Path, contexts: &[&str], dir: &Path) -> Result<Report, String> {
    let report = dir.join("conformance.json");
    let without = NEEDS_CONTAINERS.map(|label| format!("!{label}")).join(" && ");
    let mut command = Command::new(suite);
    command.args(["-test.timeout=0", "-ginkgo.no-color", "-ginkgo.v"]);
    command.args([format!("-ginkgo.label-filter={without}"), format!("-ginkgo.json-report={}", text(&report))]);
    command.args([format!("-kubeconfig={}", text(kubeconfig)), format!("-contexts={}", contexts.join(","))]);
    // Its end says no more than the report does.
    let ended = command.current_dir(dir).status().map_err(|e| format!("{}: {e}", suite.display()))?;
    let json =
        std::fs::read_to_string(&report).map_err(|e| format!("the suite ended ({ended}) without a report: {e}"))?;
    Report::parse(&json)
}

/// All specs of one run, in the order of the suite's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The specs.
    pub specs: Vec<Spec>,
}

impl Report {
    /// Reads what `--ginkgo.json-report` wrote.
    ///
    /// # Errors
    /// If it is no such report, or has no specs: a suite that ended before its first spec must not look as if it had passed.
    pub fn parse(json: &str) -> Result<Self, String> {
        let suites: Vec<Suite> = serde_json::from_str(json).map_err(|e| format!("ginkgo's report: {e}"))?;
        let all = || suites.iter().flat_map(|suite| suite.specs.iter().flatten());
        if let Some(node) = all().find(|node| node.leaf != "It" && node.has_failed()) {
            return Err(format!("{} failed: {}", node.leaf, node.reason()));
        }
        let specs: Vec<_> = all().filter(|node| node.leaf == "It").map(Node::spec).collect();
        if specs.is_empty() { Err("ginkgo's report: found no spec, expected some".into()) } else { Ok(Self { specs }) }
    }

    /// Whether every required spec that ran passed, and at least one ran.
    pub fn conforms(&self) -> bool {
        let required = self.specs.iter().filter(|spec| spec.required);
        let mut run = required.filter(|spec| !matches!(spec.verdict, Verdict::NotRun(_))).peekable();
        run.peek().is_some() && run.all(|spec| spec.verdict == Verdict::Passed)
    }

    /// A line of figures, and a table in Markdown.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n\n| spec | counts as | result |\n|---|---|---|\n", self.figures());
        for spec in &self.specs {
            let counts = if spec.required { "required" } else { "optional" };
            let result = match &spec.verdict {
                Verdict::Passed => "passed".to_owned(),
                Verdict::Failed(reason) => format!("failed: {}", cell(reason)),
                Verdict::NotRun(reason) => format!("not run: {}", cell(reason)),
            };
            let _ = writeln!(text, "| {} | {counts} | {result} |", cell(&spec.text));
        }
        text
    }

    fn figures(&self) -> String {
        let count = |required: bool, wanted: fn(&Verdict) -> bool| {
            self.specs.iter().filter(|spec| spec.required == required && wanted(&spec.verdict)).count()
        };
        let of = |required| {
            let passed = count(required, |verdict| *verdict == Verdict::Passed);
            let failed = count(required, |verdict| matches!(verdict, Verdict::Failed(_)));
            let not_run = count(required, |verdict| matches!(verdict, Verdict::NotRun(_)));
            format!("{passed} passed, {failed} failed, {not_run} not run")
        };
        format!("Required: {}. Optional: {}.", of(true), of(false))
    }
}

/// Text that ends no cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[derive(Deserialize)]
struct Suite {
    #[serde(rename = "SpecReports")]
    specs: Option<Vec<Node>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "LeafNodeType")]
    leaf: String,
    leaf_node_text: String,
    leaf_node_labels: Option<Vec<String>>,
    container_hierarchy_texts: Option<Vec<String>>,
    container_hierarchy_labels: Option<Vec<Option<Vec<String>>>>,
    state: String,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

impl Node {
    fn spec(&self) -> Spec {
        let containers = self.container_hierarchy_texts.iter().flatten().map(String::as_str);
        let texts = containers.chain([self.leaf_node_text.as_str()]).filter(|text| !text.is_empty());
        let verdict = match self.state.as_str() {
            "passed" => Verdict::Passed,
            "skipped" | "pending" => Verdict::NotRun(self.why_not_run()),
            _ => Verdict::Failed(self.reason()),
        };
        Spec { text: texts.collect::<Vec<_>>().join(" "), required: self.has_label(REQUIRED), verdict }
    }

    fn has_failed(&self) -> bool {
        !["passed", "skipped", "pending"].contains(&self.state.as_str())
    }

    fn why_not_run(&self) -> String {
        if NEEDS_CONTAINERS.iter().any(|label| self.has_label(label)) {
            "it runs commands inside pods, and no pod has containers here".into()
        } else {
            Some(self.reason()).filter(|reason| !reason.is_empty()).unwrap_or_else(|| "the suite skipped it".into())
        }
    }

    fn has_label(&self, label: &str) -> bool {
        let containers = self.container_hierarchy_labels.iter().flatten().flatten().flatten();
        containers.chain(self.leaf_node_labels.iter().flatten()).any(|found| found == label)
    }

    /// What gomega says first: what happened, and what the suite calls it.
    fn reason(&self) -> String {
        let message = self.failure.as_ref().map_or("", |failure| &failure.message);
        let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.take(2).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests;
