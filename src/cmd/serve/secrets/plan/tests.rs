use super::{own as plan_own, *};
use isthmus_certs::{Revoked, issue::SVID_LIFETIME};
use isthmus_control_kube::secrets::Kept;
use std::time::Duration;

fn domain(cluster: &str) -> TrustDomain {
    format!("{cluster}.demo").parse().unwrap()
}

fn ca(cluster: &str) -> Authority {
    Authority::create(domain(cluster), SystemTime::now()).unwrap()
}

fn bundle(authority: &Authority) -> TrustAnchors {
    TrustAnchors::from_pem(authority.domain().clone(), authority.to_pem().0.as_bytes()).unwrap()
}

fn kept(data: &[(&str, &str)]) -> Kept {
    let data = data.iter().map(|(key, text)| ((*key).to_owned(), text.as_bytes().to_vec()));
    Kept { data: data.collect(), ..Kept::default() }
}

fn view(secrets: Vec<(&str, Kept)>, links: &[(&str, Option<&str>)]) -> View {
    View {
        secrets: secrets.into_iter().map(|(name, kept)| (name.to_owned(), kept)).collect(),
        links: links.iter().map(|(name, secret)| ((*name).to_owned(), secret.map(str::to_owned))).collect(),
    }
}

/// A Secret after the changes.
fn changed(before: &Kept, changes: &Changes) -> Kept {
    let mut after = before.clone();
    for (key, value) in changes {
        match value {
            Some(value) => drop(after.data.insert(key.clone(), value.clone())),
            None => drop(after.data.remove(key)),
        }
    }
    after
}

#[test]
fn gateways_trust_those_whose_links_name_a_good_secret_and_nobody_else() {
    let (east, south) = (ca("east"), ca("south"));
    let (east_pem, south_pem) = (east.to_pem().0, south.to_pem().0);
    let links = [
        ("east", Some("of-east")),
        // Of another cluster than the link says: nobody can speak for it.
        ("south", Some("of-east")),
        ("north", Some("nowhere")),
        ("plain", None),
        ("west", Some("of-east")),
    ];
    let old = [("north.pem", south_pem.as_str()), ("plain.pem", "old"), ("south.pem", south_pem.as_str())];
    let mut view = view(vec![("of-east", kept(&[(CA, &east_pem)])), (TRUST, kept(&old))], &links);
    let found = trust(&view, &domain("west"));
    let names: Vec<_> = found.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["east", "north", "south"], "one without a Secret, and our own name, say nothing");
    assert_eq!(found[&"east".parse().unwrap()], Trust::By(bundle(&east), None));
    assert!(matches!(&found[&"north".parse().unwrap()], Trust::Missing(why) if why.contains("nowhere")));
    assert!(matches!(&found[&"south".parse().unwrap()], Trust::Broken(why) if why.contains("of-east")));
    let changes = trust_changes(&view, &found);
    let after = changed(&view.secrets[TRUST], &changes);
    let names: Vec<_> = after.data.keys().map(String::as_str).collect();
    assert_eq!(names, ["east.pem", "south.pem"], "what cannot be read now stays as it was");
    assert_eq!(after.data["east.pem"], east_pem.as_bytes());
    view.secrets.insert(TRUST.into(), after);
    assert_eq!(trust_changes(&view, &found), Changes::new());
}

