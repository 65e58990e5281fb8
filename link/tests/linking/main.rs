//! Two clusters and whoever may be between them, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "every function here is part of a test, which a panic fails"
)]

mod between;
mod clusters;

use between::{Recorder, TerminatingRelay};
use clusters::{Cluster, Inviting};
use isthmus_certs::Fingerprint;
use isthmus_link::{
    JoinError, Outcome, Refusal, Secret, Token, Unreached, join,
    proof::{Role, prove},
};
use std::time::{Duration, SystemTime};

fn refusal(error: &JoinError) -> Refusal {
    match error {
        JoinError::Refused { refused, .. } => refused.reason,
        other => panic!("another error: {other}"),
    }
}

#[tokio::test]
async fn an_invitation_links_once() {
    let (east, west) = (Cluster::new("east.demo"), Cluster::new("west.demo"));
    let mut east = Inviting::start(east).await;
    let token = east.invite();
    let offered = join(&token, &west.me(&["192.0.2.1:15008"]), |_| Ok(())).await.unwrap();
    assert_eq!(offered.bundle, east.cluster.bundle());
    let granted = east.granted();
    assert_eq!(granted.len(), 1);
    assert_eq!(granted[0].bundle, west.bundle());
    assert_eq!(granted[0].endpoints, ["192.0.2.1:15008".parse().unwrap()]);
    assert!(matches!(east.outcome().await, Outcome::Linked(domain) if domain == west.domain));

    let north = Cluster::new("north.demo");
    let reused = join(&token, &north.me(&[]), |_| Ok(())).await.unwrap_err();
    assert_eq!(refusal(&reused), Refusal::Used);
    let again = join(&token, &west.me(&[]), |_| Ok(())).await.unwrap_err();
    assert_eq!(refusal(&again), Refusal::Used);
    assert_eq!(east.granted().len(), 1);
}

#[tokio::test]
async fn of_two_that_come_at_once_one_is_linked() {
    let east = Inviting::start(Cluster::new("east.demo")).await;
    let (west, north) = (Cluster::new("west.demo"), Cluster::new("north.demo"));
    for _ in 0..5 {
        let token = east.invite();
        let before = east.granted().len();
        let (west, north) = (west.me(&[]), north.me(&[]));
        let (one, two) = tokio::join!(join(&token, &west, |_| Ok(())), join(&token, &north, |_| Ok(())));
        assert!(one.is_ok() != two.is_ok());
        assert_eq!(refusal(&one.err().or(two.err()).unwrap()), Refusal::Used);
        assert_eq!(east.granted().len(), before + 1);
    }
}

#[tokio::test]
async fn an_invitation_that_is_over_is_refused_with_the_inviters_clock() {
    let east = Inviting::start_at(Cluster::new("east.demo"), Duration::from_mins(16)).await;
    let west = Cluster::new("west.demo");
    let token = east.invite();
    let error = join(&token, &west.me(&[]), |_| Ok(())).await.unwrap_err();
    assert_eq!(refusal(&error), Refusal::Expired);
    let JoinError::Refused { clock: Some(clock), .. } = error else { panic!("{error}") };
    assert!(clock > token.expires(), "{clock:?}");
    assert!(east.granted().is_empty());
}

/// Each field of a token, changed as somebody would who makes the checksum fit.
#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused_whatever_was_changed() {
    let east = Inviting::start(Cluster::new("east.demo")).await;
    let west = Cluster::new("west.demo");
    let token = east.invite();
    let tampered = |change: fn(&mut Token)| {
        let mut token = token.clone();
        change(&mut token);
        // It travels as text.
        token.to_string().parse::<Token>().unwrap()
    };
    for token in [tampered(|token| token.id.0[0] ^= 1), tampered(|token| token.secret = Secret([7; 24]))] {
        let error = join(&token, &west.me(&[]), |_| Ok(())).await.unwrap_err();
        assert_eq!(refusal(&error), Refusal::WrongProof);
        assert!(matches!(error, JoinError::Refused { clock: None, .. }), "who proves nothing is told nothing");
    }
    let changes: [fn(&mut Token); 3] = [
        |token| token.ca.0[31] ^= 1,
        |token| token.inviter = "south.demo".parse().unwrap(),
        |token| token.inviter = "east.prod".parse().unwrap(),
    ];
    for change in changes {
        let error = join(&tampered(change), &west.me(&[]), |_| Ok(())).await.unwrap_err();
        let JoinError::Unreachable(attempts) = &error else { panic!("{error}") };
        assert!(matches!(attempts[0].1, Unreached::Stranger(_)), "{error}");
    }
    // The times are the inviter's own: a token cannot make itself last.
    let late = Inviting::start_at(Cluster::new("east.demo"), Duration::from_mins(16)).await;
    let mut lasting = late.invite();
    (lasting.issued, lasting.lifetime) = (SystemTime::now() + Duration::from_hours(24), u16::MAX);
    assert_eq!(refusal(&join(&lasting, &west.me(&[]), |_| Ok(())).await.unwrap_err()), Refusal::Expired);

    assert!(east.granted().is_empty());
    // Nothing of it used the invitation up.
    join(&token, &west.me(&[]), |_| Ok(())).await.unwrap();
}

