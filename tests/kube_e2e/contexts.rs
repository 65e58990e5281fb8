//! Commands of an operator whose kubeconfig leads to several clusters.

use ::kube::Api;
use isthmus_control_kube::api::mcs::ServiceExport;
use isthmus_tests::{
    KubeCluster, identity,
    kube::{self, Options},
};
use serde_json::Value;
use std::{path::Path, process::Command};

const SHOP: &str = "shop";

/// `isthmus <args>` with this kubeconfig in its environment: its exit code, what it printed, what it complained of.
fn isthmus(kubeconfig: &Path, args: &[&str]) -> (Option<i32>, Value, String) {
    let output =
        Command::new(identity::isthmus()).args(args).args(["--output", "json"]).env("KUBECONFIG", kubeconfig).output();
    let output = output.unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Whether the cluster has the export of `shop/api`.
fn exports(cluster: &KubeCluster) -> bool {
    let exports: Api<ServiceExport> = Api::namespaced(cluster.client().clone(), SHOP);
    cluster.block_on(exports.get_opt("api")).unwrap().is_some()
}

#[test]
fn a_service_is_exported_where_the_context_says_and_nowhere_else() {
    let [west, east] = KubeCluster::start_all(&["west", "east"].map(Options::new));
    [&west, &east].into_iter().for_each(|cluster| cluster.make_namespace(SHOP));
    let path = west.dir().join("both.kubeconfig");
    kube::write_kubeconfig(&path, &[&west, &east]);
    let done = |args: &[&str]| {
        let (code, said, complained) = isthmus(&path, args);
        assert_eq!((code, &said["service"]), (Some(0), &"shop/api".into()), "{args:?}: {said} {complained}");
        said["done"].as_str().unwrap().to_owned()
    };
    // West's is the current context.
    assert_eq!(done(&["export", "shop/api", "--context", "east"]), "created");
    assert_eq!((exports(&west), exports(&east)), (false, true));
    assert_eq!(done(&["export", "shop/api", "--context", "east"]), "unchanged");
    // A kubeconfig that is named without a context is asked for its current one.
    let named = ["--kubeconfig", path.to_str().unwrap()];
    assert_eq!(done(&[&["export", "shop/api"], &named[..]].concat()), "created");
    assert_eq!((exports(&west), exports(&east)), (true, true));
    assert_eq!(done(&["unexport", "shop/api", "--context", "east"]), "deleted");
    assert_eq!((exports(&west), exports(&east)), (true, false));
    assert_eq!(done(&["unexport", "shop/api", "--context", "east"]), "absent");

    // What is not there is named, and nothing is made elsewhere instead.
    for (args, words) in
        [(["shop/web", "--context", "north"], "north"), (["nowhere/api", "--context", "east"], "nowhere")]
    {
        let (code, said, complained) = isthmus(&path, &[&["export"], &args[..]].concat());
        assert_eq!((code, said), (Some(1), Value::Null), "{args:?}: {complained}");
        assert!(complained.contains(words), "{args:?}: {complained}");
    }
    // Where no cluster is named none is asked: it is about a configuration file then.
    assert_eq!(done(&["export", "shop/api"]), "printed");
}
