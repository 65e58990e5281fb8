//! Envoy, as the other end of HBONE.

use crate::{Papers, Process, identity::text, netns::Netns, wait::eventually};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
}

/// What an Envoy's TLS needs to know.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Its own SVID.
    pub papers: Papers,
    /// The peer's bundle.
    pub bundle: PathBuf,
    /// The peer's id.
    pub peer: String,
}

impl Envoy {
    /// An Envoy that takes plain TCP at `listen` and dials `peer` with one CONNECT to `authority` for each connection.
    ///
    /// # Panics
    /// If it does not listen.
    pub fn egress(
        netns: &Netns,
        dir: &Path,
        listen: SocketAddr,
        peer: SocketAddr,
        authority: &str,
        trust: &Trust,
    ) -> Self {
        Self::egress_saying(netns, dir, listen, peer, (authority, ""), trust)
    }

    /// The same, with this `baggage` in each CONNECT.
    ///
    /// # Panics
    /// If it does not listen.
    pub fn egress_saying(
        netns: &Netns,
        dir: &Path,
        listen: SocketAddr,
        peer: SocketAddr,
        (authority, baggage): (&str, &str),
        trust: &Trust,
    ) -> Self {
        let headers = if baggage.is_empty() {
            String::new()
        } else {
            format!(", headers_to_add: [{{header: {{key: baggage, value: '{baggage}'}}}}]")
        };
        let listener = format!(
            "{{name: egress, address: {listen}, filter_chains: [{{filters: [{{name: tcp, typed_config: {{\
             '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: egress, \
             cluster: upstream, tunneling_config: {{hostname: '{authority}'{headers}}}}}}}]}}]}}",
            listen = address(listen)
        );
        let h2 = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\
                  '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
                  explicit_http_config: {http2_protocol_options: {}}}}";
        let tls = tls("UpstreamTlsContext", "", trust);
        Self::start(netns, dir, listen, &listener, &cluster(peer, &format!("{h2}, transport_socket: {tls}")))
    }

    /// An Envoy that takes HBONE at `listen` and leads CONNECTs to `authority`, and no others, to `endpoint`.
    ///
    /// # Panics
    /// If it does not listen.
    pub fn ingress(
        netns: &Netns,
        dir: &Path,
        listen: SocketAddr,
        endpoint: SocketAddr,
        authority: &str,
        trust: &Trust,
    ) -> Self {
        let routes = format!(
            "{{virtual_hosts: [{{name: services, domains: ['{authority}'], routes: [{{match: {{connect_matcher: {{}}}}, \
             route: {{cluster: upstream, upgrade_configs: [{{upgrade_type: CONNECT, connect_config: {{}}}}]}}}}]}}]}}"
        );
        let router = "{name: router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
        let manager = format!(
            "{{name: http, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
             HttpConnectionManager, stat_prefix: ingress, codec_type: HTTP2, http2_protocol_options: {{allow_connect: true}}, \
             upgrade_configs: [{{upgrade_type: CONNECT}}], route_config: {routes}, http_filters: [{router}]}}}}"
        );
        let tls = tls("DownstreamTlsContext", "require_client_certificate: true, ", trust);
        let listener = format!(
            "{{name: ingress, address: {}, filter_chains: [{{transport_socket: {tls}, filters: [{manager}]}}]}}",
            address(listen)
        );
        Self::start(netns, dir, listen, &listener, &cluster(endpoint, "type: STATIC"))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn start(netns: &Netns, dir: &Path, listen: SocketAddr, listener: &str, cluster: &str) -> Self {
        let config = format!("static_resources:\n  listeners: [{listener}]\n  clusters: [{cluster}]\n");
        let path = dir.join("envoy.yaml");
        std::fs::write(&path, config).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // No hot restart: its shared memory is one for the whole machine.
        let args = ["-c", text(&path), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"];
        let process = Process::start(netns, "envoy", &dir.join("envoy.log"), &binary(), &args);
        let envoy = Self { process };
        eventually("Envoy listens", || netns.connect(listen).map(drop).map_err(|e| format!("{e}\n{}", envoy.log())));
        envoy
    }
}

/// `ENVOY`, or what `make setup` installed under target/tools, or what PATH has.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|e| panic!("this test's own path: {e}"));
    // target/<profile>/deps/e2e-<hash> → target/tools/bin/envoy
    let installed = test.ancestors().nth(3).map(|target| target.join("tools/bin/envoy"));
    let installed = installed.filter(|path| path.is_file());
    let given = std::env::var_os("ENVOY").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = || std::env::split_paths(&path).map(|dir| dir.join("envoy")).find(|path| path.is_file());
    given
        .or(installed)
        .or_else(in_path)
        .unwrap_or_else(|| panic!("there is no Envoy: `make setup` installs it, or set ENVOY"))
}

fn address(address: SocketAddr) -> String {
    format!("{{socket_address: {{address: {}, port_value: {}}}}}", address.ip(), address.port())
}

fn cluster(endpoint: SocketAddr, more: &str) -> String {
    format!(
        "{{name: upstream, load_assignment: {{cluster_name: upstream, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {}}}}}]}}]}}, \
         {more}}}",
        address(endpoint)
    )
}

fn tls(context: &str, more: &str, trust: &Trust) -> String {
    let Trust { papers: Papers { certificate, key }, bundle, peer } = trust;
    let files = [certificate, key, bundle].map(|path| path.display().to_string());
    format!(
        "{{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}, {more}\
         common_tls_context: {{alpn_protocols: [h2], \
         tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}, \
         tls_certificates: [{{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}], \
         validation_context: {{trusted_ca: {{filename: {}}}, \
         match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: '{peer}'}}}}]}}}}}}}}",
        files[0], files[1], files[2]
    )
}
