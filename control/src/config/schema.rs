//! Every key of the configuration, once: what parses it, what documents it and what hints at it all read this list.

mod access;
mod balancing;
mod gateway;
mod registry;
mod services;
mod streams;
mod top;

/// One key: where it stands, what it takes, and what it is for.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The mapping it belongs to, as `exports[].ports[]`; empty for the top.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it takes, as a noun phrase: also what an error says was expected.
    pub takes: &'static str,
    /// What it is when left out; the text is parsed like any other.
    pub left_out: LeftOut,
    /// A value that is right.
    pub example: &'static str,
    /// What it is for, in a sentence or two.
    pub about: &'static str,
}

/// What a key is when left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// It must not be left out.
    Required,
    /// As if this were written.
    Text(&'static str),
    /// What this sentence says.
    Rule(&'static str),
}

use LeftOut::{Required, Rule, Text};

const fn key(
    place: (&'static str, &'static str),
    takes: &'static str,
    left_out: LeftOut,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key { section: place.0, name: place.1, takes, left_out, example, about }
}

pub(super) const NAME: &str = "a DNS label: 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
pub(super) const SERVICE: &str = "namespace/name, each a DNS label";
pub(super) const PORT: &str = "a port number, 1 to 65535";
pub(super) const LISTEN: &str = "ip:port to listen on, port 1 to 65535";
pub(super) const DURATION: &str = "a duration from 100ms to 1h, as 500ms, 30s or 5m";
pub(super) const LONG_DURATION: &str = "a duration from 1s to 720h, as 30s, 5m or 24h";
pub(super) const PROTOCOL: &str = "TCP or UDP";
pub(super) const NAMESPACE: &str = "a namespace: a DNS label";
pub(super) const NAMESPACE_NAME: &str = "the name of a Service: a DNS label";
pub(super) const HOST: &str = "an IP address or a DNS name";
pub(super) const SELECTOR: &str = "a label selector of at most 512 bytes";
pub(super) const PORTS: &str = "first-last, ports from 1024 to 65535";
pub(super) const CIDRS: &str = "a list of 1 to 1000 CIDRs, as 10.0.0.0/8, or IP addresses";
pub(super) const NETWORKS: &str = "a list of 1 to 64 CIDRs or IP addresses";
pub(super) const SUBDOMAIN: &str = "a DNS subdomain";
pub(super) const WEIGHTS: &str =
    "cluster=share, joined by commas, each cluster once, shares from 0 to 1000000, one above 0";
pub(super) const PLACE: &str = "a name of at most 253 printable characters";
pub(super) const ENDPOINT: &str = "ip:port or ip";
pub(super) const TIMES: &str = "a number from 1 to 1000";
pub(super) const RATE: &str = "a size from 64KiB to 1TiB, as 10MiB";
pub(super) const COUNT: &str = "a number from 1 to 10000000";

/// All keys, in the order of the reference.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    let all = [top::KEYS, gateway::KEYS, registry::KEYS, services::KEYS, balancing::KEYS, access::KEYS, streams::KEYS];
    all.into_iter().flatten()
}

/// The keys of one section.
pub(super) fn section(section: &str) -> impl Iterator<Item = &'static Key> {
    keys().filter(move |key| key.section == section)
}

/// The reference as Markdown tables, one a section: what docs/configuration.md holds between its markers.
pub fn reference() -> String {
    // The keys of one are in several places where they are of several subjects.
    let mut sections: Vec<&str> = Vec::new();
    for key in keys() {
        if !sections.contains(&key.section) {
            sections.push(key.section);
        }
    }
    sections.iter().map(|&name| table(name)).collect::<Vec<_>>().join("\n")
}

fn table(name: &str) -> String {
    let title = if name.is_empty() { "Top level" } else { name };
    let rows: String = section(name).map(row).collect();
    format!("### {title}\n\n| key | takes | when left out | example | |\n|---|---|---|---|---|\n{rows}")
}

fn row(key: &Key) -> String {
    let default = match key.left_out {
        Required => "**must be there**".into(),
        Text(text) => format!("`{text}`"),
        Rule(rule) => rule.into(),
    };
    let example = if key.example == "see above" { key.example.into() } else { format!("`{}`", key.example) };
    format!("| `{}` | {} | {default} | {example} | {} |\n", key.name, key.takes, key.about)
}
