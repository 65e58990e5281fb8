//! How to reach an API server, as a file.

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path};

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum User {
    /// Files of a certificate and its key.
    Certificate { certificate: String, key: String },
    /// A service account's token.
    Token(String),
}

/// One context, named after its cluster; it is the current one.
pub(super) fn kubeconfig(cluster: &str, server: SocketAddr, ca: &str, user: &User) -> Value {
    let user = match user {
        User::Certificate { certificate, key } => json!({"client-certificate": certificate, "client-key": key}),
        User::Token(token) => json!({"token": token}),
    };
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": cluster,
        "clusters": [{"name": cluster, "cluster": {"server": format!("https://{server}"), "certificate-authority": ca}}],
        "users": [{"name": cluster, "user": user}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
    })
}

/// All contexts in one; the first one's is the current one.
pub(super) fn merged(mut all: Vec<Value>) -> Value {
    let mut first = all.remove(0);
    for other in all {
        for list in ["clusters", "users", "contexts"] {
            if let (Some(into), Some(from)) = (first[list].as_array_mut(), other[list].as_array()) {
                into.extend(from.iter().cloned());
            }
        }
    }
    first
}

/// Writes one: JSON, which is YAML.
pub(super) fn write(path: &Path, kubeconfig: &Value) {
    std::fs::write(path, kubeconfig.to_string()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A client for one.
pub(super) async fn client(kubeconfig: Value) -> kube::Client {
    let failed = |e: &dyn std::fmt::Display| -> ! { panic!("a client of an API server: {e}") };
    let parsed: Kubeconfig = serde_json::from_value(kubeconfig).unwrap_or_else(|e| failed(&e));
    let config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.unwrap_or_else(|e| failed(&e))).unwrap_or_else(|e| failed(&e))
}
