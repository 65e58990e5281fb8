//! Certificates that their CA has revoked.

use super::{
    directory::{fresh, trust},
    forge::{Cluster, leaf},
    pair::shake,
};
use crate::{
    AllowedClusters, Authority, Directory, HandshakeRefusal, Identity, IdentityStore, Revoked, Svid, TrustAnchors, pem,
    tls,
    verify::{Expected, check},
    watch::keeper::Keeper,
    x509::Facts,
};
use rcgen::{BasicConstraints, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::{
    fs,
    time::{Duration, SystemTime},
};
use x509_parser::prelude::{FromDer, X509Certificate};

fn revoked(svid: &Svid) -> Revoked {
    let serial = Revoked::parse_serial(&Facts::read(&svid.chain[0]).unwrap().serial).unwrap();
    Revoked { serial, since: SystemTime::now() }
}

fn list(of: &Cluster, svids: &[&Svid]) -> rustls_pki_types::CertificateRevocationListDer<'static> {
    let revoked: Vec<_> = svids.iter().map(|svid| revoked(svid)).collect();
    of.authority.revocation_list(&revoked, SystemTime::now()).unwrap()
}

fn bundle(of: &Cluster, svids: &[&Svid]) -> TrustAnchors {
    of.bundle().with_revocations(vec![list(of, svids)]).unwrap()
}

fn checked(identity: &Identity, peer: &Cluster, svid: &Svid) -> Result<(), HandshakeRefusal> {
    let expected = Expected::Server(peer.name());
    check(identity, &expected, &svid.chain, SystemTime::now()).map(drop).map_err(|refused| refused.reason)
}

#[test]
fn a_revoked_svid_is_refused_and_no_other() {
    let [west, east] = ["west.demo", "east.demo"].map(Cluster::new);
    let (stolen, other) = (west.svid(), west.svid());
    let identity = Identity::new(east.svid(), [bundle(&west, &[&stolen])]).unwrap();
    assert_eq!(checked(&identity, &west, &stolen), Err(HandshakeRefusal::Revoked));
    assert_eq!(checked(&identity, &west, &other), Ok(()));
    let identity = Identity::new(east.svid(), [bundle(&west, &[])]).unwrap();
    assert_eq!(checked(&identity, &west, &stolen), Ok(()), "a list of nothing");
}

#[test]
fn a_list_counts_beyond_its_own_end() {
    let [west, east] = ["west.demo", "east.demo"].map(Cluster::new);
    let stolen = west.svid_issued(SystemTime::now(), Duration::from_hours(24 * 9000));
    let identity = Identity::new(east.svid(), [bundle(&west, &[&stolen])]).unwrap();
    let check = |now| check(&identity, &Expected::Server(west.name()), &stolen.chain, now).unwrap_err().reason;
    assert_eq!(check(SystemTime::now() + Duration::from_hours(24 * 3000)), HandshakeRefusal::Revoked);
}

#[test]
fn handshakes_of_either_side_end_with_it() {
    let [west, east] = ["west.demo", "east.demo"].map(Cluster::new);
    for dialler_is_revoked in [true, false] {
        let (wests, easts) = (west.svid(), east.svid());
        let of_west = if dialler_is_revoked { bundle(&west, &[&wests]) } else { west.bundle() };
        let of_east = if dialler_is_revoked { east.bundle() } else { bundle(&east, &[&easts]) };
        let west = IdentityStore::new(Identity::new(wests, [of_east]).unwrap());
        let east = IdentityStore::new(Identity::new(easts, [of_west]).unwrap());
        let client = tls::client_config(&west, &"east".parse().unwrap(), &[b"isthmus/1"]).unwrap();
        let server = tls::server_config(&east, AllowedClusters::new(|_| true), &[b"isthmus/1"]).unwrap();
        let outcome = shake(&client, &server).0;
        if dialler_is_revoked {
            outcome.assert_server_refuses(HandshakeRefusal::Revoked);
        } else {
            outcome.assert_client_refuses(HandshakeRefusal::Revoked);
        }
    }
}

#[test]
fn only_the_cas_own_lists_are_taken() {
    let [west, east] = ["west.demo", "east.demo"].map(Cluster::new);
    let foreign = west.bundle().with_revocations(vec![list(&east, &[])]).unwrap_err().to_string();
    assert!(foreign.contains("expected one of a CA whose certificate is in the bundle"), "{foreign}");
    let mut forged = list(&west, &[]).to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let refused = west.bundle().with_revocations(vec![forged.into()]).unwrap_err().to_string();
    assert!(refused.contains("expected one that this CA has signed"), "{refused}");
    assert!(west.bundle().with_revocations(vec![vec![0x30, 0].into()]).is_err());
}

