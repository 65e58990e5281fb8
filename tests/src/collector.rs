//! The OTLP receiver of the OpenTelemetry Collector in a namespace, and what gateways have told it.

use crate::{Process, identity::text, kube::program, netns::Netns, wait::eventually};
use rustix::process::Signal;
use serde_json::{Map, Value};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A collector that writes each request to a file. It can be killed and started again, and goes on in the same file.
#[derive(Debug)]
pub struct Collector {
    netns: Arc<Netns>,
    address: SocketAddr,
    dir: PathBuf,
    papers: Option<[PathBuf; 2]>,
    process: Process,
}

/// A span, and whose it is.
#[derive(Debug, Clone)]
pub struct Span {
    /// Attributes of the process that has sent it.
    pub resource: Map<String, Value>,
    /// Its own attributes.
    pub attributes: Map<String, Value>,
    /// All of it, as OTLP's JSON has it.
    pub whole: Value,
}

impl Collector {
    /// Starts one in `netns`, with its files in `dir`, and waits until it takes connections.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start(netns: &Arc<Netns>, dir: &Path, address: SocketAddr) -> Self {
        Self::start_with(netns, dir, address, None)
    }

    /// The same over TLS, with the files of a certificate and its key.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start_over_tls(netns: &Arc<Netns>, dir: &Path, address: SocketAddr, papers: [PathBuf; 2]) -> Self {
        Self::start_with(netns, dir, address, Some(papers))
    }

    fn start_with(netns: &Arc<Netns>, dir: &Path, address: SocketAddr, papers: Option<[PathBuf; 2]>) -> Self {
        let process = run(netns, dir, address, papers.as_ref());
        Self { netns: netns.clone(), address, dir: dir.to_owned(), papers, process }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after that.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn restart(&mut self) {
        self.process = run(&self.netns, &self.dir, self.address, self.papers.as_ref());
    }

    /// SIGSTOP: it does nothing any more, and the kernel answers for it.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// The spans that it has so far.
    ///
    /// # Panics
    /// If a line is no JSON.
    pub fn spans(&self) -> Vec<Span> {
        let lines = std::fs::read_to_string(file(&self.dir)).unwrap_or_default();
        let whole_lines = lines.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole_lines
            .flat_map(|line| spans_of(&serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))))
            .collect()
    }

    /// Waits for a span.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_span(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
        eventually(&format!("the collector has a span {what}"), || {
            let spans = self.spans();
            spans.iter().find(|span| is_it(span)).cloned().ok_or_else(|| format!("{spans:#?}\n{}", self.process.log()))
        })
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("spans.jsonl")
}

fn run(netns: &Netns, dir: &Path, address: SocketAddr, papers: Option<&[PathBuf; 2]>) -> Process {
    let (listen, file) = (address.to_string(), file(dir));
    let mut args = vec![listen.as_str(), text(&file)];
    args.extend(papers.into_iter().flatten().map(|path| text(path)));
    let process = Process::start(netns, "collector", &dir.join("collector.log"), &program("collector"), &args);
    eventually("the collector listens", || {
        netns.connect(address).map(drop).map_err(|e| format!("{e}\n{}", process.log()))
    });
    process
}

fn spans_of(request: &Value) -> Vec<Span> {
    let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for of_process in list(request, "resourceSpans") {
        let resource = attributes(&of_process["resource"]);
        for of_scope in list(&of_process, "scopeSpans") {
            spans.extend(list(&of_scope, "spans").into_iter().map(|whole| {
                let attributes = attributes(&whole);
                Span { resource: resource.clone(), attributes, whole }
            }));
        }
    }
    spans
}

/// Keys and plain values; whole numbers are texts in OTLP's JSON.
fn attributes(of: &Value) -> Map<String, Value> {
    let all = of["attributes"].as_array().into_iter().flatten();
    let plain = all.filter_map(|attribute| {
        let value = attribute["value"].as_object()?.values().next()?;
        Some((attribute["key"].as_str()?.to_owned(), value.clone()))
    });
    plain.collect()
}
