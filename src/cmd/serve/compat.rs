//! `--compat`: the systems whose manifests are taken.

use crate::cmd::Failure;
use isthmus_control::{Config, System};

/// What every command takes that rules a cluster.
#[derive(Debug, Default, clap::Args)]
pub(in crate::cmd) struct Compat {
    /// Take manifests of these systems as they are: cilium, gke, istio, linkerd, skupper, submariner (docs/compat.md)
    #[arg(long, value_name = "SYSTEMS", value_delimiter = ',')]
    compat: Vec<System>,
}

impl Compat {
    /// Adds them to what the configuration asks for. Without an API server there are no manifests.
    pub(super) fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        if self.compat.is_empty() {
            return Ok(());
        }
        let Some(kubernetes) = &mut config.kubernetes else {
            let message =
                format!("--compat: {}: registry: found no Kubernetes, expected kubernetes", config.path.display());
            return Err(Failure::usage(message));
        };
        kubernetes.compat.extend(&self.compat);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use std::path::Path;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        compat: Compat,
    }

    fn added(line: &str, registry: &str) -> Result<Config, Failure> {
        let words = ["isthmus"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| Failure::usage(error.to_string()))?;
        let text = format!("clusterset: demo\ncluster: west\nidentity: id\n{registry}\n");
        let mut config = Config::parse(&text, Path::new("west.yaml")).unwrap();
        line.compat.add_to(&mut config).map(|()| config)
    }

    #[test]
    fn systems_are_added_to_those_of_the_configuration() {
        let config =
            added("--compat cilium,linkerd --compat gke", "registry: {kubernetes: {compat: [istio, gke]}}").unwrap();
        let all = [System::Cilium, System::Gke, System::Istio, System::Linkerd];
        assert!(config.kubernetes.unwrap().compat.into_iter().eq(all));
        assert!(added("", "registry: kubernetes").unwrap().kubernetes.unwrap().compat.is_empty());
    }

    #[test]
    fn an_unknown_system_and_one_without_kubernetes_are_refused() {
        let unknown = added("--compat consul", "registry: kubernetes").unwrap_err();
        assert!(
            unknown.message().contains("expected cilium, gke, istio, linkerd, skupper or submariner"),
            "{unknown:?}"
        );
        let file = added("--compat cilium", "").unwrap_err();
        assert_eq!(file.message(), "--compat: west.yaml: registry: found no Kubernetes, expected kubernetes");
    }
}
