//! Streams that a peer opens.

use crate::{
    core::tests::{East, deaf, exporting, linked},
    tunnel::{
        RefusalReason, Tunnel,
        driver::tests::pair::{SETTINGS, on_a_core, opened, request, until},
    },
};
use isthmus_control_api::Namespaces;
use std::time::Duration;

#[test]
fn an_endpoint_that_does_not_answer_in_time_is_told_and_counted_as_a_timeout() {
    on_a_core(async {
        let east = East::with(|config| config.connect_timeout = Duration::from_millis(50));
        let (address, _full) = deaf().await;
        east.apply(exporting(linked(), &[address]));
        let west = east.peer(SETTINGS).await;
        let mut stream = west.tunnel.open(&request("west")).unwrap();
        let refusal = opened(&mut stream).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.retry), (RefusalReason::Timeout, true), "{refusal}");
        let labels = r#"service="shop/api:80",peer="west",direction="ingress",reason="refused_timeout""#;
        until(|| east.counted(&format!("isthmus_streams_closed_total{{{labels}}} 1"))).await;
    });
}

#[test]
fn a_peer_uses_only_what_its_link_is_for() {
    on_a_core(async {
        let east = East::with(|_| {});
        let endpoint = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut table = exporting(linked(), &[endpoint.local_addr().unwrap()]);
        let mut only = |namespace: &str| {
            let link = table.links.get_mut(&"west".parse().unwrap()).unwrap();
            link.exports = Namespaces::Only([namespace.into()].into());
            table.clone()
        };
        east.apply(only("ops"));
        let west = east.peer(SETTINGS).await;
        let mut stream = west.tunnel.open(&request("west")).unwrap();
        let refusal = opened(&mut stream).await.unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::NoSuchExport, "{refusal}");
        east.apply(only("shop"));
        let mut stream = west.tunnel.open(&request("west")).unwrap();
        opened(&mut stream).await.unwrap();
    });
}
