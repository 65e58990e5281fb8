//! What the CA signs, and what it does not.

use super::forge::Cluster;
use crate::{
    Authority, SpiffeId,
    issue::{CA_LIFETIME, IssueError, SHORTEST_LIFETIME, SVID_LIFETIME},
    pem,
};
use rcgen::KeyPair;
use std::time::{Duration, SystemTime};

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

#[test]
fn only_ids_of_its_own_trust_domain() {
    let west = Cluster::new("west.demo").authority;
    let now = SystemTime::now();
    west.issue(&id("spiffe://west.demo/ns/shop/sa/api"), SVID_LIFETIME, now).unwrap();
    for other in ["spiffe://east.demo/ns/shop/sa/api", "spiffe://west.demo.prod/a", "spiffe://west/a"] {
        let refused = west.issue(&id(other), SVID_LIFETIME, now).unwrap_err();
        assert!(matches!(refused, IssueError::OtherTrustDomain { .. }), "{refused}");
    }
    let refused = west.issue(&id("spiffe://west.demo"), SVID_LIFETIME, now).unwrap_err();
    assert!(matches!(refused, IssueError::NoPath(_)), "{refused}");
}

#[test]
fn a_lifetime_is_kept_within_bounds_and_within_the_cas() {
    let west = Cluster::new("west.demo").authority;
    let gateway = west.domain().gateway();
    let now = SystemTime::now();
    for lifetime in [Duration::ZERO, SHORTEST_LIFETIME - Duration::from_nanos(1), CA_LIFETIME + Duration::from_secs(1)]
    {
        assert!(matches!(west.issue(&gateway, lifetime, now), Err(IssueError::Lifetime(_))), "{lifetime:?}");
    }
    let svid = west.issue(&gateway, SVID_LIFETIME, now).unwrap().validity().unwrap();
    assert_eq!(svid.lifetime(), SVID_LIFETIME);
    assert!(svid.contains(now));
    let late = west.validity().not_after - Duration::from_hours(1);
    let svid = west.issue(&gateway, SVID_LIFETIME, late).unwrap().validity().unwrap();
    assert_eq!(svid.not_after, west.validity().not_after);
    let over = west.validity().not_after + Duration::from_secs(1);
    assert!(matches!(west.issue(&gateway, SVID_LIFETIME, over), Err(IssueError::CaNotValid(_))));
}

#[test]
fn a_ca_is_its_certificate_and_its_key() {
    let (west, east) = (Cluster::new("west.demo"), Cluster::new("east.demo"));
    let certificate = west.authority.certificate().clone();
    let key = pem::private_key(west.authority.key_pem().as_bytes()).unwrap();
    let loaded = Authority::load(certificate.clone(), &key).unwrap();
    assert_eq!(loaded.domain(), &west.domain);
    assert_eq!(loaded.validity(), west.authority.validity());
    let other = pem::private_key(east.authority.key_pem().as_bytes()).unwrap();
    assert!(matches!(Authority::load(certificate, &other), Err(IssueError::KeyMismatch)));
    let leaf = west.svid();
    assert!(matches!(Authority::load(leaf.chain[0].clone(), &leaf.key), Err(IssueError::Certificate(_))));
}

#[test]
fn no_key_shows_in_debug_output() {
    let west = Cluster::new("west.demo");
    let svid = west.svid();
    let keys = [west.ca_key(), KeyPair::try_from(&svid.key).unwrap()].map(|key| format!("{:?}", key.serialized_der()));
    let shown = format!("{:?} {:?} {svid:?} {:?}", west.authority, west.identity(&[]), west.store(&[]));
    for key in keys {
        assert!(!shown.contains(&key[1..60]));
    }
    assert!(!shown.contains("PRIVATE"));
}
