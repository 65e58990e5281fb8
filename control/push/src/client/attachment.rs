//! How a gateway fares with its control.

use serde::Serialize;

/// How a gateway fares with its control. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Where control is.
    pub address: String,
    /// Whether it is attached.
    pub attached: bool,
    /// Since when it is, or is not.
    pub since_ms: u64,
    /// The term of the table that is here.
    pub term: u64,
    /// Its version.
    pub version: u64,
    /// When it came; none if it is from before this start.
    pub taken_ms: Option<u64>,
    /// The newest that control has, as it said last.
    pub newest_version: Option<u64>,
    /// What control waits for before it sends that, if it does.
    pub waits_for: Option<String>,
    /// Tables and changes that came and were taken, since the start.
    pub snapshots: u64,
    /// Of these, the changes.
    pub deltas: u64,
    /// What was refused last, if nothing was taken since.
    pub rejected: Option<String>,
    /// Why it is not attached, or why it was not before.
    pub error: Option<String>,
}
