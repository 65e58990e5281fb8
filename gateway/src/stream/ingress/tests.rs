//! Streams that a peer opens.

use crate::{
    core::tests::{East, deaf, exporting, idle, linked},
    tunnel::{
        RefusalReason, StreamError, Tunnel,
        driver::tests::{
            pair::{SETTINGS, on_a_core, opened, request, until},
            raw::{Raw, frame, hello},
        },
        mux::frame::Kind,
        open,
    },
};
use isthmus_control_api::{
    AccessPolicy, Namespaces, Table,
    access::{Action, Rule, SourceMatch},
};
use std::{future::poll_fn, sync::Arc, time::Duration};

/// The table with a policy for shop/api, `action` being for its namespace's own `web`: whose streams tests open.
fn with_policy(mut table: Table, action: Action, dry_run: bool) -> Table {
    let web = SourceMatch { service_accounts: ["shop/web".parse().unwrap()].into(), ..SourceMatch::default() };
    let rules = vec![Rule { name: "web".parse().unwrap(), action, from: vec![web] }];
    let services = ["shop/api".parse().unwrap()].into();
    let policy = AccessPolicy { services, dry_run, rules, ..AccessPolicy::default() };
    table.policies.insert("callers".parse().unwrap(), Arc::new(policy));
    table
}

fn counted(east: &East, decision: &str, count: u64) -> bool {
    let labels = format!(r#"rule="callers:web",decision="{decision}""#);
    east.counted(&format!("isthmus_policy_decisions_total{{{labels}}} {count}"))
}

#[test]
fn a_policy_decides_whose_streams_are_opened() {
    on_a_core(async {
        let east = East::new();
        let (address, _endpoint) = idle().await;
        let table = exporting(linked(), &[address]);
        east.apply(with_policy(table.clone(), Action::Allow, false));
        let west = east.peer(SETTINGS).await;
        opened(&mut west.tunnel.open(&request("west")).unwrap()).await.unwrap();
        assert!(counted(&east, "allow", 1));
        let mut job = request("west");
        job.source.id = "spiffe://west.demo/ns/shop/sa/job".parse().unwrap();
        let refusal = opened(&mut west.tunnel.open(&job).unwrap()).await.unwrap_err();
        assert_eq!(
            (refusal.reason, refusal.retry, &*refusal.message),
            (RefusalReason::Denied, false, "an access policy denies it")
        );
        east.apply(with_policy(table, Action::Deny, true));
        opened(&mut west.tunnel.open(&request("west")).unwrap()).await.unwrap();
        assert!(counted(&east, "would_deny", 1) && counted(&east, "deny", 0));
    });
}

#[test]
fn open_streams_that_a_changed_policy_denies_are_reset_and_no_others() {
    on_a_core(async {
        let east = East::new();
        let (address, _endpoint) = idle().await;
        let table = exporting(linked(), &[address]);
        east.apply(table.clone());
        let west = east.peer(SETTINGS).await;
        let mut stream = west.tunnel.open(&request("west")).unwrap();
        opened(&mut stream).await.unwrap();
        east.apply(with_policy(table.clone(), Action::Deny, true));
        east.apply(with_policy(table.clone(), Action::Allow, false));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(east.core.streams.len(), 1, "it is allowed");
        east.apply(with_policy(table, Action::Deny, false));
        let ended = poll_fn(|cx| stream.poll_read(cx, &mut [0; 8])).await;
        assert!(matches!(ended, Err(StreamError::Reset)), "{ended:?}");
        let labels = r#"service="shop/api:80",peer="west",direction="ingress",reason="denied""#;
        until(|| east.counted(&format!("isthmus_streams_closed_total{{{labels}}} 1"))).await;
        assert!(counted(&east, "deny", 1));
    });
}

#[test]
fn a_peer_speaks_for_its_own_trust_domain_only() {
    on_a_core(async {
        let east = East::new();
        let (address, _endpoint) = idle().await;
        east.apply(exporting(linked(), &[address]));
        let west = east.peer(SETTINGS).await;
        for id in [
            "spiffe://east.demo/ns/shop/sa/web",
            "spiffe://north.demo/ns/shop/sa/web",
            "spiffe://west.demo.more/ns/shop/sa/web",
        ] {
            let mut forged = request("west");
            forged.source.id = id.parse().unwrap();
            let refusal = opened(&mut west.tunnel.open(&forged).unwrap()).await.unwrap_err();
            assert_eq!(refusal.reason, RefusalReason::Denied, "{id}: {refusal}");
        }
        opened(&mut west.tunnel.open(&request("west")).unwrap()).await.unwrap();
    });
}

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

#[test]
fn streams_beyond_a_tunnels_bound_are_counted() {
    on_a_core(async {
        let east = East::with(|config| config.mux.settings.max_streams = 1);
        let (address, _endpoint) = idle().await;
        east.apply(exporting(linked(), &[address]));
        let mut west = Raw::new(east.dialled().await);
        let open = open::encode(&request("west"));
        west.send(&[hello(64 * 1024), frame(Kind::Open, 1, &open), frame(Kind::Open, 3, &open)].concat()).await;
        until(|| east.counted(r#"isthmus_refusals_total{bound="streams_per_tunnel"} 1"#)).await;
        until(|| east.core.streams.len() == 1).await;
    });
}

/// Idle connections are mostly this.
#[test]
fn a_stream_that_is_open_keeps_no_room_for_what_opening_it_took() {
    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }
    let found = size(super::serve);
    assert!(found <= 768, "{found} bytes");
}
