//! ● From a file of the identity that cannot be used to the command that mends it.

use crate::cmd::identity::words::shell;
use isthmus_certs::{Directory, DirectoryError};
use isthmus_control::{Config, config::ControlAt};
use std::{
    io::ErrorKind::{NotADirectory, NotFound, PermissionDenied},
    path::Path,
};

/// What to do about `error`, which reading `directory` has ended with.
pub(super) fn of(error: &DirectoryError, config: &Config, directory: &Directory) -> String {
    let at = shell(directory.path());
    let (path, kind) = match error {
        DirectoryError::Io { path, source, .. } => (path, Some(source.kind())),
        DirectoryError::Content { path, .. } | DirectoryError::Issue { path, .. } | DirectoryError::Exists(path) => {
            (path, None)
        }
    };
    match kind {
        Some(PermissionDenied) => format!(
            "run this as the user that the gateway runs as (sudo -u USER isthmus check ...), or give him what is his: \
             sudo chown -R USER {at}"
        ),
        Some(NotADirectory) => {
            format!("name a directory in `identity` of {}: {} writes one", shell(&config.path), init(config, "DIR"))
        }
        Some(NotFound) if !directory.ca_path().exists() => {
            format!(
                "{}, if this cluster has no CA yet; else restore the directory: with another CA its peers refuse it",
                init(config, &at)
            )
        }
        _ => match peer(path, directory) {
            Some(peer) => format!("{}; or take {} away, if it is not linked any more", take(config, peer), shell(path)),
            None if directory.has_authority() => format!(
                "isthmus identity renew {at}, if the SVID is broken; if that fails, restore ca.pem and ca.key: with another CA its \
                 peers refuse this cluster"
            ),
            None => {
                let role = if matches!(config.control, Some(ControlAt::Listen { .. })) { "control" } else { "gateway" };
                format!(
                    "where ca.key is: isthmus identity issue --identity DIR --service-account isthmus-system/{role} --out OUT; then \
                     bring the files of OUT to {at}"
                )
            }
        },
    }
}

/// What takes the CA of `peer` anew.
pub(super) fn take(config: &Config, peer: &str) -> String {
    let directory = shell(&config.identity);
    format!(
        "isthmus identity trust --identity {directory} --cluster {peer} --bundle CA.PEM, with the ca.pem of {peer}'s identity directory"
    )
}

fn init(Config { clusterset, cluster, .. }: &Config, out: &str) -> String {
    format!("isthmus identity init --clusterset {clusterset} --cluster {cluster} --out {out}")
}

/// Whose bundle it is, if it is one.
fn peer<'p>(path: &'p Path, directory: &Directory) -> Option<&'p str> {
    if path.parent() == Some(directory.bundles_path()) { path.file_stem()?.to_str() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io, time::SystemTime};

    fn directory() -> (tempfile::TempDir, Directory, Config) {
        let dir = tempfile::tempdir().unwrap();
        let lifetime = std::time::Duration::from_hours(24);
        let (directory, _) =
            Directory::init(dir.path().join("id"), "west.demo".parse().unwrap(), lifetime, SystemTime::now()).unwrap();
        let text = "clusterset: demo\ncluster: west\nidentity: id\n";
        let config = Config::parse(text, &dir.path().join("west.yaml")).unwrap();
        (dir, directory, config)
    }

    fn fixed(directory: &Directory, config: &Config) -> String {
        of(&directory.load().unwrap_err(), config, directory)
    }

    #[test]
    fn a_broken_bundle_is_taken_anew_or_taken_away() {
        let (_dir, directory, config) = directory();
        fs::write(directory.bundle_path(&"east".parse().unwrap()), "no certificate").unwrap();
        let fix = fixed(&directory, &config);
        assert!(fix.contains("isthmus identity trust ") && fix.contains("--cluster east "), "{fix}");
        assert!(fix.contains("bundles/east.pem away"), "{fix}");
    }

    #[test]
    fn a_new_ca_is_only_made_where_there_is_none() {
        let (_dir, directory, config) = directory();
        fs::remove_file(directory.path().join("ca.key")).unwrap();
        fs::remove_file(directory.path().join("svid.pem")).unwrap();
        let elsewhere = fixed(&directory, &config);
        assert!(
            elsewhere.contains("isthmus identity issue ") && elsewhere.contains("isthmus-system/gateway"),
            "{elsewhere}"
        );
        fs::remove_file(directory.ca_path()).unwrap();
        let none = fixed(&directory, &config);
        assert!(none.starts_with("isthmus identity init --clusterset demo --cluster west --out "), "{none}");
    }

    #[test]
    fn who_may_not_read_it_is_told_to_be_somebody_else() {
        let (_dir, directory, config) = directory();
        let refused = |kind: io::ErrorKind| DirectoryError::Io {
            verb: "read",
            path: directory.path().join("svid.key"),
            source: kind.into(),
        };
        let fix = of(&refused(PermissionDenied), &config, &directory);
        assert!(fix.contains("sudo -u USER isthmus check") && !fix.contains("init"), "{fix}");
        let fix = of(&refused(NotADirectory), &config, &directory);
        assert!(fix.contains("name a directory") && fix.contains("--out DIR"), "{fix}");
    }
}
