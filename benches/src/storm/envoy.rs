//! One Envoy before the same endpoints.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::env::Env;
use crate::error::{Result, write_file};
use crate::process::Process;

/// Starts it: it chooses by least requests, gives up connecting after as long as isthmus, and tries so often. With a `budget`, its
/// cluster has a retry budget of 20%.
pub(super) fn start(
    env: &Env,
    endpoints: &[SocketAddr],
    (attempts, budget): (u32, bool),
    listen: SocketAddr,
) -> Result<Process> {
    let config = env.dir().join("storm-envoy.json");
    write_file(&config, &bootstrap(endpoints, (attempts, budget), listen).to_string())?;
    let mut command = Command::new(&env.tools.envoy);
    command.arg("-c").arg(config);
    // Without hot restart no base id is needed to keep it apart from other Envoys of this machine.
    command.args(["--disable-hot-restart", "--log-level", "warning", "--concurrency"]).arg(env.cpus.to_string());
    Process::start("storm-envoy", command, env.dir())
}

fn bootstrap(endpoints: &[SocketAddr], (attempts, budget): (u32, bool), listen: SocketAddr) -> Value {
    /// Far above what is needed: its circuit breakers are not what is measured.
    const MANY: u32 = 1_000_000;
    let mut thresholds = json!({
        "max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY, "max_retries": MANY,
    });
    if budget {
        thresholds["retry_budget"] = json!({"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3});
    }
    let endpoints: Vec<_> = endpoints.iter().map(|at| json!({"endpoint": {"address": address(*at)}})).collect();
    let filter = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp", "cluster": "web", "max_connect_attempts": attempts,
    }});
    json!({"static_resources": {
        "listeners": [{
            "name": "web", "address": address(listen), "tcp_backlog_size": 4096, "filter_chains": [{"filters": [filter]}],
        }],
        "clusters": [{
            "name": "web", "type": "STATIC", "connect_timeout": "0.5s", "lb_policy": "LEAST_REQUEST",
            "circuit_breakers": {"thresholds": [thresholds]},
            "load_assignment": {"cluster_name": "web", "endpoints": [{"lb_endpoints": endpoints}]},
        }],
    }})
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}
