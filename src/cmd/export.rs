//! `isthmus export` and `isthmus unexport`: a service of this cluster, for others.
//!
//! In Kubernetes it is a ServiceExport. A configuration file is its owner's: what is to be added to it is printed.

use super::{Failure, kubernetes::Cluster, linking};
use crate::output::Output;
use isthmus_control_api::ServiceName;
use isthmus_control_kube::install::{Done, Installer};
use serde::Serialize;
use serde_json::{Value, json};
use std::{fmt, net::SocketAddr};

/// Arguments of `isthmus export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --context or --kubeconfig a ServiceExport is made in that cluster, for the Service of this name. Otherwise the lines are printed that \
the configuration file needs: a running gateway takes them up when they are there.

Exit codes:
  0  the ServiceExport is there, or the lines were printed
  1  it was refused
  2  the command line is wrong")]
pub(crate) struct Args {
    /// The service
    #[arg(value_name = "NAMESPACE/NAME")]
    service: ServiceName,
    /// Its port, where a configuration file has it
    #[arg(long, value_name = "PORT", default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// An endpoint, where a configuration file has it; may be repeated
    #[arg(long = "endpoint", value_name = "ADDRESS:PORT")]
    endpoints: Vec<SocketAddr>,
    #[command(flatten)]
    at: Cluster,
    #[command(flatten)]
    output: Output,
}

/// Arguments of `isthmus unexport`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Streams that are open go on; other clusters open no new ones.

Exit codes:
  0  the ServiceExport is gone, or it was said what to take out of the configuration file
  1  it was refused
  2  the command line is wrong")]
pub(crate) struct Unexport {
    /// The service
    #[arg(value_name = "NAMESPACE/NAME")]
    service: ServiceName,
    #[command(flatten)]
    at: Cluster,
    #[command(flatten)]
    output: Output,
}

/// What was done, or is to be done.
#[derive(Debug, Serialize)]
struct Report {
    service: ServiceName,
    /// `created`, `unchanged`, `deleted`, `absent`, or `printed` where a configuration file is to be changed.
    done: &'static str,
    /// Lines for the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<String>,
    #[serde(skip)]
    words: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        self.lines.as_ref().map_or(Ok(()), |lines| write!(f, "{lines}"))
    }
}

/// Makes it, or says how.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let service = args.service.clone();
    let report = if args.at.is_named() {
        let done = in_cluster(&args.at, &service, &async |installer: &Installer, object: &Value| {
            installer.apply(object).await
        })?;
        let words = format!("ServiceExport {service}: {done}. Linked clusters can import the Service of this name.\n");
        Report { service, done, lines: None, words }
    } else {
        let lines = Some(lines(&service, args.port, &args.endpoints));
        let words =
            "Add this to `exports` of the configuration file; in Kubernetes, name the cluster with --context:\n\n"
                .to_owned();
        Report { service, done: "printed", lines, words }
    };
    Ok(args.output.print(&report)?)
}

/// Takes it back, or says how.
pub(crate) fn unexport(args: &Unexport) -> Result<(), Failure> {
    let service = args.service.clone();
    let report = if args.at.is_named() {
        let done = in_cluster(&args.at, &service, &async |installer: &Installer, object: &Value| {
            installer.delete(object).await
        })?;
        let words = format!("ServiceExport {service}: {done}.\n");
        Report { service, done, lines: None, words }
    } else {
        let words = format!(
            "Take `- service: {service}` out of `exports` of the configuration file; in Kubernetes, name the cluster with --context.\n"
        );
        Report { service, done: "printed", lines: None, words }
    };
    Ok(args.output.print(&report)?)
}

fn in_cluster(
    at: &Cluster,
    service: &ServiceName,
    act: &impl AsyncFn(&Installer, &Value) -> Result<Done, isthmus_control_kube::install::NotDone>,
) -> Result<&'static str, Failure> {
    let object = object(service);
    let acting = async {
        let installer = Installer::new(at.client().await?, false);
        Ok::<_, Failure>(act(&installer, &object).await?)
    };
    Ok(match linking::runtime()?.block_on(crate::progress::told("asking the API server", acting))? {
        Done::Created => "created",
        Done::Changed => "changed",
        Done::Unchanged | Done::Kept => "unchanged",
        Done::Deleted => "deleted",
        Done::Absent => "absent",
    })
}

fn object(service: &ServiceName) -> Value {
    json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": {"namespace": service.namespace(), "name": service.name()},
    })
}

/// As `exports` has it.
fn lines(service: &ServiceName, port: u16, endpoints: &[SocketAddr]) -> String {
    let known: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let (known, hint) = match known.as_slice() {
        [] => (vec!["\"10.0.0.2:8080\"".to_owned()], "  # put there where it listens"),
        _ => (known, ""),
    };
    format!("  - service: {service}\n    ports: [{{port: {port}}}]\n    endpoints: [{}]{hint}\n", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control::Config;

    #[test]
    fn what_is_printed_is_what_a_configuration_takes() {
        let service: ServiceName = "shop/api".parse().unwrap();
        let head = "clusterset: demo\ncluster: west\nidentity: identity/\nexports:\n";
        let of = |endpoints: &[SocketAddr]| {
            let text = head.to_owned() + &lines(&service, 8080, endpoints);
            Config::parse(&text, std::path::Path::new("west.yaml")).unwrap().exports
        };
        assert_eq!(of(&[]).len(), 1, "a line to be completed");
        let endpoints = vec!["10.0.0.2:8080".parse().unwrap(), "[::1]:1".parse().unwrap()];
        let exports = of(&endpoints);
        let (port, export) = exports.first_key_value().unwrap();
        let found: Vec<_> = export.endpoints.iter().map(|endpoint| endpoint.address).collect();
        assert_eq!((port.service.clone(), port.port, found), (service.clone(), 8080, endpoints));
    }

    #[test]
    fn in_kubernetes_it_is_a_service_export() {
        let object = object(&"shop/api".parse().unwrap());
        assert_eq!((&object["metadata"]["namespace"], &object["metadata"]["name"]), (&"shop".into(), &"api".into()));
        assert_eq!(object["kind"], "ServiceExport");
    }
}