#[test]
fn what_a_peers_ca_has_revoked_goes_to_the_gateways_with_its_bundle() {
    let (east, other) = (ca("east"), ca("east"));
    let list = |authority: &Authority| {
        let revoked = [Revoked { serial: vec![1, 2, 3], since: SystemTime::now() }];
        authority.revocation_list_pem(&revoked, SystemTime::now()).unwrap()
    };
    let pem = east.to_pem().0;
    let secret = |crl: Option<&str>| {
        let crl = crl.map(|crl| (CRL, crl));
        kept(&[(CA, pem.as_str())].into_iter().chain(crl).collect::<Vec<_>>())
    };
    let mut view = view(vec![("of-east", secret(None)), (TRUST, Kept::default())], &[("east", Some("of-east"))]);
    let keep = |view: &mut View| {
        let found = trust(view, &domain("west"));
        let after = changed(&view.secrets[TRUST], &trust_changes(view, &found));
        view.secrets.insert(TRUST.into(), after);
        let names: Vec<_> = view.secrets[TRUST].data.keys().cloned().collect();
        (found[&"east".parse().unwrap()].clone(), names)
    };
    assert_eq!(keep(&mut view).1, ["east.pem"]);
    let good = list(&east);
    view.secrets.insert("of-east".into(), secret(Some(&good)));
    assert_eq!(keep(&mut view).1, ["east.crl", "east.pem"]);
    assert_eq!(view.secrets[TRUST].data["east.crl"], good.as_bytes());
    // One that another CA has signed, and one that is none.
    for bad in [list(&other), "no list".into()] {
        view.secrets.insert("of-east".into(), secret(Some(&bad)));
        let (trust, names) = keep(&mut view);
        assert!(matches!(&trust, Trust::Broken(why) if why.contains(CRL)), "{trust:?}");
        assert_eq!(names, ["east.crl", "east.pem"]);
        assert_eq!(view.secrets[TRUST].data["east.crl"], good.as_bytes(), "what was revoked stays so");
    }
    view.secrets.insert("of-east".into(), secret(None));
    assert_eq!(keep(&mut view).1, ["east.pem"]);
}

#[test]
fn the_gateways_svid_is_renewed_at_half_its_life_and_when_the_ca_is_another() {
    let (west, now) = (ca("west"), SystemTime::now());
    let with = |secret: Kept| view(vec![(GATEWAY, secret)], &[]);
    assert!(!serves(&View::default(), &bundle(&west), now), "there is no Secret");
    assert!(!serves(&with(Kept::default()), &bundle(&west), now), "there is nothing in it");
    let svid = west.issue(&west.domain().gateway(), SVID_LIFETIME, now).unwrap();
    let good = with(changed(&Kept::default(), &gateway(&svid, &bundle(&west))));
    assert!(serves(&good, &bundle(&west), now));
    assert!(serves(&good, &bundle(&west), now + Duration::from_hours(11)));
    assert!(!serves(&good, &bundle(&west), now + Duration::from_hours(13)));
    assert!(!serves(&good, &bundle(&ca("west")), now));
    for key in [CA, SVID, SVID_KEY] {
        let mut broken = good.clone();
        broken.secrets.get_mut(GATEWAY).unwrap().data.remove(key);
        assert!(!serves(&broken, &bundle(&west), now), "{key}");
    }
}

