//! Identities, made by the command as an operator would.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The binary under test: `ISTHMUS_BIN`, or what cargo built beside this program.
///
/// # Panics
/// If it is not there.
pub fn isthmus() -> PathBuf {
    let built = || {
        let this = std::env::current_exe().unwrap_or_else(|e| panic!("this program's own path: {e}"));
        // target/<profile>/deps/e2e-<hash> or target/<profile>/<program> → target/<profile>/isthmus
        let mut places = this.ancestors().skip(1).take(2).map(|dir| dir.join("isthmus"));
        places.find(|place| place.is_file()).unwrap_or_else(|| "isthmus".into())
    };
    let path = std::env::var_os("ISTHMUS_BIN").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is not there: run `cargo build` first (`make test` does), or set ISTHMUS_BIN",
        path.display()
    );
    path
}

/// Runs `isthmus <args>` to its end and returns its standard output.
///
/// # Panics
/// If it fails.
pub fn command(args: &[&str]) -> String {
    let output = Command::new(isthmus()).args(args).stdin(Stdio::null()).output();
    let line = format!("isthmus {}", args.join(" "));
    let output = output.unwrap_or_else(|e| panic!("`{line}`: {e}"));
    assert!(output.status.success(), "`{line}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `isthmus identity init`, with SVIDs that live for `ttl`.
///
/// # Panics
/// If it fails.
pub fn init(clusterset: &str, cluster: &str, ttl: &str, out: &Path) {
    let out = text(out);
    command(&["identity", "init", "--clusterset", clusterset, "--cluster", cluster, "--ttl", ttl, "--out", out]);
}

/// `isthmus identity renew`.
///
/// # Panics
/// If it fails.
pub fn renew(identity: &Path) {
    command(&["identity", "renew", text(identity)]);
}

/// `isthmus identity trust`.
///
/// # Panics
/// If it fails.
pub fn trust(identity: &Path, cluster: &str, bundle: &Path) {
    command(&["identity", "trust", "--identity", text(identity), "--cluster", cluster, "--bundle", text(bundle)]);
}

/// `isthmus identity revoke`: what lies in `identity` as svid.pem counts no more. The list.
///
/// # Panics
/// If it fails.
pub fn revoke(identity: &Path) -> PathBuf {
    let svid = identity.join("svid.pem");
    command(&["identity", "revoke", "--identity", text(identity), "--svid", text(&svid)]);
    identity.join("crl.pem")
}

/// `isthmus identity trust` of a revocation list.
///
/// # Panics
/// If it fails.
pub fn trust_revocations(identity: &Path, cluster: &str, list: &Path) {
    command(&["identity", "trust", "--identity", text(identity), "--cluster", cluster, "--crl", text(list)]);
}

/// `isthmus identity issue`: an SVID for `id`, as svid.pem and svid.key in `out`.
///
/// # Panics
/// If it fails.
pub fn issue(identity: &Path, id: &str, out: &Path) {
    command(&["identity", "issue", "--identity", text(identity), "--id", id, "--out", text(out)]);
}

/// A path as an argument.
///
/// # Panics
/// If it is not UTF-8: the harness makes none such.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_else(|| panic!("{} is not UTF-8", path.display()))
}
