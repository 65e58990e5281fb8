//! What has to be there before anything is made.

use super::{Args, error::Error};
use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// Where Debian has `nginx`, `ip` and `nft`, and users without root often do not look.
const SYSTEM_PATH: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The programs, and the packages that have them.
const NGINX: (&str, &str) = ("nginx", "nginx-light");
const WRK: (&str, &str) = ("wrk", "wrk");
const IP: (&str, &str) = ("ip", "iproute2");
const NFT: (&str, &str) = ("nft", "nftables");

/// The programs that the demonstration calls.
#[derive(Debug)]
pub(super) struct Tools(BTreeMap<&'static str, PathBuf>);

impl Tools {
    /// Finds them all: `ip` only where namespaces are made, `nft` only where a namespace is the WAN.
    pub(super) fn find(args: &Args) -> Result<Self, Error> {
        let path = env::var_os("PATH").unwrap_or_default();
        let wanted: &[_] = match (args.loopback, args.wan) {
            (true, _) => &[NGINX, WRK],
            (false, Some(_)) => &[NGINX, WRK, IP],
            (false, None) => &[NGINX, WRK, IP, NFT],
        };
        find_all(wanted, &path)
    }

    /// The path of one of them.
    pub(super) fn path(&self, program: &'static str) -> &Path {
        // A program that was not looked for is found by PATH, or not found, which is an error with its name.
        self.0.get(program).map_or(Path::new(program), PathBuf::as_path)
    }
}

/// An error unless we may make namespaces, or need none.
pub(super) fn check_root(loopback: bool) -> Result<(), Error> {
    if loopback || rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

fn find_all(wanted: &[(&'static str, &'static str)], path: &OsStr) -> Result<Tools, Error> {
    let directories: Vec<_> = env::split_paths(path).chain(SYSTEM_PATH.map(PathBuf::from)).collect();
    let find = |program: &str| directories.iter().map(|directory| directory.join(program)).find(|path| path.is_file());
    let mut tools = BTreeMap::new();
    let mut missing = Vec::new();
    for &(program, package) in wanted {
        match find(program) {
            Some(path) => drop(tools.insert(program, path)),
            None => missing.push((program, package)),
        }
    }
    if missing.is_empty() {
        return Ok(Tools(tools));
    }
    let (programs, packages) = missing.into_iter().unzip();
    Err(Error::Missing { programs, packages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_packages() {
        let wanted = [("sh", "dash"), ("no-such-nginx", "nginx-light"), ("no-such-wrk", "wrk")];
        let error = find_all(&wanted, OsStr::new("/bin")).unwrap_err();
        let text = "no-such-nginx, no-such-wrk not installed: run `apt-get install nginx-light wrk`";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn what_is_there_is_found_by_its_path() {
        let tools = find_all(&[("sh", "dash")], OsStr::new("/nowhere:/bin")).unwrap();
        assert_eq!(tools.path("sh"), Path::new("/bin/sh"));
    }
}
