use super::*;
use isthmus_certs::{Authority, Directory, Fingerprint, TrustDomain};
use isthmus_link::{InviteId, Secret, Unreached};
use std::{fs, time::Duration};

fn here() -> (tempfile::TempDir, Here) {
    let parent = tempfile::tempdir().unwrap();
    let domain: TrustDomain = "west.demo".parse().unwrap();
    Directory::init(parent.path().join("id"), domain, Duration::from_hours(24), SystemTime::now()).unwrap();
    let path = parent.path().join("isthmus.yaml");
    fs::write(&path, "clusterset: demo\ncluster: west\nidentity: id\n").unwrap();
    let here = Here::open(&ConfigFile { path }).unwrap();
    (parent, here)
}

fn token(inviter: &str, ca: Fingerprint) -> Token {
    Token {
        id: InviteId([1; 8]),
        secret: Secret([2; 24]),
        ca,
        issued: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        lifetime: 900,
        inviter: inviter.parse().unwrap(),
        endpoints: vec!["203.0.113.7:15008".parse().unwrap()],
    }
}

#[test]
fn what_cannot_be_linked_is_told_without_a_connection() {
    let (_parent, here) = here();
    let own = Fingerprint::of(here.bundle.certificates().next().unwrap());
    let other = Fingerprint([0; 32]);
    assert!(check(&token("east.demo", other), here.domain(), &here.bundle).is_ok());
    for (token, why) in [
        (token("west.demo", own), "this invitation is west's own"),
        (token("west.demo", other), "both clusters are called west"),
        (token("east.prod", other), "east in the clusterset prod, and this cluster, west, is in demo"),
    ] {
        let refused = check(&token, here.domain(), &here.bundle).unwrap_err();
        assert!(refused.message().contains(why), "{}", refused.message());
    }
}

#[test]
fn an_invitation_that_is_over_says_both_clocks() {
    let token = token("east.demo", Fingerprint([0; 32]));
    let by = token.endpoints[0].clone();
    let refused = isthmus_link::Refused::new(Refusal::Expired, "the invitation is over");
    let clock = Some(token.expires() + Duration::from_secs(60));
    let now = token.issued - Duration::from_hours(1);
    let said = explain(&JoinError::Refused { by: by.clone(), refused, clock }, &token, now);
    for part in ["made 2027-01-15T08:00:00Z", "says 2027-01-15T08:16:00Z", "this machine's says 2027-01-15T07:00:00Z"] {
        assert!(said.message().contains(part), "{part}: {}", said.message());
    }
    let unreachable = JoinError::Unreachable(vec![(by, Unreached::Timeout)]);
    let said = explain(&unreachable, &token, token.expires() + Duration::from_secs(1));
    assert!(said.message().contains("the invitation was over 2027-01-15T08:15:00Z"), "{}", said.message());
    let said = explain(&unreachable, &token, token.issued);
    assert!(said.message().contains("invite here and join there"), "{}", said.message());
}

#[test]
fn a_token_can_come_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, "isthmus1_x\n").unwrap();
    let args = Args {
        cluster: Cluster { context: None, kubeconfig: None, namespace: "isthmus-system".into() },
        token: None,
        token_file: Some(path),
        config: ConfigFile { path: "x".into() },
        endpoints: Vec::new(),
        replace: false,
        output: Output::default(),
    };
    assert_eq!(args.token().unwrap(), "isthmus1_x\n");
}

/// Somebody else's token in the name of a cluster that is linked: its CA comes with the real one, which everybody can read.
#[test]
fn a_ca_that_the_inviter_merely_names_is_no_reason_to_trust_another() {
    let (_parent, here) = here();
    let (domain, now) = ("east.demo".parse::<TrustDomain>().unwrap(), SystemTime::now());
    let [east, mallory] = [0, 1].map(|_| Authority::create(domain.clone(), now).unwrap());
    let bundle = |cas: &[&Authority]| {
        TrustAnchors::new(domain.clone(), cas.iter().map(|ca| ca.certificate().clone()).collect()).unwrap()
    };
    linking::link(&here.directory, &bundle(&[&east]), &[]).unwrap();
    let token = |ca: &Authority| token("east.demo", Fingerprint::of(ca.certificate()));
    let refused = plan(&here, &token(&mallory), &bundle(&[&mallory, &east]), false).unwrap_err();
    assert!(refused.contains("--replace"), "{refused}");
    // The real one, which gives another besides: trust stays as it is.
    let renewed = plan(&here, &token(&east), &bundle(&[&east, &mallory]), false).unwrap();
    assert_eq!(renewed, Plan { change: Change::Renewed, bundle: bundle(&[&east]) });
}
