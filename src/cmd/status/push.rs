//! What a status says where control and gateways are processes of their own.

use super::render::{or_dash, short};
use crate::output::Grid;
use serde::Deserialize;
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// What control has to add, as far as it is about that. Its names are those of `isthmus_push`; what a newer one adds is skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Apart {
    /// Of a gateway: how it fares with its control.
    attachment: Option<Attachment>,
    /// Of a control: its gateways.
    push: Option<Push>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Attachment {
    address: String,
    attached: bool,
    since_ms: u64,
    version: u64,
    newest_version: Option<u64>,
    waits_for: Option<String>,
    rejected: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Push {
    term: Option<u64>,
    table_version: u64,
    gateways: Vec<Gateway>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Gateway {
    gateway: String,
    name: String,
    version: String,
    attached_ms: u64,
    table_version: Option<u64>,
    lag_ms: u64,
    rejected: Option<Rejected>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rejected {
    version: u64,
    reason: String,
}

impl Apart {
    /// Reads it, if it is there.
    pub(super) fn of(control: &serde_json::Value) -> Self {
        Self::deserialize(control).unwrap_or_default()
    }

    /// What is wrong, in one line.
    pub(super) fn problem(&self) -> Option<String> {
        let attachment = self.attachment.as_ref()?;
        if let Some(reason) = &attachment.rejected {
            return Some(format!("a table of control was refused: {reason}"));
        }
        (!attachment.attached).then(|| format!("not attached to control at {}", attachment.address))
    }

    /// A line for a gateway, a table for a control.
    pub(super) fn write(&self, now: SystemTime, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(attachment) = &self.attachment {
            attachment.write(now, f)?;
        }
        match &self.push {
            Some(push) => push.write(now, f),
            None => Ok(()),
        }
    }
}

impl Attachment {
    fn write(&self, now: SystemTime, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, since) = (or_dash(Some(self.address.clone())), ago(self.since_ms, now));
        if self.attached {
            write!(
                f,
                "control {address}: attached for {since}, has version {}",
                or_dash(self.newest_version.map(text))
            )?;
        } else {
            write!(f, "control {address}: not attached for {since}, serving by version {}", self.version)?;
        }
        for (what, why) in [("it waits for ", &self.waits_for), ("refused: ", &self.rejected)] {
            if let Some(why) = why {
                write!(f, "; {what}{}", or_dash(Some(why.clone())))?;
            }
        }
        match self.error.as_ref().filter(|_| !self.attached) {
            Some(error) => writeln!(f, "; {}", or_dash(Some(error.clone()))),
            None => writeln!(f),
        }
    }
}

impl Push {
    fn write(&self, now: SystemTime, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.term {
            Some(term) => writeln!(f, "control of term {term}: {} gateways attached", self.gateways.len())?,
            None => writeln!(f, "control that does not lead: gateways are attached to another")?,
        }
        if self.gateways.is_empty() {
            return Ok(());
        }
        let mut grid = Grid::new(["GATEWAY", "NAME", "VERSION", "ATTACHED", "TABLE", "LAG", "MESSAGE"]);
        for gateway in &self.gateways {
            let refused = gateway.rejected.as_ref();
            let refused = refused.map(|refused| format!("refused version {}: {}", refused.version, refused.reason));
            grid.row([
                or_dash(Some(gateway.gateway.clone())),
                or_dash(Some(gateway.name.clone())),
                or_dash(Some(gateway.version.clone())),
                ago(gateway.attached_ms, now),
                format!("{}/{}", or_dash(gateway.table_version.map(text)), self.table_version),
                lag(gateway.lag_ms),
                or_dash(refused),
            ]);
        }
        write!(f, "\n{grid}")
    }
}

fn text(number: u64) -> String {
    number.to_string()
}

/// How long a gateway has been behind.
fn lag(millis: u64) -> String {
    match millis {
        0 => "-".to_owned(),
        1..10_000 => format!("{millis}ms"),
        _ => short(millis / 1000),
    }
}

/// From a moment, in milliseconds since 1970, to now.
fn ago(at_ms: u64, now: SystemTime) -> String {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    short(now.saturating_sub(Duration::from_millis(at_ms)).as_secs())
}
