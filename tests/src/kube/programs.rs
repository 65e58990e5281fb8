//! Where the programs of a control plane are.

use std::path::PathBuf;

/// A program that `tests/kube/build.sh` has built. etcd and the API server are taken from `KUBEBUILDER_ASSETS` where that is set.
///
/// # Panics
/// If it is not there.
pub fn program(name: &str) -> PathBuf {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|_| ["etcd", "kube-apiserver"].contains(&name));
    let path = assets.map_or_else(built, PathBuf::from).join(name);
    assert!(path.is_file(), "{} is not there: run tests/kube/build.sh (`make test` does)", path.display());
    path
}

/// From `target/PROFILE/deps/TEST` or `target/PROFILE/PROGRAM` to `target/kube/bin`.
fn built() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_else(|e| panic!("this program's own path: {e}"));
    let mut places = this.ancestors().skip(2).take(2).map(|dir| dir.join("kube/bin"));
    places.find(|place| place.is_dir()).unwrap_or_else(|| "target/kube/bin".into())
}
