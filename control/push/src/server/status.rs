//! How the gateways fare, for people.

use crate::{LinkReport, feed::Rejected};
use isthmus_control_api::ClusterName;
use serde::Serialize;
use std::collections::BTreeMap;

/// How the gateways fare, for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// The term in which this control's tables count; `None`: another one leads.
    pub term: Option<u64>,
    /// The newest table.
    pub table_version: u64,
    /// Those that are attached, by their numbers.
    pub gateways: Vec<GatewayStatus>,
    /// Those that are away, and whose word on what they reach still counts.
    pub away: Vec<AwayStatus>,
}

/// A gateway that has lost its connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AwayStatus {
    /// Which one.
    pub gateway: String,
    /// Linked clusters, and how many of their gateways it reached.
    pub reached: BTreeMap<ClusterName, usize>,
    /// For how long that still counts.
    pub counts_ms: u64,
}

/// How one gateway fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Which one: the number that it has drawn at its start.
    pub gateway: String,
    /// What it calls itself.
    pub name: String,
    /// Its version of isthmus.
    pub version: String,
    /// When it came, in milliseconds since 1970.
    pub attached_ms: u64,
    /// The table that it has taken last; `None`: none yet.
    pub table_version: Option<u64>,
    /// For how long it has not had the newest.
    pub lag_ms: u64,
    /// What it has refused, if it has not taken another table since.
    pub rejected: Option<Rejected>,
    /// Linked clusters, and how many of their gateways it reaches.
    pub reached: BTreeMap<ClusterName, usize>,
    /// How its links fare, in its own words.
    pub links: Vec<LinkReport>,
}
