use super::*;
use crate::status::AddressStatus;
use std::sync::Arc;

fn well(gateways: &GatewaysStatus) -> Facts<'_> {
    Facts {
        state: LinkWord::Up,
        gateways,
        failed: None,
        lookup: None,
        declined: None,
        small: false,
        loss: [Some(0.001), None],
        ahead: Some(-300),
        revision: Some(REVISION),
        broken: None,
        refused: None,
        control: None,
    }
}

fn said(facts: &Facts<'_>) -> (String, bool) {
    let (message, degraded) = say(facts);
    (message.unwrap_or_default(), degraded)
}

#[test]
fn a_link_that_is_well_says_nothing() {
    let gateways = GatewaysStatus::default();
    assert_eq!(say(&well(&gateways)), (None, false));
    // An attempt that failed before does not matter any more.
    assert_eq!(say(&Facts { failed: Some("refused"), ..well(&gateways) }), (None, false));
}

#[test]
fn each_trouble_has_its_words() {
    let gateways = GatewaysStatus::default();
    let well = || well(&gateways);
    let lossy = said(&Facts { loss: [Some(0.05), Some(0.0)], ..well() });
    assert_eq!(lossy, ("the path loses 5.0% of what goes there, 0.0% of what comes back".into(), true));
    let behind = said(&Facts { ahead: Some(-61_000), ..well() });
    assert_eq!(behind, ("the clocks differ: the peer's is 61 s behind this one".into(), true));
    let (old, degraded) = said(&Facts { revision: Some(0), ..well() });
    assert!(old.starts_with("the peer speaks revision 0 of isthmus/1, this gateway revision 1; older") && !degraded);
    let (new, _) = said(&Facts { revision: Some(9), ..well() });
    assert!(new.contains("revision 9 of isthmus/1, this gateway revision 1; newer"), "{new}");
    let (declined, degraded) = said(&Facts { declined: Some((85, 43)), ..well() });
    assert!(declined.contains("takes 85 tunnels of this gateway, 43 fewer") && !degraded, "{declined}");
    let (small, degraded) = said(&Facts { small: true, ..well() });
    assert!(small.contains("large packets vanish") && degraded);
    assert_eq!(said(&Facts { lookup: Some("cannot look up gw"), ..well() }), ("cannot look up gw".into(), true));
    let silent = Facts { state: LinkWord::Unresponsive, failed: Some("old"), ..well() };
    assert_eq!(said(&silent), ("the peer does not answer".into(), false));
    let refused = Facts { state: LinkWord::Waiting, refused: Some("not_yet_valid"), ..well() };
    assert_eq!(said(&refused).0, "somebody who claims to be of this cluster was refused: not_yet_valid");
}

#[test]
fn tunnels_that_broke_degrade_a_link_for_a_minute() {
    let gateways = GatewaysStatus::default();
    let broken = |ago| Broken { times: 3, ago: Duration::from_secs(ago), why: Arc::from("the peer does not answer") };
    let (now, then) = (broken(7), broken(100));
    let words = |ago| format!("3 tunnels broke within 10 min, the last {ago} s ago: the peer does not answer");
    assert_eq!(said(&Facts { broken: Some(&now), ..well(&gateways) }), (words(7), true));
    assert_eq!(said(&Facts { broken: Some(&then), ..well(&gateways) }), (words(100), false));
}

#[test]
fn everything_is_said_the_worst_first() {
    let down = AddressStatus { address: "192.0.2.3:1".into(), gateways: vec![], message: Some("refused".into()) };
    let gateways = GatewaysStatus { reached: 1, known: 2, addresses: vec![down] };
    let facts = Facts { lookup: Some("no name"), control: Some("no words"), ..well(&gateways) };
    let expected = "no name; 1 of 2 gateways are reached; 192.0.2.3:1: refused; no words";
    assert_eq!(said(&facts), (expected.into(), true));
    let down = Facts { state: LinkWord::Down, failed: Some("refused"), ..facts };
    assert_eq!(said(&down), ("refused; no name; no words".into(), false));
}
