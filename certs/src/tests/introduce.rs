//! Handshakes of clusters that do not trust each other yet.

use super::{
    forge::{Cluster, leaf},
    pair::shake,
};
use crate::{
    Fingerprint, HandshakeRefusal, Identity, IdentityStore, TrustAnchors,
    introduce::{belongs, client_config, issuer, server_config},
};
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime};

const ALPN: &[u8] = b"test";

fn fingerprint(cluster: &Cluster) -> Fingerprint {
    Fingerprint::of(cluster.authority.certificate())
}

/// Two CAs of the same cluster, as during a rotation.
fn rotating(old: &Cluster, new: &Cluster) -> TrustAnchors {
    let certificates = [old, new].map(|cluster| cluster.authority.certificate().clone());
    TrustAnchors::new(old.domain.clone(), certificates.to_vec()).unwrap()
}

#[test]
fn the_ca_that_was_told_of_is_found_in_the_chain() {
    let (west, old, new) = (Cluster::new("west.demo"), Cluster::new("east.demo"), Cluster::new("east.demo"));
    let (ours, theirs) = (west.store(&[]), new.store(&[]));
    let server = server_config(&theirs, &rotating(&old, &new), ALPN).unwrap();
    let told = |ca| client_config(&ours, &new.domain, ca, ALPN).unwrap();
    let (outcome, pair) = shake(&told(fingerprint(&new)), &server);
    outcome.assert_ok();
    let chain: Vec<CertificateDer<'_>> = pair.server.peer_certificates().unwrap().to_vec();
    belongs(&chain, &west.bundle(), SystemTime::now()).unwrap();

    // The other one is shown, too, but the SVID does not come from it.
    let (outcome, _) = shake(&told(fingerprint(&old)), &server);
    outcome.assert_client_refuses(HandshakeRefusal::UnknownIssuer);
    let (outcome, _) = shake(&told(Fingerprint([0; 32])), &server);
    let detail = outcome.assert_client_refuses(HandshakeRefusal::UnknownIssuer);
    assert!(detail.contains("expected the CA with the fingerprint 0000"), "{detail}");
}

#[test]
fn another_cluster_or_another_time_is_refused_in_spite_of_the_ca() {
    let (west, east) = (Cluster::new("west.demo"), Cluster::new("east.demo"));
    let ours = west.store(&[]);
    let server = server_config(&east.store(&[]), &east.bundle(), ALPN).unwrap();
    for domain in ["south.demo", "east.prod"] {
        let client = client_config(&ours, &domain.parse().unwrap(), fingerprint(&east), ALPN).unwrap();
        let (outcome, _) = shake(&client, &server);
        outcome.assert_client_refuses(HandshakeRefusal::WrongTrustDomain);
    }
    let over = east.svid_issued(SystemTime::now() - Duration::from_hours(2), Duration::from_hours(1));
    let over = IdentityStore::new(Identity::new(over, []).unwrap());
    let server = server_config(&over, &east.bundle(), ALPN).unwrap();
    let client = client_config(&ours, &east.domain, fingerprint(&east), ALPN).unwrap();
    let (outcome, _) = shake(&client, &server);
    outcome.assert_client_refuses(HandshakeRefusal::Expired);
}

#[test]
fn who_dials_has_to_be_a_gateway_of_the_bundle_that_it_gives() {
    let (west, east, mallory) = (Cluster::new("west.demo"), Cluster::new("east.demo"), Cluster::new("west.demo"));
    let server = server_config(&east.store(&[]), &east.bundle(), ALPN).unwrap();
    let web = mallory.sign(&leaf(&["spiffe://west.demo/ns/shop/sa/web"]));
    let web = IdentityStore::new(Identity::forged(web, west.domain.clone(), []));
    let client = client_config(&web, &east.domain, fingerprint(&east), ALPN).unwrap();
    shake(&client, &server).0.assert_server_refuses(HandshakeRefusal::BadSvid);

    let now = SystemTime::now();
    let chain = mallory.svid().chain;
    assert!(belongs(&chain, &mallory.bundle(), now).is_ok());
    assert_eq!(belongs(&chain, &west.bundle(), now).unwrap_err().reason, HandshakeRefusal::UnknownIssuer);
    assert_eq!(belongs(&chain, &east.bundle(), now).unwrap_err().reason, HandshakeRefusal::WrongTrustDomain);
    assert_eq!(belongs(&[], &west.bundle(), now).unwrap_err().reason, HandshakeRefusal::NoCertificate);
}

#[test]
fn the_issuer_is_the_ca_that_the_svid_leads_to() {
    let (old, new, other) = (Cluster::new("east.demo"), Cluster::new("east.demo"), Cluster::new("east.demo"));
    let now = SystemTime::now();
    let (both, identity) = (rotating(&old, &new), new.identity(&[]));
    assert_eq!(issuer(&identity, &both, now).unwrap(), new.authority.certificate());
    assert_eq!(issuer(&identity, &other.bundle(), now).unwrap_err().reason, HandshakeRefusal::UnknownIssuer);
}
