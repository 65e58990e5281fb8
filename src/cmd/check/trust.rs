//! ● What makes a gateway trust a linked cluster.

use super::fix::Place;
use crate::cmd::identity::words::shell;
use isthmus_gateway::status::Status;
use std::path::Path;

/// The commands that bring the bundle of `place.peer` to the gateway that says this of itself.
pub(super) fn fix(status: &Status, place: Place<'_>) -> String {
    let (identity, peer) = (&status.identity, place.peer);
    let directory = identity.directory.as_deref().map(Path::new);
    let bundles = identity.bundles.as_deref().map(Path::new);
    if is_mounted(directory, bundles) || status.control["registry"]["synced"].is_boolean() {
        return format!(
            "`isthmus join TOKEN --context NAME`, with what `isthmus invite` prints at {peer}, makes the link and the Secret with its CA; \
             if both are there, `kubectl get clusterlinks {peer} -o yaml` says under TrustValid what is wrong with them"
        );
    }
    let config = status.control["config"].as_str().map_or_else(|| "FILE".to_owned(), |path| shell(Path::new(path)));
    by_hand(directory, peer, &config)
}

/// The same where it lies in files: `directory` is the identity's, `config` the configuration's file as a shell takes it.
pub(super) fn by_hand(directory: Option<&Path>, peer: &str, config: &str) -> String {
    let directory = directory.map_or_else(|| "DIR".to_owned(), shell);
    format!(
        "isthmus identity trust --identity {directory} --cluster {peer} --bundle CA.PEM, with the ca.pem of {peer}'s identity directory; \
         or `isthmus invite` at {peer}, and with what it prints `isthmus join TOKEN --config {config}` here"
    )
}

/// Whether the bundles are a volume of their own, as in a pod: two volumes cannot be mounted into each other.
fn is_mounted(directory: Option<&Path>, bundles: Option<&Path>) -> bool {
    directory.zip(bundles).is_some_and(|(directory, bundles)| !bundles.starts_with(directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::check::samples;
    use serde_json::json;

    const PLACE: Place<'_> = Place { own: "west", peer: "east" };

    #[test]
    fn files_are_mended_by_commands_that_name_them() {
        let fix = fix(&samples::status(|_| ()), PLACE);
        assert!(fix.starts_with("isthmus identity trust --identity /etc/isthmus/west --cluster east "), "{fix}");
        assert!(fix.contains("isthmus join TOKEN --config west.yaml"), "{fix}");
    }

    #[test]
    fn in_kubernetes_they_are_objects() {
        let gateway = samples::status(|json| json["identity"]["bundles"] = json!("/etc/isthmus/trust"));
        let control = samples::status(|json| json["control"]["registry"]["synced"] = json!(false));
        for status in [gateway, control] {
            let fix = fix(&status, PLACE);
            assert!(fix.contains("--context NAME") && fix.contains("kubectl get clusterlinks east"), "{fix}");
        }
    }
}
