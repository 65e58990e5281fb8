//! HAProxy's PROXY protocol: to endpoints, and from proxies in front of the gateway.

use crate::over_each_transport;
use isthmus_tests::{
    End, Endpoint, Haproxy, Nginx, Topology, Transport, client,
    pair::{self, Pair},
    topology::pod,
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

over_each_transport!(
    nginx_is_told_who_the_client_is,
    haproxy_is_told_who_the_client_is_and_what_it_asked_for,
    the_client_of_a_proxy_before_us_is_the_one_behind_us,
);

const CLIENT: [u8; 4] = [10, 0, 0, 9];

/// What an HTTP server at `address` answers a client at [`CLIENT`].
fn ask(topology: &Topology, address: SocketAddr) -> String {
    let answer: io::Result<String> = topology.block_on(async {
        let mut stream = client::connect_from(topology.cluster("west").pods(), IpAddr::from(CLIENT), address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    });
    let answer = answer.unwrap();
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}")).1.trim().to_owned()
}

fn start(topology: &Topology, transport: Transport) -> Pair<'_> {
    let east = pair::east_config(topology, transport, &[pair::endpoint()]).with_export_policy("{proxyProtocol: v2}");
    Pair::start_with(topology, &pair::west_config(topology, transport), &east)
}

fn nginx_is_told_who_the_client_is(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let told = "$proxy_protocol_addr asked $proxy_protocol_server_addr:$proxy_protocol_server_port";
    let _nginx = Nginx::start_listening(east.pods(), east.dir(), pair::endpoint(), "proxy_protocol", told);
    let _pair = start(&topology, transport);
    assert_eq!(ask(&topology, pair::import()), "10.0.0.9 asked 10.0.0.2:8080");
}

fn haproxy_is_told_who_the_client_is_and_what_it_asked_for(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let answer = "http-request return status 200 content-type text/plain lf-string \"%[src] %[fc_pp_authority]\"";
    let _haproxy = Haproxy::start(east.pods(), east.dir(), pair::endpoint(), "accept-proxy", &["mode http", answer]);
    let _pair = start(&topology, transport);
    assert_eq!(ask(&topology, pair::import()), "10.0.0.9 api.shop.svc.clusterset.local");
}

/// A proxy in front of west's gateway tells it, in either version, and east's gateway tells nginx.
fn the_client_of_a_proxy_before_us_is_the_one_behind_us(transport: Transport) {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _nginx =
        Nginx::start_listening(east.pods(), east.dir(), pair::endpoint(), "proxy_protocol", "$proxy_protocol_addr");
    let proxies = [("send-proxy", pod(3, 9001)), ("send-proxy-v2", pod(3, 9002))].map(|(how, at)| {
        let server = format!("server gateway {} {how} source 10.0.0.3", pair::import());
        (Haproxy::start(west.pods(), west.dir(), at, "", &["mode tcp", &server]), at)
    });
    let from_proxies = "{acceptProxyProtocol: [10.0.0.3]}";
    let _pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, transport).with_import_policy(from_proxies),
        &pair::east_config(&topology, transport, &[pair::endpoint()]).with_export_policy("{proxyProtocol: v2}"),
    );
    for (_, at) in &proxies {
        assert_eq!(ask(&topology, *at), "10.0.0.9", "by the proxy at {at}");
    }
    assert_eq!(ask(&topology, pair::import()), "10.0.0.9", "who is no proxy says nothing, and is served");
}

/// Sends `bytes` as a proxy would, and tells what comes.
async fn say(topology: &Topology, from: IpAddr, bytes: &[u8]) -> io::Result<client::Received> {
    let mut stream = client::connect_from(topology.cluster("west").pods(), from, pair::import()).await?;
    stream.write_all(bytes).await?;
    Ok(client::receive(&mut stream).await)
}

#[test]
fn a_proxy_that_tells_nothing_is_reset_and_others_cannot_lie() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    // It says what it was sent first, to the end of the line.
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |mut stream| async move {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(stream.read_u8().await?);
        }
        stream.write_all(&line).await?;
        stream.shutdown().await
    });
    let from_proxies = "{acceptProxyProtocol: [10.0.0.3]}";
    let pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, Transport::Tls).with_import_policy(from_proxies),
        &pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]),
    );
    let reset = End::Error(io::ErrorKind::ConnectionReset);
    let (proxy, other) = (IpAddr::from([10, 0, 0, 3]), IpAddr::from(CLIENT));
    let header = "PROXY TCP4 10.9.9.9 10.0.0.1 4711 80\r\n";
    topology.block_on(async {
        for bad in ["GET / HTTP/1.1\r\n", "PROXY TCP4 lies\r\n", "\r\n\r\n\0\r\nQUIT\n\x21\x11\u{7f}\u{7f}"] {
            let received = say(&topology, proxy, bad.as_bytes()).await.unwrap();
            assert_eq!((received.bytes, received.end), (0, reset), "{bad:?}");
        }
        let served = say(&topology, proxy, format!("{header}hello\n").as_bytes()).await.unwrap();
        assert_eq!((served.bytes, served.end), (6, End::Fin), "the header is taken off");
        let lied = say(&topology, other, header.as_bytes()).await.unwrap();
        assert_eq!((lied.bytes, lied.end), (header.len() as u64, End::Fin), "the endpoint gets all of it");
    });
    pair.west.wait_metric("isthmus_streams_closed_total", &[r#"reason="bad_proxy_header""#], |n| n == 3.0);
}

#[test]
fn an_endpoint_of_the_clients_own_cluster_is_told_as_well() {
    let topology = Topology::west_and_east();
    let west = topology.cluster("west");
    let _nginx =
        Nginx::start_listening(west.pods(), west.dir(), pair::endpoint(), "proxy_protocol", "$proxy_protocol_addr");
    let config = pair::west_config(&topology, Transport::Tls)
        .exports(pair::SERVICE, &[pair::endpoint()])
        .with_export_policy("{proxyProtocol: v2}");
    let _gateway = isthmus_tests::Gateway::start(west, &config);
    assert_eq!(ask(&topology, pair::import()), "10.0.0.9");
}