/// Another CA of that name, as operators make one who keep the name and change the key.
fn rekeyed(of: &Cluster) -> Cluster {
    let subject = Facts::read(of.authority.certificate()).unwrap().subject;
    let (_, parsed) = X509Certificate::from_der(of.authority.certificate()).unwrap();
    let mut name = DistinguishedName::new();
    for part in parsed.subject().iter_attributes() {
        let kind = DnType::CustomDnType(part.attr_type().iter().unwrap().collect());
        name.push(kind, part.as_str().unwrap());
    }
    let mut params = leaf(&[of.domain.id().as_str()]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = name;
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let authority = Authority::load(certificate.into(), &key).unwrap();
    assert_eq!(Facts::read(authority.certificate()).unwrap().subject, subject);
    Cluster { domain: of.domain.clone(), authority }
}

#[test]
fn a_ca_with_a_new_key_is_not_bound_by_lists_of_the_old_one() {
    let [old, east] = ["west.demo", "east.demo"].map(Cluster::new);
    let new = rekeyed(&old);
    let both = [&old, &new].map(|of| of.authority.certificate().clone()).to_vec();
    let bundle = |lists| TrustAnchors::new(old.domain.clone(), both.clone()).unwrap().with_revocations(lists).unwrap();
    let (stolen, stolen_later) = (old.svid(), new.svid_issued(SystemTime::now(), Duration::from_mins(10)));
    let fresh = new.svid_issued(SystemTime::now(), Duration::from_mins(10));
    let identity = Identity::new(east.svid(), [bundle(vec![list(&old, &[&stolen])])]).unwrap();
    assert_eq!(checked(&identity, &old, &stolen), Err(HandshakeRefusal::Revoked));
    assert_eq!(checked(&identity, &old, &fresh), Ok(()));
    // Each has its own.
    let lists = vec![list(&old, &[&stolen]), list(&new, &[&stolen_later])];
    let identity = Identity::new(east.svid(), [bundle(lists)]).unwrap();
    assert_eq!(checked(&identity, &old, &stolen), Err(HandshakeRefusal::Revoked));
    assert_eq!(checked(&identity, &old, &stolen_later), Err(HandshakeRefusal::Revoked));
    assert_eq!(checked(&identity, &old, &fresh), Ok(()));
    let twice = TrustAnchors::new(old.domain.clone(), both).unwrap();
    let twice = twice.with_revocations(vec![list(&new, &[]), list(&new, &[&fresh])]).unwrap_err().to_string();
    assert!(twice.contains("two revocation lists"), "{twice}");
}

fn write(directory: &Directory, of: &Cluster, svids: &[&Svid]) {
    fs::write(directory.crl_path(&of.name()), pem::encode_list(&list(of, svids))).unwrap();
}

#[test]
fn a_list_is_taken_over_as_it_comes_whatever_is_wrong_with_other_files() {
    let (_parent, directory) = fresh("east.demo");
    let [west, north] = ["west.demo", "north.demo"].map(Cluster::new);
    trust(&directory, &west);
    let (first, second) = (west.svid(), west.svid());
    let now = SystemTime::now();
    let mut keeper = Keeper::open(directory.clone(), now, || 0.5).unwrap();
    let store = keeper.store().clone();
    let is_refused = |svid: &Svid| checked(&store.current(), &west, svid) == Err(HandshakeRefusal::Revoked);
    assert!(!is_refused(&first));
    write(&directory, &west, &[&first]);
    keeper.tick(now, || 0.5);
    assert!(is_refused(&first) && !is_refused(&second));
    fs::write(directory.bundle_path(&north.name()), "no certificate").unwrap();
    write(&directory, &west, &[&first, &second]);
    keeper.tick(now, || 0.5);
    assert!(is_refused(&second) && store.status().last_error.is_some());
    // One that is wrong changes nothing.
    write(&directory, &north, &[]);
    fs::rename(directory.crl_path(&north.name()), directory.crl_path(&west.name())).unwrap();
    keeper.tick(now, || 0.5);
    assert!(is_refused(&first) && is_refused(&second));
    fs::remove_file(directory.bundle_path(&north.name())).unwrap();
    fs::remove_file(directory.crl_path(&west.name())).unwrap();
    keeper.tick(now, || 0.5);
    assert!(!is_refused(&first), "who takes the list away trusts again");
}

#[test]
fn a_cluster_revokes_what_its_ca_has_signed() {
    let (_parent, directory) = fresh("west.demo");
    let now = SystemTime::now();
    let serial = |directory: &Directory| Revoked::parse_serial(directory.load().unwrap().serial()).unwrap();
    let first = serial(&directory);
    assert_eq!(directory.revoke(std::slice::from_ref(&first), now).unwrap().unwrap().len(), 1);
    let text = fs::read(directory.path().join("svid.pem")).unwrap();
    let issuer = directory.authority().unwrap().unwrap().certificate().clone();
    assert_eq!(Revoked::serial_of(&text, &issuer).unwrap(), first);
    let all = directory.revoke(&[vec![7], first.clone()], now).unwrap().unwrap();
    assert_eq!(all.iter().map(|of| &of.serial).collect::<Vec<_>>(), [&first, &vec![7]]);
    // A peer takes the list.
    let (_parent, peer) = fresh("east.demo");
    peer.trust(&"west".parse().unwrap(), &directory.ca_path()).unwrap();
    let taken = peer.trust_revocations(&"west".parse().unwrap(), &directory.own_crl_path()).unwrap();
    assert_eq!(taken.revocations().revoked().count(), 2);
    let stranger = Cluster::new("east.demo");
    assert!(Revoked::serial_of(&text, stranger.authority.certificate()).is_err());
    for bad in ["", "0", "zz", "+1", "ab:c", &"ab".repeat(22)] {
        assert!(Revoked::parse_serial(bad).is_err(), "{bad:?}");
    }
}
