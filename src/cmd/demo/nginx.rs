//! nginx, which serves in east.

use super::{
    error::{Doing, Error},
    place::Place,
    process::Crew,
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The length of every answer's body.
pub(super) const BODY: usize = 128;

/// One endpoint.
#[derive(Debug)]
pub(super) struct Nginx {
    name: String,
    place: Place,
    program: PathBuf,
    directory: PathBuf,
}

impl Nginx {
    /// Writes the configuration of an nginx at `address`, with all its files below `scratch`.
    pub(super) fn prepare(place: &Place, program: &Path, scratch: &Path, address: SocketAddr) -> Result<Self, Error> {
        let name = format!("nginx at {address}");
        let directory = scratch.join(format!("nginx-{}-{}", address.ip(), address.port()));
        let written =
            fs::create_dir(&directory).and_then(|()| fs::write(directory.join("nginx.conf"), configuration(address)));
        written.doing(format!("write {}", directory.display()))?;
        Ok(Self { name, place: place.clone(), program: program.to_owned(), directory })
    }

    /// Starts it.
    pub(super) fn start(&self, crew: &mut Crew) -> Result<(), Error> {
        let mut command = self.place.command(&self.program);
        command.arg("-p").arg(&self.directory).arg("-c").arg(self.directory.join("nginx.conf"));
        crew.start(&self.name, command, &self.directory.join("log"))
    }

    /// Kills it: connections to it are refused from now on.
    pub(super) async fn kill(&self, crew: &mut Crew) -> Result<(), Error> {
        crew.kill(&self.name).await
    }
}

/// One process without a master: SIGKILL leaves no worker behind. Relative paths are below the directory of `-p`.
fn configuration(address: SocketAddr) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = kinds.iter().map(|kind| format!("  {kind}_temp_path {kind};\n")).collect();
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\nevents {{ worker_connections 1000; }}\n\
         http {{\n{temporary}  access_log off;\n  keepalive_requests 1000000000;\n  server {{\n    \
         listen {address} backlog=4096;\n    location / {{ default_type text/plain; return 200 \"{}\"; }}\n  }}\n}}\n",
        body(address)
    )
}

/// The answer's body: who answers, filled up to its length.
fn body(address: SocketAddr) -> String {
    format!("{:<width$}\n", address.to_string(), width = BODY - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_who_gave_it() {
        let address: SocketAddr = "10.0.0.2:8080".parse().unwrap();
        assert_eq!(body(address).len(), BODY);
        assert!(body(address).starts_with("10.0.0.2:8080 "));
        assert!(configuration(address).contains("listen 10.0.0.2:8080 "));
    }
}
