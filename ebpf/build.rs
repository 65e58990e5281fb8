//! Compiles `programs/` with clang, and makes Rust's types of what they share with us.

#[path = "build/header.rs"]
mod header;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Each becomes one object, which the library takes in.
const PROGRAMS: &[&str] = &["local_hop", "sk_lookup"];

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
    for name in PROGRAMS {
        compile(Path::new(&clang), name, &out)?;
    }
    println!("cargo::rustc-cfg=programs");
    Ok(())
}

fn compile(clang: &Path, name: &str, out: &Path) -> Result<(), String> {
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
    command.args(["-fdebug-compilation-dir=.", "-o"]);
    command.arg(out.join(format!("{name}.o"))).arg(format!("programs/{name}.c"));
    let output = command.output().map_err(|e| format!("{}: {e}", clang.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("programs/{name}.c does not compile. clang and linux-libc-dev are needed, or no clang at all:\n{said}"))
}
