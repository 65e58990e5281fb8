//! What has to be so before a gateway starts: its configuration, its identity, and what it needs of this machine.

mod identity;
mod machine;
mod network;

use super::line::{Line, Lines};
use isthmus_control::{Config, config::ConfigErrors};
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A configuration file, as far as it can be read.
pub(super) struct File {
    path: PathBuf,
    read: Result<Config, ConfigErrors>,
}

impl File {
    /// Reads it.
    pub(super) fn read(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Config::load(path).map(Config::with_links) }
    }

    /// What it says.
    pub(super) fn config(&self) -> Option<&Config> {
        self.read.as_ref().ok()
    }
}

/// Lines about all of it. `running`: the gateway is there already, and holds its ports.
pub(super) async fn lines(file: &File, running: bool, now: SystemTime) -> Vec<Line> {
    let mut lines = Lines::about(format!("configuration {}", file.path.display()));
    let wanted = "it is valid";
    let config = match &file.read {
        Ok(config) => config,
        Err(errors) => {
            lines.failed("config.file", wanted, errors.to_string(), "correct it: docs/configuration.md has every key");
            return lines.into_vec();
        }
    };
    lines.ok("config.file", wanted, Some(format!("cluster {} of {}", config.cluster, config.clusterset)));
    let mut lines = lines.into_vec();
    lines.extend(identity::lines(config, now));
    lines.extend(machine::lines(config, running));
    lines.extend(network::lines(config, running).await);
    lines
}

#[cfg(test)]
mod tests;
