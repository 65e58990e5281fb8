//! A cluster's control and its gateways, among themselves.

use super::{forge::Cluster, pair::shake};
use crate::{
    HandshakeRefusal, Role, TrustAnchors,
    tls::{client_config, own_client_config, own_server_config},
};

const ALPN: &[&[u8]] = &[b"h2"];

#[test]
fn control_and_gateway_of_a_cluster_know_each_other() {
    let west = Cluster::new("west.demo");
    let (gateway, control) = (west.process(Role::Gateway), west.process(Role::Control));
    let client = own_client_config(&gateway, Role::Control, ALPN).unwrap();
    let server = own_server_config(&control, Role::Gateway, ALPN).unwrap();
    shake(&client, &server).0.assert_ok();
}

#[test]
fn neither_plays_the_others_part() {
    let west = Cluster::new("west.demo");
    let (gateway, control) = (west.process(Role::Gateway), west.process(Role::Control));
    let client = own_client_config(&gateway, Role::Control, ALPN).unwrap();
    let server = own_server_config(&gateway, Role::Gateway, ALPN).unwrap();
    let (outcome, _) = shake(&client, &server);
    assert!(
        outcome.assert_client_refuses(HandshakeRefusal::BadSvid).contains("sa/gateway, expected spiffe://west.demo/")
    );
    let client = own_client_config(&control, Role::Control, ALPN).unwrap();
    let server = own_server_config(&control, Role::Gateway, ALPN).unwrap();
    shake(&client, &server).0.assert_server_refuses(HandshakeRefusal::BadSvid);
}

#[test]
fn another_clusters_are_refused() {
    let (west, east) = (Cluster::new("west.demo"), Cluster::new("east.demo"));
    let client = own_client_config(&east.process(Role::Gateway), Role::Control, ALPN).unwrap();
    let server = own_server_config(&west.process(Role::Control), Role::Gateway, ALPN).unwrap();
    shake(&client, &server).0.assert_client_refuses(HandshakeRefusal::WrongTrustDomain);
    // Whoever claims to be of the cluster has to be signed by it.
    let forger = Cluster::new("west.demo");
    let client = own_client_config(&forger.process(Role::Gateway), Role::Control, ALPN).unwrap();
    shake(&client, &server).0.assert_client_refuses(HandshakeRefusal::UnknownIssuer);
}

/// Peers have to do with gateways only.
#[test]
fn a_control_is_no_gateway_to_peers() {
    let (west, east) = (Cluster::new("west.demo"), Cluster::new("east.demo"));
    let client = client_config(&east.store(&[&west]), &west.name(), ALPN).unwrap();
    let server = own_server_config(&west.process(Role::Control), Role::Gateway, ALPN).unwrap();
    shake(&client, &server).0.assert_client_refuses(HandshakeRefusal::BadSvid);
}

/// A new CA beside the old one, then without it.
#[test]
fn the_own_ca_rotates_live() {
    let (old, new) = (Cluster::new("west.demo"), Cluster::new("west.demo"));
    let (gateway, control) = (old.process(Role::Gateway), new.process(Role::Control));
    let client = own_client_config(&gateway, Role::Control, ALPN).unwrap();
    let server = own_server_config(&control, Role::Gateway, ALPN).unwrap();
    shake(&client, &server).0.assert_client_refuses(HandshakeRefusal::UnknownIssuer);
    let certificates = [&old, &new].map(|ca| ca.authority.certificate().clone());
    let both = TrustAnchors::new(old.domain.clone(), certificates.into()).unwrap();
    for store in [&gateway, &control] {
        store.replace((*store.current()).clone().with_own(Some(both.clone())));
    }
    shake(&client, &server).0.assert_ok();
}
