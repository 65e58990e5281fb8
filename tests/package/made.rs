//! Packages, made once for all tests, by whoever has called them.

use isthmus_tests::identity::isthmus;
use std::{
    env, fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};
use tempfile::TempDir;

/// The time that everything in them has.
pub(crate) const EPOCH: u64 = 1_700_000_000;

/// The directory that the packages are in.
pub(crate) fn packages() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| pack("packages", EPOCH, &[]))
}

/// Packs the binary into a directory of that name below target/; `surroundings` are variables of the environment.
pub(crate) fn pack(name: &str, epoch: u64, surroundings: &[(&str, &str)]) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package").join(name);
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    for directory in [&out, out.parent().unwrap()] {
        chown(directory, caller(), None).unwrap();
    }
    let own = [("SOURCE_DATE_EPOCH", epoch.to_string()), ("PACKAGE_COMPRESSION", "0".to_owned())];
    let mut command = as_caller();
    command.args(own.iter().map(|(name, value)| format!("{name}={value}")));
    command.args(surroundings.iter().map(|(name, value)| format!("{name}={value}")));
    succeed(command.arg(script("package.sh")).arg(isthmus()).arg(&out));
    out
}

/// The one file with that ending.
pub(crate) fn file(ending: &str) -> PathBuf {
    let found: Vec<_> = fs::read_dir(packages()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut fits = found.iter().filter(|path| path.to_str().is_some_and(|path| path.ends_with(ending)));
    let (one, more) = (fits.next(), fits.next());
    assert!(one.is_some() && more.is_none(), "found {found:?}, expected one file with the ending {ending}");
    one.unwrap().clone()
}

/// An empty directory for a test, which users without rights can reach: a checkout may lie where they cannot.
pub(crate) fn scratch() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap()
}

/// A script of the repository.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name)
}

/// Runs it to its end, and returns its output.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}. `make setup` installs what is missing"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// `env`, as the user who has called sudo, if one has: cargo never runs as root on a user's files.
fn as_caller() -> Command {
    let Some(user) = caller() else { return Command::new("env") };
    let mut command = Command::new("sudo");
    let kept = "--preserve-env=CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR";
    command.args([kept, "--set-home", "--user", &format!("#{user}"), "env"]);
    command
}

/// Who has called sudo for a checkout of their own.
fn caller() -> Option<u32> {
    let user: u32 = env::var("SUDO_UID").ok()?.parse().ok()?;
    let owner = fs::metadata(env!("CARGO_MANIFEST_DIR")).unwrap().uid();
    // With root's own cargo it is root that builds.
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let builds = cargo.and_then(|cargo| Some(fs::metadata(cargo).ok()?.uid()));
    (user == owner && user != 0 && builds == Some(user)).then_some(user)
}
