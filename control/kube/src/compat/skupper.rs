//! ● Skupper: Listeners and Connectors, which are matched by a routing key wherever they are.
//!
//! A routing key is a service of the clusterset, in a namespace that is none of any cluster's: Connectors export it, Listeners lead to
//! it. Links that are bound to namespaces carry routing keys only if they list that one.

use super::fields::{flag, port, text};
use isthmus_control::exchange::summary::bounds::is_label;
use kube::api::DynamicObject;
use serde_json::Value;
use std::collections::BTreeMap;

/// The namespace of the services that routing keys are.
pub const NAMESPACE: &str = "skupper-routing-key";
/// Their only port, as a key says none: what Listeners listen on, and what Connectors connect to, are their own.
pub const PORT: u16 = 1;

/// Where clients find what a routing key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What matches it with Connectors.
    pub routing_key: String,
    /// The name of its Service, in its own namespace.
    pub host: String,
    /// The Service's port.
    pub port: u16,
    /// What is not carried over.
    pub notes: Vec<String>,
}

/// What serves a routing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// What matches it with Listeners.
    pub routing_key: String,
    /// Who serves.
    pub target: Target,
    /// On which port.
    pub port: u16,
    /// Whether pods serve that are not ready.
    pub not_ready: bool,
    /// What is not carried over.
    pub notes: Vec<String>,
}

/// Who serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Pods with these labels.
    Pods(BTreeMap<String, String>),
    /// A host: an address, or a name.
    Host(String),
}

/// A Listener.
///
/// # Errors
/// Field, found, expected.
pub fn listener(object: &DynamicObject) -> Result<Listener, String> {
    let host = text(object, "/spec/host").unwrap_or_default();
    // Skupper takes the first label for the Service's name only where it is one.
    if !is_label(host) {
        return Err(format!("spec.host: found {host:?}, expected the name of a Service: a DNS label"));
    }
    let mut notes = common(object);
    if flag(object, "/spec/exposePodsByName") {
        notes
            .push("spec.exposePodsByName: not carried over; a headless Service that is exported names its pods".into());
    }
    Ok(Listener { routing_key: routing_key(object)?, host: host.to_owned(), port: port(object, "/spec/port")?, notes })
}

/// A Connector.
///
/// # Errors
/// Field, found, expected.
pub fn connector(object: &DynamicObject) -> Result<Connector, String> {
    let target = match (text(object, "/spec/selector"), text(object, "/spec/host")) {
        (Some(selector), None) => Target::Pods(labels(selector)?),
        (None, Some(host)) => Target::Host(host.to_owned()),
        (Some(_), Some(_)) => return Err("spec.host: found beside spec.selector, expected one of them".into()),
        (None, None) => return Err("spec: found neither selector nor host, expected one of them".into()),
    };
    let mut notes = common(object);
    for field in ["useClientCert", "verifyHostname", "exposePodsByName"] {
        if flag(object, &format!("/spec/{field}")) {
            notes.push(format!("spec.{field}: not carried over"));
        }
    }
    let not_ready = flag(object, "/spec/includeNotReadyPods") || flag(object, "/spec/includeNotReady");
    Ok(Connector { routing_key: routing_key(object)?, target, port: port(object, "/spec/port")?, not_ready, notes })
}

/// The name of the service that a routing key is: the key itself where it can be one.
pub fn service_name(routing_key: &str, digest: impl Fn(&str) -> String) -> String {
    if is_label(routing_key) { routing_key.to_owned() } else { format!("key-{}", digest(routing_key)) }
}

fn routing_key(object: &DynamicObject) -> Result<String, String> {
    let key = text(object, "/spec/routingKey").filter(|key| !key.is_empty());
    key.map(str::to_owned).ok_or_else(|| "spec.routingKey: found nothing, expected a text".into())
}

/// A selector of labels that are to be equal, as `app=backend,tier=web`.
fn labels(selector: &str) -> Result<BTreeMap<String, String>, String> {
    let label = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let (key, value) = (key.trim(), value.trim_start_matches('=').trim());
        let fits = !key.is_empty() && !key.contains(['!', ' ', '(']) && !value.contains(['!', ' ', '(', '=']);
        fits.then(|| (key.to_owned(), value.to_owned()))
    };
    let all: Option<BTreeMap<_, _>> = selector.split(',').map(label).collect();
    all.ok_or_else(|| format!("spec.selector: found {selector:?}, expected labels and their values, as app=backend"))
}

/// What neither a Listener's nor a Connector's spec can ask for here.
fn common(object: &DynamicObject) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(kind) = text(object, "/spec/type").filter(|kind| !matches!(*kind, "" | "tcp")) {
        notes.push(format!("spec.type: found {kind:?}, expected tcp: carried as TCP"));
    }
    if text(object, "/spec/tlsCredentials").is_some_and(|name| !name.is_empty()) {
        notes.push(
            "spec.tlsCredentials: not carried over; tunnels are encrypted, and what goes through them is left as it is"
                .into(),
        );
    }
    let settings = object.data.pointer("/spec/settings").and_then(Value::as_object);
    notes.extend(settings.into_iter().flatten().map(|(key, _)| format!("spec.settings.{key}: not carried over")));
    notes
}
