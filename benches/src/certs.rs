//! One CA and one leaf for the peers, made by openssl: ECDSA P-256 as isthmus has it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::env::Env;
use crate::error::{Error, Result};
use crate::process;

/// The name that the leaf is for.
pub const NAME: &str = "gateway.bench";

/// Files of the peers' identity. Both ends of a peer's tunnel use the same leaf.
#[derive(Debug, Clone)]
pub struct Certs {
    /// The CA's certificate.
    pub ca: PathBuf,
    /// The leaf.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Leaf and key in one file, as HAProxy wants them.
    pub both: PathBuf,
}

impl Certs {
    /// Makes them in the run's directory.
    pub fn make(env: &Env) -> Result<Self> {
        let file = |name: &str| env.dir().join(name);
        let certs =
            Self { ca: file("ca.pem"), cert: file("leaf.pem"), key: file("leaf.key"), both: file("leaf-and-key.pem") };
        let ca_key = file("ca.key");
        request(env, "CA", &certs.ca, &ca_key, &["-addext", "basicConstraints=critical,CA:TRUE"])?;
        let names = format!("subjectAltName=DNS:{NAME}");
        let leaf = ["-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"];
        let signer = [&certs.ca, &ca_key].map(|path| path.display().to_string());
        let signed: Vec<&str> = leaf.into_iter().chain(["-CA", &signer[0], "-CAkey", &signer[1]]).collect();
        request(env, NAME, &certs.cert, &certs.key, &signed)?;
        concatenate(&[&certs.cert, &certs.key], &certs.both)?;
        Ok(certs)
    }
}

fn request(env: &Env, name: &str, cert: &Path, key: &Path, more: &[&str]) -> Result<()> {
    let mut command = Command::new(&env.tools.openssl);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"]);
    command.args(["-sha256", "-subj", &format!("/CN={name}")]).args(more);
    command.arg("-keyout").arg(key).arg("-out").arg(cert);
    process::run("openssl", command, Duration::from_secs(30), || env.interrupted()).map(drop)
}

fn concatenate(parts: &[&PathBuf], to: &Path) -> Result<()> {
    let mut whole = Vec::new();
    for part in parts {
        whole.extend(std::fs::read(part).map_err(Error::io(format!("reading {}", part.display())))?);
    }
    std::fs::write(to, whole).map_err(Error::io(format!("writing {}", to.display())))
}
