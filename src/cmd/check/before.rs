//! What has to be so before a gateway starts: its configuration, its identity, and what it needs of this machine.

mod identity;
mod machine;
mod network;

use super::line::{Line, Lines};
use crate::cmd::identity::words::shell;
use isthmus_control::{
    Config,
    config::{ConfigErrors, ControlAt},
};
use std::{
    io::ErrorKind,
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

    /// The command that starts what it is for.
    pub(super) fn start(&self) -> String {
        let verb = match self.config().and_then(|config| config.control.as_ref()) {
            None => "run",
            Some(ControlAt::Listen { .. }) => "control",
            Some(_) => "gateway",
        };
        format!("isthmus {verb} --config {}", shell(&self.path))
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
            lines.failed("config.file", wanted, errors.to_string(), fix(&file.path));
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

/// What to do about a file that is wrong, or cannot be read.
fn fix(path: &Path) -> String {
    let found = std::fs::metadata(path).and_then(|metadata| std::fs::File::open(path).map(|_| metadata));
    match found {
        Ok(metadata) if metadata.is_file() => "correct it: docs/configuration.md has every key".to_owned(),
        Ok(_) => "name a file, not what it lies in".to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            "name the file that there is, or write one: docs/configuration.md begins with one; `isthmus demo` shows two clusters without any"
                .to_owned()
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let path = shell(path);
            format!("run this as the user that the gateway runs as (sudo -u USER isthmus check ...), or let this one read {path}")
        }
        Err(_) => "name a file that can be read".to_owned(),
    }
}

#[cfg(test)]
mod tests;
