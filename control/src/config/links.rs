//! Links that `isthmus join` has made: a file each, beside the identity, with the keys that a link has in the configuration. The
//! configuration itself is written by people alone.
//!
//! ```text
//! <identity>/links/east.yaml      cluster: east
//!                                 endpoints: ["203.0.113.7:15008"]
//! ```

use super::{
    Config, ConfigErrors, MOST_LINKS,
    error::ConfigError,
    fields::{Fields, Problems},
    node::{Node, SyntaxError},
    parse, read,
};
use crate::registry::DesiredLink;
use isthmus_control_api::{ClusterName, PeerAddress};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The directory of the links that `isthmus join` has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFiles {
    directory: PathBuf,
}

/// One of its files, not yet understood: path and text.
pub(crate) type LinkFile = (PathBuf, String);

impl LinkFiles {
    /// Those of the identity in the directory `identity`.
    pub fn of(identity: &Path) -> Self {
        Self { directory: identity.join("links") }
    }

    /// Where the link with `cluster` is.
    pub fn path(&self, cluster: &ClusterName) -> PathBuf {
        self.directory.join(format!("{cluster}.yaml"))
    }

    /// Whether there is one with `cluster`.
    pub fn has(&self, cluster: &ClusterName) -> bool {
        self.path(cluster).exists()
    }

    /// All of them.
    ///
    /// # Errors
    /// One cannot be read, or is wrong.
    pub fn load(&self) -> Result<BTreeMap<ClusterName, DesiredLink>, ConfigErrors> {
        all(&self.read()?)
    }

    /// Makes or replaces the link with `cluster`, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, cluster: &ClusterName, endpoints: &[PeerAddress]) -> io::Result<()> {
        if !self.directory.is_dir() {
            DirBuilder::new().mode(0o700).create(&self.directory)?;
        }
        let mut text =
            format!("# Made by `isthmus join`; `isthmus unlink {cluster}` removes it.\ncluster: {cluster}\n");
        if !endpoints.is_empty() {
            let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
            // Writing to a string does not fail.
            let _ = writeln!(text, "endpoints: [{}]", endpoints.join(", "));
        }
        let (path, new) = (self.path(cluster), self.directory.join(format!(".{cluster}.new")));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        self.sync()
    }

    /// Removes the link with `cluster`; whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, cluster: &ClusterName) -> io::Result<bool> {
        match fs::remove_file(self.path(cluster)) {
            Ok(()) => self.sync().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The files as they are, in order. Those that begin with a dot are someone's work in progress.
    pub(crate) fn read(&self) -> Result<Vec<LinkFile>, ConfigErrors> {
        let unreadable = |error: io::Error| {
            ConfigErrors::whole(&self.directory, format!("a directory that cannot be read ({error})"), "links")
        };
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(unreadable)?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|extension| extension == "yaml") {
                paths.push(path);
            }
            if paths.len() > MOST_LINKS {
                return Err(too_many(&self.directory));
            }
        }
        paths.sort();
        paths.into_iter().map(|path| read(&path).map(|text| (path, text))).collect()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// The links that `files` are.
pub(crate) fn all(files: &[LinkFile]) -> Result<BTreeMap<ClusterName, DesiredLink>, ConfigErrors> {
    files.iter().map(|(path, text)| parse_one(path, text)).collect()
}

fn parse_one(path: &Path, text: &str) -> Result<(ClusterName, DesiredLink), ConfigErrors> {
    let root = match Node::parse(text) {
        Ok(Some(root)) => root,
        Ok(None) => return Err(ConfigErrors::whole(path, "nothing", "a link")),
        Err(SyntaxError { at, found, expected }) => {
            let error = ConfigError { at: Some(at), field: String::new(), found, expected: expected.into() };
            return Err(ConfigErrors::new(path, vec![error]));
        }
    };
    let problems = Problems::default();
    let link = Fields::open(&root, "links[]", String::new(), &problems).and_then(|fields| parse::link(&fields));
    let errors = problems.into_list();
    let (cluster, link) = match link {
        Some(link) if errors.is_empty() => link,
        _ => return Err(ConfigErrors::new(path, errors)),
    };
    if path.file_stem().is_some_and(|stem| stem == cluster.as_str()) {
        return Ok((cluster, link));
    }
    Err(ConfigErrors::field(
        path,
        "cluster",
        format!("\"{cluster}\""),
        "the cluster that the file is named after".into(),
    ))
}

