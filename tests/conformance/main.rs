//! The MCS API's conformance suite, run against two clusters of the tests.
//!
//! usage: `mcs-conformance [FILE]`; FILE is where the table is written, beside standard output

use isthmus_tests::{
    KubeCluster, Topology,
    kube::{self, Options, conformance},
    topology::GATEWAY,
};
use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref().map(Path::new)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "mcs-conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the clusters conform.
fn run(file: Option<&Path>) -> Result<bool, String> {
    let topology = Topology::west_and_east();
    let names = ["west", "east"];
    let options = names.map(|name| Options::new(name).inside(topology.cluster(name).edge(), GATEWAY));
    let [west, east] = KubeCluster::start_all(&options);
    let kubeconfig = topology.dir().join("kubeconfig");
    kube::write_kubeconfig(&kubeconfig, &[&west, &east]);
    let report = conformance::run(&kube::program("conformance"), &kubeconfig, &names, topology.dir())?;
    let table = report.table();
    io::stdout().write_all(table.as_bytes()).map_err(|e| e.to_string())?;
    if let Some(file) = file {
        std::fs::write(file, &table).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(report.conforms())
}
