//! What `isthmus install` says while it goes on, and in the end.

use crate::{
    cmd::{Failure, kubernetes::Cluster, linking},
    output::{Format, Output},
};
use isthmus_control_api::ClusterName;
use isthmus_control_kube::install::Done;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// A line for each object: to people at once, to scripts in the end.
#[derive(Debug, Serialize)]
pub(super) struct Progress {
    objects: Vec<Line>,
    #[serde(skip)]
    format: Format,
    #[serde(skip)]
    next: String,
}

#[derive(Debug, Serialize)]
struct Line {
    object: String,
    done: String,
}

impl Progress {
    pub(super) fn new(format: Format) -> Self {
        Self { objects: Vec::new(), format, next: String::new() }
    }

    /// An object was dealt with.
    pub(super) fn done(&mut self, object: &Value, done: Done) {
        let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = format!("{} {}", part(&object["kind"]), part(&object["metadata"]["name"]));
        let word = match done {
            Done::Created => "created",
            Done::Changed => "changed",
            Done::Unchanged => "unchanged",
            Done::Kept => "kept: it is newer, or somebody else's",
            Done::Deleted => "deleted",
            Done::Absent => "not there",
        };
        self.say(&name, word);
    }

    /// Something is so.
    pub(super) fn say(&mut self, object: &str, done: &str) {
        if self.format == Format::Table {
            linking::tell(&format!("{object:<60} {done}\n"));
        }
        self.objects.push(Line { object: object.to_owned(), done: done.to_owned() });
    }

    /// Everything is installed.
    pub(super) fn end(mut self, name: &ClusterName, cluster: &Cluster) -> Result<(), Failure> {
        let at = cluster.words();
        self.next = format!(
            "Installed isthmus in {name}. Next, to link it with another cluster that has it, too:\n  isthmus invite{at}\n  \
             and there: isthmus join TOKEN --context CONTEXT\n"
        );
        self.print()
    }

    /// The end.
    pub(super) fn print(self) -> Result<(), Failure> {
        if self.format == Format::Table && self.next.is_empty() {
            return Ok(());
        }
        Ok(Output { format: self.format }.print(&self)?)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.next)
    }
}