#[tokio::test]
async fn an_address_that_leads_elsewhere_is_left_for_the_next() {
    let east = Inviting::start(Cluster::new("east.demo")).await;
    let impostor = Inviting::start(Cluster::new("east.demo")).await;
    let west = Cluster::new("west.demo");
    let mut token = east.invite();
    token.endpoints.insert(0, impostor.endpoint());
    token.endpoints.insert(0, "127.0.0.1:1".parse().unwrap());
    let offered = join(&token, &west.me(&[]), |_| Ok(())).await.unwrap();
    assert_eq!(offered.by, east.endpoint());
    assert!(impostor.granted().is_empty());
}

/// Somebody in between with a CA of his own for the right name.
#[tokio::test]
async fn who_terminates_tls_in_between_is_noticed_by_the_joiner() {
    let east = Inviting::start(Cluster::new("east.demo")).await;
    let mallory = Cluster::new("east.demo");
    let relay = TerminatingRelay::start(&mallory, &Cluster::new("west.demo"), &east).await;
    let west = Cluster::new("west.demo");
    let mut token = east.invite();
    token.endpoints = vec![relay.endpoint.clone()];
    let error = join(&token, &west.me(&[]), |_| Ok(())).await.unwrap_err();
    let JoinError::Unreachable(attempts) = &error else { panic!("{error}") };
    assert!(attempts[0].1.to_string().contains("unknown_issuer"), "{error}");
    assert!(east.granted().is_empty());
}

/// The same, with a joiner that was made to take the wrong CA: the proof is of another connection, and does not pass.
#[tokio::test]
async fn who_terminates_tls_in_between_cannot_hand_the_proof_on() {
    let east = Inviting::start(Cluster::new("east.demo")).await;
    let mallory = Cluster::new("east.demo");
    let relay = TerminatingRelay::start(&mallory, &Cluster::new("west.demo"), &east).await;
    let west = Cluster::new("west.demo");
    let good = east.invite();
    let mut token = good.clone();
    token.endpoints = vec![relay.endpoint.clone()];
    token.ca = mallory.ca();
    let error = join(&token, &west.me(&[]), |_| Ok(())).await.unwrap_err();
    assert_eq!(refusal(&error), Refusal::WrongProof);
    assert!(east.granted().is_empty());
    join(&good, &west.me(&[]), |_| Ok(())).await.unwrap();
}

/// Who answers without knowing the secret is sent nothing but a proof that is of no use to him.
#[tokio::test]
async fn an_inviter_has_to_prove_that_it_knows_the_secret() {
    let cluster = Cluster::new("east.demo");
    let east = Inviting::start(cluster.clone()).await;
    let careless = between::Careless::start(&cluster).await;
    let west = Cluster::new("west.demo");
    let mut token = east.invite();
    token.endpoints = vec![careless.endpoint.clone()];
    let asked = std::cell::Cell::new(false);
    let consent = |_: &_| {
        asked.set(true);
        Ok(())
    };
    let error = join(&token, &west.me(&[]), consent).await.unwrap_err();
    assert!(matches!(error, JoinError::Unproven(_)), "{error}");
    assert!(!asked.get());
}

#[tokio::test]
async fn recorded_bytes_are_of_no_use_a_second_time() {
    let mut east = Inviting::start(Cluster::new("east.demo")).await;
    let west = Cluster::new("west.demo");
    let recorder = Recorder::start(&east).await;
    let mut token = east.invite();
    token.endpoints = vec![recorder.endpoint.clone()];
    join(&token, &west.me(&[]), |_| Ok(())).await.unwrap();
    assert!(matches!(east.outcome().await, Outcome::Linked(_)));
    let recorded = recorder.recorded();
    assert!(recorded.len() > 2000, "{}", recorded.len());
    between::replay(&east, &recorded).await;
    let outcome = east.outcome().await;
    assert!(matches!(outcome, Outcome::Broke(_)), "{outcome:?}");
    assert_eq!(east.granted().len(), 1);
}