/// Adds the links that were made to those of the configuration, which must not have the same.
pub(crate) fn merge(
    config: &mut Config,
    files: &LinkFiles,
    made: BTreeMap<ClusterName, DesiredLink>,
) -> Result<(), ConfigErrors> {
    for (cluster, link) in made {
        let path = files.path(&cluster);
        if cluster == config.cluster {
            let expected = "another cluster's id".into();
            return Err(ConfigErrors::field(
                &path,
                "cluster",
                format!("\"{cluster}\", which is this cluster"),
                expected,
            ));
        }
        if config.links.contains_key(&cluster) {
            let found = format!("\"{cluster}\", which `links:` of {} has, too", config.path.display());
            let expected = format!("one link a cluster: remove it there, or run `isthmus unlink {cluster}`");
            return Err(ConfigErrors::field(&path, "cluster", found, expected));
        }
        config.links.insert(cluster, link);
    }
    if config.links.len() > MOST_LINKS { Err(too_many(&files.directory)) } else { Ok(()) }
}

fn too_many(directory: &Path) -> ConfigErrors {
    ConfigErrors::whole(directory, format!("more than {MOST_LINKS} links"), "fewer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "clusterset: demo\ncluster: west\nidentity: id\nlinks: [{cluster: south}]\n";
        Config::parse(text, Path::new("west.yaml")).unwrap()
    }

    fn files() -> (tempfile::TempDir, LinkFiles) {
        let directory = tempfile::tempdir().unwrap();
        let files = LinkFiles::of(directory.path());
        (directory, files)
    }

    fn name(cluster: &str) -> ClusterName {
        cluster.parse().unwrap()
    }

    fn merged(files: &LinkFiles) -> Result<Config, String> {
        let mut config = config();
        let made = files.load().map_err(|e| e.to_string())?;
        merge(&mut config, files, made).map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn what_is_written_is_a_link() {
        let (_directory, files) = files();
        assert!(files.load().unwrap().is_empty());
        let endpoints = ["203.0.113.7:15008".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()];
        files.write(&name("east"), &endpoints).unwrap();
        files.write(&name("north"), &[]).unwrap();
        assert!(files.has(&name("east")));
        let config = merged(&files).unwrap();
        assert_eq!(config.links[&name("east")].link.endpoints, endpoints);
        assert!(config.links[&name("north")].link.endpoints.is_empty());
        assert_eq!(config.links.len(), 3);

        files.write(&name("east"), &[]).unwrap();
        assert!(files.load().unwrap()[&name("east")].link.endpoints.is_empty());
        assert!(files.remove(&name("east")).unwrap());
        assert!(!files.remove(&name("east")).unwrap());
        assert_eq!(merged(&files).unwrap().links.len(), 2);
    }

    #[test]
    fn a_link_that_the_configuration_has_is_refused() {
        let (_directory, files) = files();
        files.write(&name("south"), &[]).unwrap();
        let refused = merged(&files).unwrap_err();
        assert!(refused.contains("south.yaml: cluster: found \"south\", which `links:` of west.yaml has"), "{refused}");
        assert!(refused.contains("run `isthmus unlink south`"), "{refused}");
    }

    #[test]
    fn wrong_files_are_named() {
        for (text, why) in [
            ("", "found nothing, expected a link"),
            (": [", "east.yaml:2"),
            ("cluster: north\n", "cluster: found \"north\", expected the cluster that the file is named after"),
            ("cluster: east\nendpoint: []\n", "found an unknown key, expected \"endpoints\""),
            ("cluster: east\nendpoints: [\"h\"]\n", "expected host:port"),
        ] {
            let (directory, files) = files();
            fs::create_dir(directory.path().join("links")).unwrap();
            fs::write(files.path(&name("east")), text).unwrap();
            let refused = merged(&files).unwrap_err();
            assert!(refused.contains(why), "{text:?}: {refused}");
        }
        let (_directory, files) = files();
        files.write(&name("west"), &[]).unwrap();
        assert!(merged(&files).unwrap_err().contains("which is this cluster"));
    }
}
