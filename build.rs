//! How the binary is linked.

use std::process::Command;

/// The first C library that reads packed relocations (glibc's NEWS of 2.36: `DT_RELR`).
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A position-independent binary this size has half a MiB of relocations, which lie in the memory of every process for
    // good. Packed, they are a fiftieth. A loader that is too old for them refuses the binary, so the one here decides.
    let native = std::env::var_os("HOST") == std::env::var_os("TARGET");
    if native && libc_version().is_some_and(|version| version >= PACKED_SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of glibc on this machine: "glibc 2.36". `None` where there is another C library.
fn libc_version() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