/// A proof that was seen on another connection, sent on one's own.
#[tokio::test]
async fn a_proof_of_another_connection_is_none() {
    let east = Inviting::start(Cluster::new("east.demo")).await;
    let west = Cluster::new("west.demo");
    let token = east.invite();
    let stale = prove(&token.secret, Role::Joiner, &[9; 32]);
    assert_eq!(between::hello_with(&east, &west, &token, &stale).await, Some(Refusal::WrongProof));
    // Nor does the other role's proof pass for one's own, even for the right connection.
    assert_eq!(between::hello_as_inviter(&east, &west, &token).await, Some(Refusal::WrongProof));
    assert!(east.granted().is_empty());
}

#[tokio::test]
async fn a_joiner_of_another_clusterset_or_of_the_same_name_is_refused_and_uses_nothing_up() {
    let east = Inviting::start(Cluster::new("east.demo")).await;
    let token = east.invite();
    for (domain, reason) in [("west.prod", Refusal::Clusterset), ("east.demo", Refusal::SameName)] {
        let other = Cluster::new(domain);
        let error = join(&token, &other.me(&[]), |_| Ok(())).await.unwrap_err();
        assert_eq!(refusal(&error), reason, "{domain}");
    }
    // Its certificate is not of the CA that it offers.
    let (west, other) = (Cluster::new("west.demo"), Cluster::new("west.demo"));
    let mut me = west.me(&[]);
    me.bundle = other.bundle();
    let error = join(&token, &me, |_| Ok(())).await.unwrap_err();
    assert_eq!(refusal(&error), Refusal::Identity);
    assert!(east.granted().is_empty());
    join(&token, &west.me(&[]), |_| Ok(())).await.unwrap();
}

#[tokio::test]
async fn either_side_can_object_and_nothing_is_used_up() {
    let east = Inviting::start(Cluster::new("east.demo")).await;
    let west = Cluster::new("west.demo");
    let token = east.invite();
    let error = join(&token, &west.me(&[]), |_| Err("not wanted here".into())).await.unwrap_err();
    assert!(error.to_string().contains("not wanted here"));
    east.object("linked by the configuration");
    let error = join(&token, &west.me(&[]), |_| Ok(())).await.unwrap_err();
    assert_eq!(refusal(&error), Refusal::Conflict);
    east.object("");
    join(&token, &west.me(&[]), |_| Ok(())).await.unwrap();
}

#[tokio::test]
async fn garbage_is_refused_and_a_look_is_no_attempt() {
    let mut east = Inviting::start(Cluster::new("east.demo")).await;
    let west = Cluster::new("west.demo");
    let me = west.me(&[]);
    isthmus_link::probe(&me.identity, &east.cluster.domain, east.cluster.ca(), &east.endpoint()).await.unwrap();
    assert!(matches!(east.outcome().await, Outcome::Probed));
    let wrong = isthmus_link::probe(&me.identity, &east.cluster.domain, Fingerprint([0; 32]), &east.endpoint()).await;
    assert!(matches!(wrong, Err(Unreached::Stranger(_))));
    assert!(matches!(east.outcome().await, Outcome::Broke(_)));
    for garbage in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x01\xff", b"\0\0\0\0", b"\0\0\x01\x01"] {
        between::say(&east, &west, garbage).await;
        let outcome = east.outcome().await;
        assert!(matches!(outcome, Outcome::Broke(_)), "{garbage:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_invitation_replaces_the_ca_of_the_cluster_that_it_names_and_of_no_other() {
    let mut east = Inviting::start(Cluster::new("east.demo")).await;
    east.replaces = Some("north".parse().unwrap());
    for (domain, replaces) in [("west.demo", false), ("north.demo", true)] {
        join(&east.invite(), &Cluster::new(domain).me(&[]), |_| Ok(())).await.unwrap();
        assert_eq!(east.granted().last().unwrap().replace, replaces, "{domain}");
    }
}

/// Whoever wants to know whether a gateway is there is not told that none is, only because it had no time for him.
#[tokio::test]
async fn one_that_closes_the_connection_is_not_taken_for_one_that_is_not_there() {
    let (east, west) = (Cluster::new("east.demo"), Cluster::new("west.demo"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
    let me = west.me(&[]);
    let probe = isthmus_link::probe(&me.identity, &east.domain, east.ca(), &endpoint);
    let (found, closed) = tokio::join!(probe, async { listener.accept().await.map(drop) });
    closed.unwrap();
    assert!(matches!(found, Err(Unreached::Closed(_))), "{found:?}");
}