#[test]
fn what_our_own_ca_has_revoked_goes_to_the_gateways_and_ends_their_svid() {
    let (west, other, now) = (ca("west"), ca("west"), SystemTime::now());
    let bundle = bundle(&west);
    let (pem, key) = west.to_pem();
    let svid = west.issue(&west.domain().gateway(), SVID_LIFETIME, now).unwrap();
    let serial = Revoked::serial_of(svid.to_pem().0.as_bytes(), west.certificate()).unwrap();
    let list = |authority: &Authority, serial: Vec<u8>| {
        authority.revocation_list_pem(&[Revoked { serial, since: now }], now).unwrap()
    };
    let of_ca = |list: Option<&str>| {
        let whole = [(CA, pem.as_str()), (CA_KEY, &key)];
        kept(&whole.into_iter().chain(list.map(|list| (CRL, list))).collect::<Vec<_>>())
    };
    let gateways = changed(&Kept::default(), &gateway(&svid, &bundle));
    let mut view = view(vec![("our-ca", of_ca(None)), (GATEWAY, gateways)], &[]);
    assert_eq!(revoked(&view, "our-ca", &bundle), Ok(None));
    assert_eq!(revoked_changes(&view, None), Changes::new());
    // Of another certificate: the gateways are told, and go on.
    let mut theirs = serial.clone();
    theirs[0] ^= 0x10;
    let good = list(&west, theirs);
    view.secrets.insert("our-ca".into(), of_ca(Some(&good)));
    let known = revoked(&view, "our-ca", &bundle).unwrap();
    assert_eq!(known.as_deref(), Some(good.as_bytes()));
    let after = changed(&view.secrets[GATEWAY], &revoked_changes(&view, known.as_ref()));
    assert_eq!(after.data[CRL], good.as_bytes());
    view.secrets.insert(GATEWAY.into(), after);
    assert_eq!(revoked_changes(&view, known.as_ref()), Changes::new());
    let by = |text: &str| bundle.clone().with_revocations_from_pem(text.as_bytes()).unwrap();
    assert!(serves(&view, &by(&good), now));
    assert!(!serves(&view, &by(&list(&west, serial)), now), "it is the gateways' own that is revoked");
    // One that another CA has signed, one that is none, and no Secret at all: what was revoked stays so.
    for bad in [list(&other, vec![1]), "no list".into()] {
        view.secrets.insert("our-ca".into(), of_ca(Some(&bad)));
        assert!(revoked(&view, "our-ca", &bundle).unwrap_err().starts_with("the Secret our-ca: crl.pem: "));
    }
    assert!(revoked(&view, "nowhere", &bundle).unwrap_err().contains("found no Secret nowhere"));
    // Taken back.
    assert_eq!(revoked_changes(&view, None), Changes::from([(CRL.to_owned(), None)]));
}

#[test]
fn a_secret_of_a_ca_is_whole_or_empty() {
    let (west, own) = (ca("west"), |data: &Data| plan_own(data, &domain("west")));
    assert!(own(&Data::new()).unwrap().is_none());
    let whole = changed(&Kept::default(), &authority(&west)).data;
    let (found, certificates) = own(&whole).unwrap().unwrap();
    assert_eq!((found.certificate(), certificates), (west.certificate(), bundle(&west)));
    for key in [CA, CA_KEY] {
        let mut half = whole.clone();
        half.remove(key);
        assert!(own(&half).unwrap_err().contains("alone"), "{key}");
    }
    let other = changed(&Kept::default(), &authority(&ca("east"))).data;
    assert!(own(&other).unwrap_err().contains("east"));
}

#[test]
fn invitations_are_told_by_their_label_and_forgotten_a_day_after_their_end() {
    let now = SystemTime::now();
    let invite = Invite::generate(now, None).unwrap();
    let name = invitation(&invite.id.to_string());
    let secret = Kept { is_invite: true, ..kept(&[(INVITE_KEY, &invite.to_json())]) };
    let unlabelled = Kept { is_invite: false, ..secret.clone() };
    let damaged = Kept { is_invite: true, ..kept(&[(INVITE_KEY, "{}")]) };
    let all = view(vec![(&name, secret), ("other", unlabelled), (&invitation("0011223344556677"), damaged)], &[]);
    let (found, over) = invites(&all, now);
    assert_eq!((found, over.len()), (vec![invite], 0));
    let (found, over) = invites(&all, now + Duration::from_hours(25));
    assert_eq!((found, over), (vec![], vec![name.clone()]));
}

#[test]
fn no_new_ca_is_made_for_a_cluster_that_others_trust_by_the_old_one() {
    assert_eq!(may_create(false, &[]), Ok(()));
    let refused = may_create(false, &["east".into(), "north".into()]).unwrap_err();
    assert!(refused.starts_with("found no CA, and ClusterLinks (east, north), expected the CA "), "{refused}");
    assert!(may_create(true, &[]).unwrap_err().contains("in the Secret isthmus-trust"));
}
