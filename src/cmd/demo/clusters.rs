//! The two clusters: identities, configurations, gateways. All of it by the commands that users have.

use super::{
    error::{Doing, Error},
    layout::{Gateway, Layout},
    place::Place,
    process::Crew,
    stage::Stage,
};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a subcommand may take.
const LIMIT: Duration = Duration::from_secs(20);
/// The service's name in both clusters.
pub(super) const SERVICE: &str = "shop/api";
/// What the gateways' names in the crew begin with.
pub(super) const GATEWAYS: &str = "gateway of ";

/// The directory of each cluster and the binary that runs them: this one.
#[derive(Debug)]
pub(super) struct Clusters {
    isthmus: PathBuf,
    west: PathBuf,
    east: PathBuf,
}

impl Clusters {
    /// Makes a directory for each.
    pub(super) fn prepare(scratch: &Path) -> Result<Self, Error> {
        let isthmus = std::env::current_exe().doing("find the path of this program")?;
        let (west, east) = (scratch.join("west"), scratch.join("east"));
        for directory in [&west, &east] {
            fs::create_dir(directory).doing(format!("make {}", directory.display()))?;
        }
        Ok(Self { isthmus, west, east })
    }

    /// Gives each cluster its own CA and a certificate, and each the other's CA.
    pub(super) async fn identify(&self, crew: &mut Crew) -> Result<(), Error> {
        for (cluster, directory) in [("west", &self.west), ("east", &self.east)] {
            let out = directory.join("identity");
            self.call(crew, "init", &["--clusterset", "demo", "--cluster", cluster, "--out"], &[&out]).await?;
        }
        for (peer, own, other) in [("east", &self.west, &self.east), ("west", &self.east, &self.west)] {
            let (identity, bundle) = (own.join("identity"), other.join("identity/ca.pem"));
            let identity = identity.display().to_string();
            self.call(crew, "trust", &["--identity", &identity, "--cluster", peer, "--bundle"], &[&bundle]).await?;
        }
        Ok(())
    }

    /// Writes both configurations and starts both gateways.
    pub(super) fn start(&self, crew: &mut Crew, stage: &Stage) -> Result<(), Error> {
        self.run(crew, "east", &stage.east, &self.east, &east(&stage.layout))?;
        self.run(crew, "west", &stage.west, &self.west, &west(&stage.layout))
    }

    async fn call(&self, crew: &mut Crew, verb: &str, args: &[&str], paths: &[&Path]) -> Result<(), Error> {
        let mut command = Place::here().command(&self.isthmus);
        command.args(["identity", verb]).args(args).args(paths);
        crew.run(command, LIMIT).await?.ok().map(drop)
    }

    fn run(&self, crew: &mut Crew, name: &str, place: &Place, directory: &Path, text: &str) -> Result<(), Error> {
        let config = directory.join("isthmus.yaml");
        fs::write(&config, text).doing(format!("write {}", config.display()))?;
        let mut command = place.command(&self.isthmus);
        command.arg("run").arg("--config").arg(&config).current_dir(directory);
        crew.start(&format!("{GATEWAYS}{name}"), command, &directory.join("log"))
    }
}

/// East exports the service and waits to be dialled.
fn east(layout: &Layout) -> String {
    let mut text = common("east", &layout.east);
    let [a, b] = layout.endpoints;
    let _ = write!(
        text,
        "links:\n  - cluster: west\nexports:\n  - service: {SERVICE}\n    ports: [{{name: http, port: 80, protocol: TCP}}]\n    \
         endpoints: [\"{a}\", \"{b}\"]\n"
    );
    text
}

/// West dials and imports.
fn west(layout: &Layout) -> String {
    let mut text = common("west", &layout.west);
    let _ = write!(
        text,
        "links:\n  - cluster: east\n    endpoints: [\"{}\"]\n    transport: tls\nimports:\n  - service: {SERVICE}\n    port: 80\n    \
         listen: \"{}\"\n",
        layout.dialled, layout.service
    );
    text
}

fn common(cluster: &str, gateway: &Gateway) -> String {
    let Gateway { tunnel, admin } = gateway;
    format!(
        "clusterset: demo\ncluster: {cluster}\nidentity: identity/\ntunnel: {{listen: \"{tunnel}\"}}\nadmin: \"{admin}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_west_dials() {
        let layout = Layout::of_namespaces();
        assert!(west(&layout).contains("endpoints: [\"203.0.113.2:15008\"]\n    transport: tls\n"));
        assert!(east(&layout).contains("links:\n  - cluster: west\nexports:\n"));
        assert!(east(&layout).contains("endpoints: [\"10.0.0.2:8080\", \"10.0.0.3:8080\"]"));
    }
}
