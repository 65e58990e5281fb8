//! Services that end their own TLS share an address of the gateway: who a client gets, the name says that it asks for.

use crate::over_each_transport;
use isthmus_tests::{
    Cluster, End, Nginx, Topology, Transport, client,
    pair::{self, Pair},
    topology::pod,
};
use std::{io::ErrorKind, net::SocketAddr, path::PathBuf};
use tokio::io::AsyncWriteExt as _;

over_each_transport!(clients_of_tls_get_whom_they_ask_for);

/// A certificate of a cluster's for these names, and its key.
fn certificate(cluster: &Cluster, file: &str, names: &str) -> [PathBuf; 2] {
    let [certificate, key] = ["pem", "key"].map(|kind| cluster.dir().join(format!("{file}.{kind}")));
    let (out, keyout) = (certificate.display().to_string(), key.display().to_string());
    let args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test";
    let mut args: Vec<_> = args.split(' ').collect();
    let names = format!("subjectAltName={names}");
    args.extend(["-addext", &names, "-out", &out, "-keyout", &keyout]);
    cluster.pods().exec("openssl", &args);
    [certificate, key]
}

/// nginx that ends TLS itself, and says who it is and what it was asked for.
fn serve(cluster: &Cluster, host: u8, file: &str, names: &str) -> Nginx {
    let [certificate, key] = certificate(cluster, file, names).map(|path| path.display().to_string());
    let listen = format!("ssl; ssl_certificate {certificate}; ssl_certificate_key {key}");
    Nginx::start_listening(cluster.pods(), cluster.dir(), pod(host, 8080), &listen, &format!("{file} $ssl_server_name"))
}

/// What curl gets, which trusts that certificate only and has the name's address from its arguments.
fn curl(topology: &Topology, name: &str, trusted: &str) -> String {
    let at = pair::import();
    let trusted = topology.cluster("east").dir().join(format!("{trusted}.pem")).display().to_string();
    let resolve = format!("{name}:{}:{}", at.port(), at.ip());
    let url = format!("https://{name}:{}/", at.port());
    let args = ["--silent", "--show-error", "--cacert", &trusted, "--resolve", &resolve, &url];
    topology.cluster("west").pods().exec("curl", &args)
}

/// What openssl says of a handshake, whatever comes of it.
fn openssl(topology: &Topology, args: &str) -> String {
    let command = format!("openssl s_client -connect {} {args} </dev/null 2>&1 || true", pair::import());
    topology.cluster("west").pods().exec("sh", &["-c", &command])
}

fn refused(pair: &Pair<'_>, reason: &str, count: f64) {
    let label = format!("reason=\"{reason}\"");
    pair.west.wait_metric("isthmus_client_hellos_refused_total", &[&label], |found| found == count);
}

fn clients_of_tls_get_whom_they_ask_for(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _api = serve(east, 2, "api", "DNS:api.example,DNS:*.api.example");
    let _web = serve(east, 3, "web", "DNS:web.example");
    let [api, web]: [SocketAddr; 2] = [2, 3].map(|host| pod(host, 8080));
    let at = pair::import();
    let west = || pair::west_config(&topology, transport);
    let mut named = west();
    named.imports.clear();
    let named = named.imports_named(pair::SERVICE, at, &["api.example", "*.api.example"]).imports_named(
        "shop/web",
        at,
        &["web.example"],
    );
    let east = pair::east_config(&topology, transport, &[api]).exports("shop/web", &[web]);
    let pair = Pair::start_with(&topology, &named, &east);
    pair.west.wait_imported("shop/web", &["east"]);
    assert_eq!(curl(&topology, "api.example", "api"), "api api.example");
    assert_eq!(curl(&topology, "v1.api.example", "api"), "api v1.api.example");
    assert_eq!(curl(&topology, "web.example", "web"), "web web.example");
    // In TLS 1.2 as well.
    let answer = openssl(&topology, "-servername web.example -tls1_2");
    assert!(answer.contains("Protocol  : TLSv1.2") && answer.contains("Verify return code"), "{answer}");
    for (args, reason, count) in [
        ("-servername other.example", "unknown_name", 1.0),
        ("-servername a.b.api.example", "unknown_name", 2.0),
        ("-noservername", "no_name", 1.0),
    ] {
        let answer = openssl(&topology, args);
        assert!(answer.to_lowercase().contains("unrecognized name"), "{answer}");
        refused(&pair, reason, count);
    }
    topology.block_on(async {
        let mut stream = pair.connect().await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let received = client::receive(&mut stream).await;
        assert_eq!((received.bytes, received.end), (0, End::Error(ErrorKind::ConnectionReset)));
    });
    refused(&pair, "not_tls", 1.0);
    // Who says nothing is waited for a while, and holds up nobody.
    topology.block_on(async {
        let mut silent = pair.connect().await.unwrap();
        let received = client::receive(&mut silent).await;
        assert_eq!(received.end, End::Error(ErrorKind::ConnectionReset));
    });
    refused(&pair, "too_late", 1.0);
    // With one for all others, nobody's name is unknown.
    let others = west().imports_named("shop/web", at, &["web.example"]);
    pair.west.configure(&others);
    isthmus_tests::eventually("the others have a service", || {
        let answer = openssl(&topology, "-noservername");
        if answer.contains("Verify return code") && !answer.to_lowercase().contains("alert") {
            Ok(())
        } else {
            Err(answer)
        }
    });
    assert_eq!(curl(&topology, "v2.api.example", "api"), "api v2.api.example");
    assert_eq!(curl(&topology, "web.example", "web"), "web web.example");
}

#[test]
fn a_proxy_that_tells_nothing_is_counted_where_names_decide() {
    let topology = Topology::west_and_east();
    let mut west = pair::west_config(&topology, Transport::Tls);
    west.imports.clear();
    let west = west
        .imports_named(pair::SERVICE, pair::import(), &["api.example"])
        .with_import_policy("{acceptProxyProtocol: [10.0.0.0/24]}");
    let pair = Pair::start_with(&topology, &west, &pair::east_config(&topology, Transport::Tls, &[pod(2, 8080)]));
    topology.block_on(async {
        let mut stream = pair.connect().await.unwrap();
        stream.write_all(b"no header, that much is sure\r\n").await.unwrap();
        let received = client::receive(&mut stream).await;
        assert_eq!((received.bytes, received.end), (0, End::Error(ErrorKind::ConnectionReset)));
    });
    refused(&pair, "bad_proxy_header", 1.0);
}
