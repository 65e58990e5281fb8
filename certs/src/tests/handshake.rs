//! Who is let in and who is not, by real handshakes.

use super::{
    forge::{Cluster, leaf, svid},
    pair::{Outcome, Pair, shake},
};
use crate::{
    AllowedClusters, HandshakeRefusal, Identity, IdentityStore, Svid, TrustAnchors, peer_identity, tls,
    verify::{Expected, check},
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{NamedGroup, ProtocolVersion};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

const ALPN: &[&[u8]] = &[b"isthmus/1", b"h2"];

/// `client` dials `server`, expecting the cluster that `expected` is.
fn dial(client: &IdentityStore, expected: &Cluster, server: &IdentityStore) -> (Outcome, Pair) {
    let client = tls::client_config(client, &expected.name(), ALPN).unwrap();
    let server = tls::server_config(server, AllowedClusters::every_trusted(), ALPN).unwrap();
    shake(&client, &server)
}

/// West dials an east whose SVID is `svid`.
fn west_dials(svid: Svid, west: &Cluster, east: &Cluster) -> Outcome {
    let server = IdentityStore::new(Identity::forged(svid, east.domain.clone(), [west.bundle()]));
    dial(&west.store(&[east]), east, &server).0
}

/// A west whose SVID is `svid` dials east.
fn east_accepts(svid: Svid, west: &Cluster, east: &Cluster) -> Outcome {
    let client = IdentityStore::new(Identity::forged(svid, west.domain.clone(), [east.bundle()]));
    dial(&client, east, &east.store(&[west])).0
}

fn clusters() -> (Cluster, Cluster) {
    (Cluster::new("west.demo"), Cluster::new("east.demo"))
}

#[test]
fn linked_clusters_know_each_other() {
    let (west, east) = clusters();
    let (outcome, pair) = dial(&west.store(&[&east]), &east, &east.store(&[&west]));
    outcome.assert_ok();
    assert_eq!(pair.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = pair.client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let suite = pair.server.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(pair.client.alpn_protocol(), Some(b"isthmus/1".as_slice()));
    let server = peer_identity(pair.client.peer_certificates()).unwrap();
    assert_eq!(server, (east.name(), east.domain.gateway()));
    let client = peer_identity(pair.server.peer_certificates()).unwrap();
    assert_eq!(client, (west.name(), west.domain.gateway()));
    pair.client.dangerous_extract_secrets().unwrap();
    pair.server.dangerous_extract_secrets().unwrap();
}

#[test]
fn another_trusted_cluster_is_not_the_one_dialled() {
    let (west, east) = clusters();
    let north = Cluster::new("north.demo");
    let (outcome, _) = dial(&west.store(&[&east, &north]), &east, &north.store(&[&west]));
    let detail = outcome.assert_client_refuses(HandshakeRefusal::WrongTrustDomain);
    assert_eq!(
        detail,
        "found spiffe://north.demo/ns/isthmus-system/sa/gateway, \
         expected spiffe://east.demo/ns/isthmus-system/sa/gateway"
    );
}

#[test]
fn another_clusterset_is_refused_both_ways() {
    let (west, east) = clusters();
    let other_west = Cluster::new("west.prod");
    let (outcome, _) = dial(&IdentityStore::new(other_west.identity(&[])), &east, &east.store(&[&west]));
    // The client looks first, and its own clusterset is another.
    outcome.assert_client_refuses(HandshakeRefusal::WrongTrustDomain);
    let client = IdentityStore::new(Identity::forged(other_west.svid(), west.domain.clone(), [east.bundle()]));
    let (outcome, _) = dial(&client, &east, &east.store(&[&west]));
    outcome.assert_server_refuses(HandshakeRefusal::WrongTrustDomain);
}

#[test]
fn a_cluster_without_a_bundle_is_refused_both_ways() {
    let (west, east) = clusters();
    let (outcome, _) = dial(&west.store(&[&east]), &east, &east.store(&[]));
    outcome.assert_server_refuses(HandshakeRefusal::NotLinked);
    let (outcome, _) = dial(&west.store(&[]), &east, &east.store(&[&west]));
    outcome.assert_client_refuses(HandshakeRefusal::UnknownIssuer);
}

#[test]
fn a_link_that_is_removed_counts_from_the_next_handshake_on() {
    let (west, east) = clusters();
    let linked = Arc::new(AtomicBool::new(true));
    let asked = linked.clone();
    let allowed = AllowedClusters::new(move |cluster| cluster.as_str() == "west" && asked.load(Ordering::Relaxed));
    let server = tls::server_config(&east.store(&[&west]), allowed, ALPN).unwrap();
    let client = tls::client_config(&west.store(&[&east]), &east.name(), ALPN).unwrap();
    shake(&client, &server).0.assert_ok();
    linked.store(false, Ordering::Relaxed);
    shake(&client, &server).0.assert_server_refuses(HandshakeRefusal::NotLinked);
}

#[test]
fn a_ca_cannot_speak_for_another_cluster() {
    // Both are trusted, but each only for itself.
    let (west, east) = clusters();
    let north = Cluster::new("north.demo");
    let forged = || north.sign(&leaf(&[east.domain.gateway().as_str()]));
    let server = IdentityStore::new(Identity::forged(forged(), east.domain.clone(), [west.bundle()]));
    let (outcome, _) = dial(&west.store(&[&east, &north]), &east, &server);
    outcome.assert_client_refuses(HandshakeRefusal::UnknownIssuer);

    let client = IdentityStore::new(Identity::forged(forged(), east.domain.clone(), [west.bundle()]));
    let (outcome, _) = dial(&client, &west, &west.store(&[&east, &north]));
    outcome.assert_server_refuses(HandshakeRefusal::UnknownIssuer);
}

#[test]
fn a_ca_under_the_same_name_with_another_key_is_refused() {
    let (west, east) = clusters();
    let mut params = CertificateParams::default();
    let key = KeyPair::generate().unwrap();
    // An issuer with the real CA's name, and the forger's key.
    let issuer = Issuer::from_ca_cert_der(east.authority.certificate(), KeyPair::generate().unwrap()).unwrap();
    params.clone_from(&leaf(&[east.domain.gateway().as_str()]));
    let forged = svid(vec![params.signed_by(&key, &issuer).unwrap().into()], &key);
    west_dials(forged, &west, &east).assert_client_refuses(HandshakeRefusal::UnknownIssuer);
}

#[test]
fn self_signed_is_refused_both_ways() {
    let (west, east) = clusters();
    let self_signed = |cluster: &Cluster| {
        let key = KeyPair::generate().unwrap();
        svid(vec![leaf(&[cluster.domain.gateway().as_str()]).self_signed(&key).unwrap().into()], &key)
    };
    west_dials(self_signed(&east), &west, &east).assert_client_refuses(HandshakeRefusal::UnknownIssuer);
    east_accepts(self_signed(&west), &west, &east).assert_server_refuses(HandshakeRefusal::UnknownIssuer);
}

#[test]
fn expired_is_refused_both_ways() {
    let (west, east) = clusters();
    let expired =
        |cluster: &Cluster| cluster.svid_issued(SystemTime::now() - Duration::from_hours(48), Duration::from_hours(24));
    let outcome = west_dials(expired(&east), &west, &east);
    let detail = outcome.assert_client_refuses(HandshakeRefusal::Expired);
    assert!(detail.starts_with("found a certificate that ended 864"), "{detail}");
    east_accepts(expired(&west), &west, &east).assert_server_refuses(HandshakeRefusal::Expired);
}

#[test]
fn not_yet_valid_is_refused_both_ways() {
    let (west, east) = clusters();
    let early =
        |cluster: &Cluster| cluster.svid_issued(SystemTime::now() + Duration::from_hours(1), Duration::from_hours(24));
    west_dials(early(&east), &west, &east).assert_client_refuses(HandshakeRefusal::NotYetValid);
    east_accepts(early(&west), &west, &east).assert_server_refuses(HandshakeRefusal::NotYetValid);
}

#[test]
fn an_expired_bundle_vouches_for_nobody() {
    let (west, east) = clusters();
    let later = SystemTime::now() + Duration::from_hours(24 * 366 * 11);
    let identity = west.identity(&[&east]);
    let refused = check(&identity, &Expected::Server(east.name()), &east.svid().chain, later).unwrap_err();
    assert_eq!(refused.reason, HandshakeRefusal::Expired);
    assert!(refused.detail.contains("bundle of east.demo"), "{refused}");
}

#[test]
fn leaves_that_break_a_rule_of_spiffe_are_refused_both_ways() {
    let (west, east) = clusters();
    let id = east.domain.gateway();
    let id = id.as_str();
    let mut is_ca = leaf(&[id]);
    is_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut signs = leaf(&[id]);
    signs.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    let mut no_usage = leaf(&[id]);
    no_usage.key_usages.clear();
    let mut other_usage = leaf(&[id]);
    other_usage.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    let mut other_purpose = leaf(&[id]);
    other_purpose.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    for (what, params) in [
        ("no URI name", leaf(&[])),
        ("two URI names", leaf(&[id, "https://east.demo"])),
        ("two SPIFFE ids", leaf(&[id, "spiffe://west.demo/ns/isthmus-system/sa/gateway"])),
        ("no SPIFFE id", leaf(&["https://east.demo/ns/isthmus-system/sa/gateway"])),
        ("another workload", leaf(&["spiffe://east.demo/ns/shop/sa/api"])),
        ("the trust domain's id", leaf(&["spiffe://east.demo"])),
        ("no clusterset", leaf(&["spiffe://east/ns/isthmus-system/sa/gateway"])),
        ("CA:TRUE", is_ca),
        ("keyCertSign", signs),
        ("no key usage", no_usage),
        ("no digitalSignature", other_usage),
        ("another purpose", other_purpose),
    ] {
        let outcome = west_dials(east.sign(&params), &west, &east);
        assert_eq!(outcome.client.unwrap_err().reason, HandshakeRefusal::BadSvid, "{what}");
        // The other way round east is the one that dials.
        let outcome = east_accepts(east.sign(&params), &east, &west);
        assert_eq!(outcome.server.unwrap_err().reason, HandshakeRefusal::BadSvid, "{what}");
    }
}

#[test]
fn the_ca_itself_is_no_gateway() {
    let (west, east) = clusters();
    let ca = svid(vec![east.authority.certificate().clone()], &east.ca_key());
    west_dials(ca, &west, &east).assert_client_refuses(HandshakeRefusal::BadSvid);
}

/// An intermediate CA below east's, and an SVID of east by it.
fn through_intermediate(east: &Cluster, change: impl FnOnce(&mut CertificateParams)) -> Svid {
    let mut params = leaf(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "intermediate");
    change(&mut params);
    let intermediate = east.sign(&params);
    let key = KeyPair::try_from(&intermediate.key).unwrap();
    let issuer = Issuer::from_params(&params, key);
    let key = KeyPair::generate().unwrap();
    let cert = leaf(&[east.domain.gateway().as_str()]).signed_by(&key, &issuer).unwrap();
    svid(vec![cert.into(), intermediate.chain[0].clone()], &key)
}

#[test]
fn intermediates_may_only_be_the_trust_domains_own() {
    let (west, east) = clusters();
    west_dials(through_intermediate(&east, |_| ()), &west, &east).assert_ok();
    let own_name = leaf(&["spiffe://east.demo"]).subject_alt_names;
    west_dials(through_intermediate(&east, |ca| ca.subject_alt_names = own_name), &west, &east).assert_ok();
    let other_name = leaf(&["spiffe://west.demo"]).subject_alt_names;
    west_dials(through_intermediate(&east, |ca| ca.subject_alt_names = other_name), &west, &east)
        .assert_client_refuses(HandshakeRefusal::BadSvid);
    west_dials(through_intermediate(&east, |ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign]), &west, &east)
        .assert_client_refuses(HandshakeRefusal::BadSvid);
    west_dials(through_intermediate(&east, |ca| ca.is_ca = IsCa::ExplicitNoCa), &west, &east)
        .assert_client_refuses(HandshakeRefusal::BadSvid);
}

#[test]
fn tls_1_2_is_refused_both_ways() {
    let (west, east) = clusters();
    let server = tls::server_config(&east.store(&[&west]), AllowedClusters::every_trusted(), &[]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(east.authority.certificate().clone()).unwrap();
    let old = rustls::crypto::aws_lc_rs::default_provider();
    let client = rustls::ClientConfig::builder_with_provider(Arc::new(old))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (outcome, _) = shake(&Arc::new(client), &server);
    assert_eq!(outcome.server.unwrap_err().reason, HandshakeRefusal::TlsVersion);

    let old = rustls::crypto::aws_lc_rs::default_provider();
    let Svid { chain, key } = east.svid();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(old))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let client = tls::client_config(&west.store(&[&east]), &east.name(), &[]).unwrap();
    let (outcome, _) = shake(&client, &Arc::new(server));
    let server = outcome.server.unwrap_err().reason;
    assert_eq!(server, HandshakeRefusal::TlsVersion);
    assert_eq!(outcome.client.unwrap_err().reason, HandshakeRefusal::TlsVersion);
}

#[test]
fn no_certificate_is_refused() {
    let (west, east) = clusters();
    let mut client = (*tls::client_config(&west.store(&[&east]), &east.name(), ALPN).unwrap()).clone();
    client.client_auth_cert_resolver = Arc::new(NoCertificate);
    let server = tls::server_config(&east.store(&[&west]), AllowedClusters::every_trusted(), ALPN).unwrap();
    shake(&Arc::new(client), &server).0.assert_server_refuses(HandshakeRefusal::NoCertificate);
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn no_common_protocol_is_refused() {
    let (west, east) = clusters();
    let client = tls::client_config(&west.store(&[&east]), &east.name(), &[b"isthmus/9"]).unwrap();
    let server = tls::server_config(&east.store(&[&west]), AllowedClusters::every_trusted(), ALPN).unwrap();
    let (outcome, _) = shake(&client, &server);
    assert_eq!(outcome.server.unwrap_err().reason, HandshakeRefusal::Alpn);
    assert_eq!(outcome.client.unwrap_err().reason, HandshakeRefusal::Alpn);
}

#[test]
fn garbage_is_refused_as_malformed() {
    let (west, east) = clusters();
    let server = tls::server_config(&east.store(&[&west]), AllowedClusters::every_trusted(), ALPN).unwrap();
    let mut server = rustls::ServerConnection::new(server).unwrap();
    server.read_tls(&mut b"GET / HTTP/1.1\r\n\r\n".as_slice()).unwrap();
    let error = server.process_new_packets().unwrap_err();
    assert_eq!(HandshakeRefusal::from(&error), HandshakeRefusal::Malformed);
}

#[test]
fn a_renewed_svid_is_shown_without_a_new_configuration() {
    let (west, east) = clusters();
    let (west_store, east_store) = (west.store(&[&east]), east.store(&[&west]));
    let client = tls::client_config(&west_store, &east.name(), ALPN).unwrap();
    let server = tls::server_config(&east_store, AllowedClusters::every_trusted(), ALPN).unwrap();
    let (outcome, before) = shake(&client, &server);
    outcome.assert_ok();
    east_store.replace(east.identity(&[&west]));
    west_store.replace(west.identity(&[&east]));
    let (outcome, after) = shake(&client, &server);
    outcome.assert_ok();
    assert_ne!(before.client.peer_certificates(), after.client.peer_certificates());
    assert_ne!(before.server.peer_certificates(), after.server.peer_certificates());
}

#[test]
fn a_replaced_ca_is_trusted_without_a_new_configuration() {
    let (west, east) = clusters();
    let new_east = Cluster::new("east.demo");
    let (west_store, east_store) = (west.store(&[&east]), east.store(&[&west]));
    let client = tls::client_config(&west_store, &east.name(), ALPN).unwrap();
    let server = tls::server_config(&east_store, AllowedClusters::every_trusted(), ALPN).unwrap();

    east_store.replace(new_east.identity(&[&west]));
    shake(&client, &server).0.assert_client_refuses(HandshakeRefusal::UnknownIssuer);

    // A rotation: both in the bundle, then only the new one.
    let both = vec![east.authority.certificate().clone(), new_east.authority.certificate().clone()];
    let both = TrustAnchors::new(east.domain.clone(), both).unwrap();
    west_store.replace(Identity::new(west.svid(), [both]).unwrap());
    shake(&client, &server).0.assert_ok();
    east_store.replace(east.identity(&[&west]));
    shake(&client, &server).0.assert_ok();

    west_store.replace(west.identity(&[&new_east]));
    shake(&client, &server).0.assert_client_refuses(HandshakeRefusal::UnknownIssuer);
}

#[test]
fn nothing_is_resumed() {
    let (west, east) = clusters();
    let client = tls::client_config(&west.store(&[&east]), &east.name(), ALPN).unwrap();
    let server = tls::server_config(&east.store(&[&west]), AllowedClusters::every_trusted(), ALPN).unwrap();
    for _ in 0..2 {
        let (outcome, pair) = shake(&client, &server);
        outcome.assert_ok();
        assert_eq!(pair.client.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(pair.client.tls13_tickets_received(), 0);
    }
}

#[test]
fn a_chain_that_was_kept_can_be_asked_again() {
    let (west, east) = clusters();
    let (now, chain, link) = (SystemTime::now(), east.svid().chain, Expected::Server(east.name()));
    assert_eq!(check(&west.identity(&[&east]), &link, &chain, now).unwrap(), (east.name(), east.domain.gateway()));
    let refused = check(&west.identity(&[]), &link, &chain, now).unwrap_err();
    assert_eq!(refused.reason, HandshakeRefusal::UnknownIssuer);
    assert_eq!(check(&west.identity(&[&east]), &link, &[], now).unwrap_err().reason, HandshakeRefusal::NoCertificate);
}

#[test]
fn no_bit_of_a_leaf_can_be_changed() {
    let (west, east) = clusters();
    let (identity, link, now) = (west.identity(&[&east]), Expected::Server(east.name()), SystemTime::now());
    let leaf = east.svid().chain.swap_remove(0);
    check(&identity, &link, std::slice::from_ref(&leaf), now).unwrap();
    for position in 0..leaf.len() * 8 {
        let mut changed = leaf.to_vec();
        changed[position / 8] ^= 1 << (position % 8);
        let refused = check(&identity, &link, &[changed.into()], now);
        assert!(refused.is_err(), "bit {position} of {}", leaf.len() * 8);
    }
}

#[test]
fn no_length_of_a_leaf_is_mistaken_for_the_whole() {
    let (west, east) = clusters();
    let (identity, link, now) = (west.identity(&[&east]), Expected::Server(east.name()), SystemTime::now());
    let leaf = east.svid().chain.swap_remove(0).to_vec();
    for length in 0..leaf.len() {
        assert!(check(&identity, &link, &[leaf[..length].to_vec().into()], now).is_err(), "{length}");
    }
    let longer = [leaf.as_slice(), &[0]].concat();
    let refused = check(&identity, &link, &[longer.into()], now).unwrap_err();
    assert_eq!(refused.reason, HandshakeRefusal::Malformed);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let chain = [bytes.into()];
        assert!(peer_identity(Some(&chain)).is_err());
    }
}
