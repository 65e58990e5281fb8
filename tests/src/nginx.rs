//! nginx: an endpoint that nobody here wrote.

use crate::{Process, identity::text, netns::Netns, wait::eventually};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// An nginx of one process that answers `/` with a fixed body and serves the files of its directory under `/files/`.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    files: PathBuf,
}

impl Nginx {
    /// Starts one in `netns`, with its files below `dir`, and waits until it takes connections.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start(netns: &Netns, dir: &Path, address: SocketAddr, body: &str) -> Self {
        Self::start_listening(netns, dir, address, "", body)
    }

    /// The same with further parameters of its `listen`.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start_listening(netns: &Netns, dir: &Path, address: SocketAddr, listen: &str, body: &str) -> Self {
        let name = format!("nginx-{}", address.to_string().replace(':', "-"));
        let root = dir.join(&name);
        let files = root.join("files");
        let config = root.join("nginx.conf");
        let written = std::fs::create_dir_all(&files)
            .and_then(|()| std::fs::write(&config, text_of(address, listen, &root, body)));
        written.unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        let args = ["-p", text(&root), "-c", text(&config), "-e", "stderr"];
        let process = Process::start(netns, &name, &root.join("log"), Path::new("nginx"), &args);
        eventually(&format!("{name} listens"), || netns.connect(address).map(drop).map_err(|e| e.to_string()));
        Self { process, files }
    }

    /// The directory whose files it serves under `/files/`.
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// SIGKILL: the kernel closes its connections.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// One process without a master, so that killing it leaves none behind.
fn text_of(address: SocketAddr, listen: &str, root: &Path, body: &str) -> String {
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", root.display()));
    format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {root}/pid;\nevents {{ worker_connections 4096; }}\nhttp {{\n{temp}  \
         access_log off;\n  sendfile on;\n  keepalive_requests 1000000;\n  server {{\n    listen {address} backlog=4096 {listen};\n    \
         location = / {{ default_type text/plain; return 200 '{body}'; }}\n    location /files/ {{ root {root}; }}\n  }}\n}}\n",
        root = root.display(),
        temp = temp.concat(),
    )
}
