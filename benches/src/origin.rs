//! What all setups lead to: nginx with a small body and a large file, and the bulk sink and source.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::bulk;
use crate::certs::Certs;
use crate::env::Env;
use crate::error::{Error, Result, write_file};
use crate::ground::Ground;
use crate::process::Process;

/// The small body: what `GET /` answers with.
pub const BODY: usize = 128;
/// What `GET /16k` and so on answer with; the large one is more than all buffers between it and a reader that stops.
const FILES: [(&str, u64); 4] = [("16k", 16 << 10), ("64k", 64 << 10), ("1m", 1 << 20), ("large", 1 << 30)];

/// The origin, running.
#[derive(Debug)]
pub struct Origin {
    /// nginx's port.
    pub web: u16,
    /// The same over TLS, on loopback only: what a load balancer in front of it leads to.
    pub secure: u16,
    /// Where the service of `web` is: there, if nothing else is put here.
    pub endpoints: Vec<SocketAddr>,
    /// Sink and source.
    pub bulk: bulk::Server,
    /// Ended when dropped.
    pub nginx: Process,
}

impl Origin {
    /// Starts both on that ground.
    pub fn start(env: &Env, ground: &Ground, certs: &Certs) -> Result<Self> {
        ground.servers().within(|| Self::start_here(env, ground, certs))
    }

    fn start_here(env: &Env, ground: &Ground, certs: &Certs) -> Result<Self> {
        let listen = ground.listen();
        let (web, secure) = (env.ports.take()?, env.ports.take()?);
        let dir = env.dir();
        for (name, length) in FILES {
            let file = std::fs::File::create(dir.join(name)).map_err(Error::io(format!("creating the file {name}")))?;
            // Sparse: it takes no space, and reading it no disk.
            file.set_len(length).map_err(Error::io(format!("growing the file {name}")))?;
        }
        let servers = format!(
            "    server {{ listen {listen}:{web} reuseport backlog=4096; include {dir}/site.conf; }}
    server {{
        listen 127.0.0.1:{secure} ssl reuseport backlog=4096;
        ssl_protocols TLSv1.3;
        ssl_certificate {};
        ssl_certificate_key {};
        include {dir}/site.conf;
    }}
",
            certs.cert.display(),
            certs.key.display(),
            dir = dir.display(),
        );
        write_file(&dir.join("site.conf"), &site(dir))?;
        let config = dir.join("origin.conf");
        write_file(&config, &nginx_config(&dir.display().to_string(), &servers, env.cpus))?;
        let mut command = Command::new(&env.tools.nginx);
        command.arg("-c").arg(&config).arg("-p").arg(dir).arg("-e").arg(dir.join("origin-error.log"));
        let nginx = Process::start("origin", command, dir)?;
        let bulk = bulk::Server::start(SocketAddr::new(listen, env.ports.take()?))?;
        Ok(Self { web, secure, endpoints: vec![ground.back(web)], bulk, nginx })
    }
}

/// What every server of it has.
fn site(dir: &Path) -> String {
    let body = "x".repeat(BODY);
    format!(
        "root {};
location = / {{ default_type text/plain; return 200 \"{body}\"; }}
default_type application/octet-stream;
",
        dir.display()
    )
}

fn nginx_config(dir: &str, servers: &str, workers: usize) -> String {
    format!(
        "daemon off;
worker_processes {workers};
worker_rlimit_nofile 20000;
user root;
pid {dir}/origin.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    send_timeout 3600s;
    client_body_temp_path {dir}/origin-body;
    proxy_temp_path {dir}/origin-proxy;
    fastcgi_temp_path {dir}/origin-fastcgi;
    uwsgi_temp_path {dir}/origin-uwsgi;
    scgi_temp_path {dir}/origin-scgi;
{servers}}}
"
    )
}
