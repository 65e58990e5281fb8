//! Compiles `programs/` with clang, and makes Rust's types of what they share with us.

#[path = "build/header.rs"]
mod header;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Objects, which the library takes in: name, source, and what the source is told.
const PROGRAMS: &[(&str, &str, &[&str])] = &[
    ("local_hop", "local_hop.c", &[]),
    ("local_hop_ahead", "local_hop.c", &["-DALLOCATED_AHEAD"]),
    ("sk_lookup", "sk_lookup.c", &[]),
];

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=programs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rustc-check-cfg=cfg(programs)");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let header = fs::read_to_string("programs/shared.h").map_err(|e| format!("programs/shared.h: {e}"))?;
    fs::write(out.join("shared.rs"), header::rust(&header)?).map_err(|e| e.to_string())?;
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return Ok(());
    }
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    let found = match Command::new(&clang).arg("--version").output() {
        Ok(version) => version.status.success(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(format!("{}: {error}", clang.display())),
    };
    if !found {
        println!(
            "cargo::warning=no clang: the local hop and the shared listener are left out. `make setup` installs it"
        );
        return Ok(());
    }
    for (name, source, told) in PROGRAMS {
        compile(Path::new(&clang), &format!("programs/{source}"), told, &out.join(format!("{name}.o")))?;
    }
    println!("cargo::rustc-cfg=programs");
    Ok(())
}

fn compile(clang: &Path, source: &str, told: &[&str], object: &Path) -> Result<(), String> {
    let big = env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() == Ok("big");
    let mut command = Command::new(clang);
    command.args(["-target", if big { "bpfeb" } else { "bpfel" }, "-mcpu=v2", "-O2", "-g", "-Wall", "-Werror", "-c"]);
    // Debian and Ubuntu have asm/types.h below the name of the machine, which clang does not look up for this target.
    for machine in ["x86_64", "aarch64", "riscv64", "powerpc64le", "s390x"] {
        let directory = format!("/usr/include/{machine}-linux-gnu");
        if Path::new(&directory).exists() {
            command.args(["-isystem", &directory]);
        }
    }
    // Nothing of this machine's directories goes into the object.
    command.args(told).args(["-fdebug-compilation-dir=.", "-o"]).arg(object).arg(source);
    let output = command.output().map_err(|e| format!("{}: {e}", clang.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{source} does not compile. clang and linux-libc-dev are needed, or no clang at all:\n{said}"))
}
