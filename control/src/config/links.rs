//! Links that `isthmus join` has made: a file each, beside the identity, with the keys that a link has in the configuration. The
//! configuration itself is written by people alone. A file that is wrong is a link less, and reported; the others count.
//!
//! ```text
//! <identity>/links/east.yaml      cluster: "east"
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
use isthmus_control_api::{ClusterName, Limits, PeerAddress, TransportChoice};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The directory of the links that `isthmus join` has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFiles {
    directory: PathBuf,
}

/// One of its files, not yet understood: path, and text if it can be read. The directory itself if that cannot be.
pub(crate) type LinkFile = (PathBuf, Result<String, ConfigErrors>);

/// Links that were made.
pub(crate) type Made = BTreeMap<ClusterName, DesiredLink>;

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

    /// The clusters that have one, by the files' names, whatever is in them.
    ///
    /// # Errors
    /// The directory is there and cannot be read.
    pub fn clusters(&self) -> io::Result<BTreeSet<ClusterName>> {
        Ok(self.paths()?.iter().filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).collect())
    }

    /// Makes or replaces the link with `cluster`, whole or not at all. One that was there keeps what else somebody has written into it.
    ///
    /// # Errors
    /// It cannot be written, or would not be read as what it is; or one is there that cannot be read.
    pub fn write(&self, cluster: &ClusterName, endpoints: &[PeerAddress]) -> io::Result<()> {
        if !self.directory.is_dir() {
            DirBuilder::new().mode(0o700).create(&self.directory)?;
        }
        let mut text =
            format!("# Made by `isthmus join`; `isthmus unlink {cluster}` removes it.\ncluster: \"{cluster}\"\n");
        if !endpoints.is_empty() {
            let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
            // Writing to a string does not fail.
            let _ = writeln!(text, "endpoints: [{}]", endpoints.join(", "));
        }
        let path = self.path(cluster);
        let is_wrong = |errors: ConfigErrors| io::Error::new(io::ErrorKind::InvalidData, errors.to_string());
        let mut wanted = match fs::read_to_string(&path) {
            // It is replaced, and what it leads to is not a link's.
            _ if path.is_symlink() => DesiredLink::default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => DesiredLink::default(),
            // Whoever does not see a bound that is meant must not take it away.
            before => parse_one(&path, &before?).map_err(is_wrong)?.1,
        };
        wanted.link.endpoints = endpoints.to_vec();
        text += &kept(&wanted);
        let (read, link) = parse_one(&path, &text).map_err(is_wrong)?;
        if read != *cluster || link != wanted {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what is to be written is another link when read"));
        }
        let mode = Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new().prefix(".isthmus-").permissions(mode).tempfile_in(&self.directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
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

    /// The files as they are, in order.
    pub(crate) fn read(&self) -> Vec<LinkFile> {
        match self.paths() {
            Ok(paths) => paths.into_iter().map(|path| (path.clone(), read(&path))).collect(),
            Err(error) => {
                let found = format!("a directory that cannot be read ({error})");
                vec![(self.directory.clone(), Err(ConfigErrors::whole(&self.directory, found, "links")))]
            }
        }
    }

    /// The files, in order. Those that begin with a dot are someone's work in progress.
    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension().is_some_and(|extension| extension == "yaml") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// The keys of a link that nobody but its writer knows, as lines.
fn kept(DesiredLink { link, services, .. }: &DesiredLink) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let transport = match link.transport {
        TransportChoice::Auto => None,
        TransportChoice::Tls => Some("tls"),
        TransportChoice::Quic => Some("quic"),
        TransportChoice::H2 => Some("h2"),
    };
    if let Some(transport) = transport {
        let _ = writeln!(text, "transport: {transport}");
    }
    if let Some(relay) = &link.relay {
        let _ = writeln!(text, "relay: \"{relay}\"");
    }
    if !link.limits.is_none() {
        let _ = writeln!(text, "limits: {{{}}}", limits_text(&link.limits));
    }
    if !services.is_empty() {
        let services: Vec<_> = services.iter().map(|service| format!("\"{service}\"")).collect();
        let _ = writeln!(text, "services: [{}]", services.join(", "));
    }
    text
}

/// The keys of `limits` and their values.
fn limits_text(limits: &Limits) -> String {
    let Limits { streams, pending, opens_per_second, bytes_per_second } = limits;
    let counts = [("streams", streams), ("pending", pending), ("opensPerSecond", opens_per_second)];
    let counts = counts.into_iter().filter_map(|(key, count)| count.map(|count| format!("{key}: {count}")));
    // Sizes are whole KiB, however they are written.
    let bytes = bytes_per_second.map(|bytes| format!("bytesPerSecond: {}KiB", bytes >> 10));
    counts.chain(bytes).collect::<Vec<_>>().join(", ")
}

/// The links that `files` are, and what is wrong with those that are none.
pub(crate) fn all(files: &[LinkFile]) -> (Made, Vec<ConfigErrors>) {
    let (mut made, mut wrong) = (Made::new(), Vec::new());
    for (path, text) in files {
        match text.as_ref().map_err(Clone::clone).and_then(|text| parse_one(path, text)) {
            Ok((cluster, link)) => drop(made.insert(cluster, link)),
            Err(errors) => wrong.push(errors),
        }
    }
    (made, wrong)
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

/// Adds the links that were made to those of the configuration; says which cannot be. What the configuration has, it has alone.
pub(crate) fn merge(config: &mut Config, files: &LinkFiles, made: Made) -> Vec<ConfigErrors> {
    let mut wrong = Vec::new();
    for (cluster, link) in made {
        match objection(config, &cluster) {
            None => drop(config.links.insert(cluster, link)),
            Some((found, expected)) => {
                wrong.push(ConfigErrors::field(&files.path(&cluster), "cluster", found, expected));
            }
        }
    }
    wrong
}

/// Why a link with `cluster` cannot be added: what was found and expected.
fn objection(config: &Config, cluster: &ClusterName) -> Option<(String, String)> {
    if *cluster == config.cluster {
        return Some((format!("\"{cluster}\", which is this cluster"), "another cluster's id".into()));
    }
    if config.links.contains_key(cluster) {
        let found = format!("\"{cluster}\", which `links:` of {} has, too, and which counts", config.path.display());
        return Some((found, format!("one link a cluster: remove it there, or run `isthmus unlink {cluster}`")));
    }
    let full = config.links.len() >= MOST_LINKS;
    full.then(|| (format!("\"{cluster}\", one link more than {MOST_LINKS}"), "fewer".into()))
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

    /// The configuration with the links, and what is wrong with those that are not in it.
    fn merged(files: &LinkFiles) -> (Config, String) {
        let mut config = config();
        let (made, mut wrong) = all(&files.read());
        wrong.extend(merge(&mut config, files, made));
        (config, wrong.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_written_is_a_link() {
        let (_directory, files) = files();
        assert!(files.read().is_empty() && files.clusters().unwrap().is_empty());
        let endpoints = ["203.0.113.7:15008".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()];
        files.write(&name("east"), &endpoints).unwrap();
        files.write(&name("north"), &[]).unwrap();
        assert!(files.has(&name("east")));
        assert_eq!(files.clusters().unwrap(), [name("east"), name("north")].into());
        let (config, wrong) = merged(&files);
        assert_eq!(wrong, "");
        assert_eq!(config.links[&name("east")].link.endpoints, endpoints);
        assert!(config.links[&name("north")].link.endpoints.is_empty());
        assert_eq!(config.links.len(), 3);

        files.write(&name("east"), &[]).unwrap();
        assert!(merged(&files).0.links[&name("east")].link.endpoints.is_empty());
        assert!(files.remove(&name("east")).unwrap());
        assert!(!files.remove(&name("east")).unwrap());
        assert_eq!(merged(&files).0.links.len(), 2);
    }

    #[test]
    fn joining_again_leaves_what_else_was_written() {
        let (_directory, files) = files();
        files.write(&name("east"), &[]).unwrap();
        let mut text = fs::read_to_string(files.path(&name("east"))).unwrap();
        text += "limits: {streams: 5, pending: 4, opensPerSecond: 3, bytesPerSecond: 1GiB}\n";
        text += "transport: tls\nrelay: hub\nservices: [\"shop/api:80\", \"shop/db:5432\"]\n";
        fs::write(files.path(&name("east")), &text).unwrap();
        let mut before = merged(&files).0.links[&name("east")].clone();
        assert_eq!(before.link.limits.bytes_per_second, Some(1 << 30));
        assert_eq!((before.link.transport, before.services.len()), (TransportChoice::Tls, 2));
        before.link.endpoints = vec!["h:1".parse().unwrap()];
        files.write(&name("east"), &before.link.endpoints).unwrap();
        let (config, wrong) = merged(&files);
        assert_eq!(wrong, "");
        assert_eq!(config.links[&name("east")], before);
    }

    /// A slip in it is no reason to take its bounds away.
    #[test]
    fn joining_again_says_what_is_wrong_with_what_is_there() {
        let (_directory, files) = files();
        files.write(&name("east"), &[]).unwrap();
        let text = "cluster: east\nlimits: {streams: none}\n";
        fs::write(files.path(&name("east")), text).unwrap();
        let error = files.write(&name("east"), &["h:1".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("limits.streams: found \"none\""), "{error}");
        assert_eq!(fs::read_to_string(files.path(&name("east"))).unwrap(), text);
    }

    /// What YAML takes for something else than a text, and is a good name.
    #[test]
    fn a_cluster_may_be_called_what_yaml_has_words_for() {
        let (_directory, files) = files();
        for cluster in ["null", "true", "no", "1e3", "0x1f", "12", "2026-01-01", "y"] {
            files.write(&name(cluster), &["h:1".parse().unwrap()]).unwrap();
            let (config, wrong) = merged(&files);
            assert!(wrong.is_empty() && config.links.contains_key(&name(cluster)), "{cluster}: {wrong}");
        }
    }

    /// Somebody who may write the directory has put symbolic links where others write.
    #[test]
    fn nothing_is_written_through_a_symbolic_link() {
        let (directory, files) = files();
        fs::create_dir(directory.path().join("links")).unwrap();
        let precious = directory.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        for trap in [".east.new", "east.yaml"] {
            std::os::unix::fs::symlink(&precious, directory.path().join("links").join(trap)).unwrap();
        }
        files.write(&name("east"), &[]).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(merged(&files).0.links.contains_key(&name("east")));
    }

    #[test]
    fn what_is_too_much_is_left_out_and_named() {
        let (_directory, files) = files();
        for n in 0..MOST_LINKS {
            files.write(&name(&format!("c{n:03}")), &[]).unwrap();
        }
        let (config, wrong) = merged(&files);
        assert_eq!(config.links.len(), MOST_LINKS);
        assert!(wrong.contains("c255.yaml: cluster: found \"c255\", one link more than 256"), "{wrong}");
    }

    #[test]
    fn a_link_that_the_configuration_has_is_refused() {
        let (_directory, files) = files();
        files.write(&name("south"), &[]).unwrap();
        let (config, refused) = merged(&files);
        assert_eq!(config.links.len(), 1);
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
            files.write(&name("north"), &[]).unwrap();
            fs::write(directory.path().join("links/east.yaml"), text).unwrap();
            let (config, refused) = merged(&files);
            assert!(refused.contains(why), "{text:?}: {refused}");
            assert!(config.links.contains_key(&name("north")) && config.links.len() == 2, "{text:?}");
        }
        let ((_directory, own), (directory, unreadable)) = (files(), files());
        own.write(&name("west"), &[]).unwrap();
        assert!(merged(&own).1.contains("which is this cluster"));
        fs::write(directory.path().join("links"), "").unwrap();
        assert!(merged(&unreadable).1.contains("a directory that cannot be read"));
    }
}
