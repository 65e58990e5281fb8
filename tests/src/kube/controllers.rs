//! What makes a cluster of an API server: upstream's controllers, and a program in the place of its nodes.

use super::{api_server::ApiServer, options::Options, programs::program};
use crate::{identity::text, process::Process};
use std::path::Path;

/// The controllers that behaviour of ours, or of what is tested with us, depends on.
const CONTROLLERS: &str = "endpointslice-controller,endpoints-controller,namespace-controller,garbage-collector-controller,\
    serviceaccount-controller,serviceaccount-token-controller,root-ca-certificate-publisher-controller,\
    deployment-controller,replicaset-controller,statefulset-controller,daemonset-controller";

/// kube-controller-manager.
pub(super) fn controllers(server: &ApiServer, options: &Options, kubeconfig: &Path, dir: &Path) -> Process {
    let papers = server.papers();
    let args = [
        format!("--kubeconfig={}", text(kubeconfig)),
        format!("--controllers={CONTROLLERS}"),
        format!("--service-account-private-key-file={}", papers.file("accounts.key")),
        format!("--root-ca-file={}", papers.file("ca.pem")),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        // Nothing but the tests asks: no limit of the client's own.
        "--kube-api-qps=-1".into(),
    ];
    start(server, options, dir, "kube-controller-manager", &args)
}

/// The nodes and their pods, as far as an API server can see them (tests/kube/pods.go).
pub(super) fn pods(server: &ApiServer, options: &Options, kubeconfig: &Path, dir: &Path) -> Process {
    let nodes: Vec<_> = options.nodes.iter().map(|(name, zone)| format!("{name}={zone}")).collect();
    let args = [
        format!("--kubeconfig={}", text(kubeconfig)),
        format!("--pod-cidr={}", options.pod_cidrs.join(",")),
        format!("--nodes={}", nodes.join(",")),
    ];
    start(server, options, dir, "pods", &args)
}

fn start(server: &ApiServer, options: &Options, dir: &Path, name: &str, args: &[String]) -> Process {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let log = dir.join(format!("{name}.log"));
    Process::start(server.netns(), &format!("{}'s {name}", options.name), &log, &program(name), &args)
}
