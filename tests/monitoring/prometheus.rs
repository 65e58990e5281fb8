//! A real Prometheus in a namespace, with our rules in a hurry.

use isthmus_tests::{Netns, Process, eventually};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Where it listens, inside its namespace.
const ADDRESS: &str = "127.0.0.1:9090";

/// What is in deploy/monitoring.
pub(crate) fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rules with all times of minutes cut to seconds: each rewritten text must be there.
fn hasty(rules: &str) -> String {
    let times = [("[5m]", "[4s]"), ("[10m]", "[8s]")];
    let mut text = times.into_iter().fold(rules.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no rule has {from}");
        text.replace(from, to)
    });
    for minutes in ["1m", "2m", "5m", "10m", "15m"] {
        text = text.replace(&format!("for: {minutes}\n"), "for: 1s\n");
    }
    let slow = text.lines().find(|line| line.contains("for: ") && !line.ends_with("for: 1s"));
    assert_eq!(slow, None);
    text
}

/// Prometheus, which scrapes twice a second.
pub(crate) struct Prometheus<'a> {
    netns: &'a Netns,
    _process: Process,
}

impl<'a> Prometheus<'a> {
    /// Starts it inside `netns`, with these gateways to scrape, by cluster.
    pub(crate) fn start(netns: &'a Netns, dir: &Path, gateways: &[(&str, SocketAddr)]) -> Self {
        let dir = dir.join("prometheus");
        fs::create_dir_all(&dir).unwrap();
        let targets = gateways.iter().map(|(cluster, address)| {
            format!("      - {{targets: [\"{address}\"], labels: {{cluster: {cluster}}}}}\n")
        });
        let targets: String = targets.collect();
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\nrule_files: [rules.yaml]\n\
             scrape_configs:\n  - job_name: isthmus\n    static_configs:\n{targets}"
        );
        fs::write(dir.join("rules.yaml"), hasty(&file("rules.yaml"))).unwrap();
        let (path, data) = (dir.join("prometheus.yaml"), dir.join("data"));
        fs::write(&path, config).unwrap();
        let argument = |name: &str, path: &PathBuf| format!("--{name}={}", path.display());
        let args = [
            argument("config.file", &path),
            argument("storage.tsdb.path", &data),
            format!("--web.listen-address={ADDRESS}"),
        ];
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let process = Process::start(netns, "prometheus", &dir.join("log"), Path::new("prometheus"), &args);
        let prometheus = Self { netns, _process: process };
        eventually("Prometheus has scraped all gateways", || {
            let up = prometheus.query("up == 1");
            if up.len() == gateways.len() { Ok(()) } else { Err(format!("{up:?}")) }
        });
        prometheus
    }

    /// What a query returns now; nothing while Prometheus does not answer.
    pub(crate) fn query(&self, query: &str) -> Vec<Value> {
        let answer = self.get("query", &[&format!("query={query}")]);
        assert_ne!(answer["status"], "error", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// The names of the alerts that are firing.
    pub(crate) fn firing(&self) -> BTreeSet<String> {
        let alerts = self.get("alerts", &[])["data"]["alerts"].clone();
        let firing = alerts.as_array().into_iter().flatten().filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect()
    }

    /// All rules, with how they fare.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let groups = self.get("rules", &[])["data"]["groups"].clone();
        groups
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
            .collect()
    }

    /// Waits until each of these alerts has been firing: what is over soon need not last until the others come.
    pub(crate) fn wait_alerts(&self, names: &[&str]) {
        let mut fired = BTreeSet::new();
        eventually(&format!("{names:?} are firing"), || {
            fired.extend(self.firing());
            if names.iter().all(|name| fired.contains(*name)) { Ok(()) } else { Err(format!("{fired:?}")) }
        });
    }

    /// Waits until an alert is not firing.
    pub(crate) fn wait_quiet(&self, name: &str) {
        eventually(&format!("{name} is quiet"), || {
            let firing = self.firing();
            if firing.contains(name) { Err(format!("{firing:?}")) } else { Ok(()) }
        });
    }

    fn get(&self, what: &str, data: &[&str]) -> Value {
        let url = format!("http://{ADDRESS}/api/v1/{what}");
        // Not there yet is an answer of nothing, which whoever asks waits to change.
        let script = "curl -s --get \"$0\" \"$@\" || true";
        let mut args = vec!["-c", script, &url];
        data.iter().for_each(|data| args.extend(["--data-urlencode", data]));
        serde_json::from_str(&self.netns.exec("sh", &args)).unwrap_or_default()
    }
}
