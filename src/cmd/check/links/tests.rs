use super::*;
use crate::cmd::check::{line::Mark, samples};
use serde_json::json;

fn probe() -> LinksProbe {
    let tunnel = TunnelProbe {
        core: 0,
        transport: "tls".into(),
        gateway: "0000000000000001".into(),
        answered_ms: Some(1.25),
        echoed_ms: Some(2.5),
        error: None,
    };
    let links = vec![LinkProbe { cluster: "east".into(), tunnels: vec![tunnel] }];
    LinksProbe { links, silent_cores: Vec::new() }
}

fn lines_of(change: impl FnOnce(&mut Value), probe: &LinksProbe) -> Vec<Line> {
    lines(&samples::status(change), Ok(probe), None, samples::now())
}

/// What failed: the checks, with what each found and its fix.
fn failed(change: impl FnOnce(&mut Value), probe: &LinksProbe) -> Vec<(&'static str, String)> {
    let failed = lines_of(change, probe).into_iter().filter(|line| line.mark == Mark::Failed);
    failed.map(|line| (line.check, format!("{} → {}", line.found.unwrap(), line.fix.unwrap()))).collect()
}

#[test]
fn a_link_that_is_well_has_nothing_but_ticks() {
    let lines = lines_of(|_| (), &probe());
    assert!(lines.iter().all(|line| line.mark == Mark::Ok), "{lines:?}");
    assert_eq!(lines.len(), 6);
    let stream = lines.last().unwrap().found.clone().unwrap();
    assert_eq!(stream, "1 tunnel, answer in 1.2 ms, 32 KiB there and back in 2.5 ms");
}

#[test]
fn a_link_that_is_down_says_why_and_nothing_else_of_it_gets_a_tick() {
    let change = |status: &mut Value| {
        status["links"][0]["state"] = json!("down");
        status["links"][0]["message"] = json!("handshake: not_yet_valid: found this, expected that");
    };
    let lines = lines_of(change, &LinksProbe::default());
    assert!(lines.iter().all(|line| line.mark != Mark::Ok), "{lines:?}");
    let [(check, words)] = failed(change, &LinksProbe::default()).try_into().unwrap();
    assert_eq!(check, "link.tunnel");
    assert!(words.starts_with("down: handshake: not_yet_valid") && words.contains("compare the clocks"), "{words}");
}

/// Whatever was said of it before: a link that waits has no message, and one that failed has that of its last attempt.
#[test]
fn a_bundle_that_is_missing_is_named_by_its_file_with_the_commands_that_bring_it() {
    for (state, message) in [("down", json!("connection refused")), ("waiting", json!(null)), ("dialling", json!(null))]
    {
        let change = |status: &mut Value| {
            (status["links"][0]["state"], status["links"][0]["message"]) = (json!(state), message);
            status["identity"]["trusts"] = json!(["north"]);
        };
        let [(check, words)] = failed(change, &LinksProbe::default()).try_into().unwrap();
        let (found, fix) = words.split_once(" → ").unwrap();
        assert_eq!(check, "link.tunnel");
        assert!(
            found.starts_with(state) && found.ends_with("expected them in /etc/isthmus/west/bundles/east.pem"),
            "{found}"
        );
        assert!(fix.starts_with("isthmus identity trust --identity /etc/isthmus/west --cluster east "), "{fix}");
    }
}

#[test]
fn who_waits_to_be_dialled_is_told_what_is_missing() {
    let change = |status: &mut Value| status["links"][0]["state"] = json!("waiting");
    let [(_, words)] = failed(change, &LinksProbe::default()).try_into().unwrap();
    assert!(words.contains("start the gateway of east"), "{words}");
}

#[test]
fn a_degraded_link_fails_and_one_that_has_something_to_tell_does_not() {
    let say = |message: &'static str, degraded: bool| {
        move |status: &mut Value| {
            status["links"][0]["message"] = json!(message);
            status["links"][0]["degraded"] = json!(degraded);
        }
    };
    let lossy = "the path loses 3.0% of what goes there, 0.0% of what comes back";
    let [(check, words)] = failed(say(lossy, true), &probe()).try_into().unwrap();
    assert!(check == "link.path" && words.contains(lossy), "{words}");
    let old = "the peer speaks revision 0 of isthmus/1, this gateway revision 1; older";
    assert_eq!(failed(say(old, false), &probe()), []);
    let told = lines_of(say(old, false), &probe());
    assert!(told.iter().any(|line| line.check == "link.path" && line.found.as_deref() == Some(old)), "{told:?}");
}

#[test]
fn clocks_have_a_line_of_their_own() {
    let change = |status: &mut Value| {
        let link = &mut status["links"][0];
        link["clock_ahead_seconds"] = json!(-60.0);
        link["message"] = json!("the clocks differ: the peer's is 60 s behind this one");
        link["degraded"] = json!(true);
    };
    let [(check, words)] = failed(change, &probe()).try_into().unwrap();
    assert!(check == "link.clock" && words.contains("60 s behind"), "{words}");
}

#[test]
fn an_exchange_that_does_not_get_on_fails_in_either_direction() {
    for direction in ["received", "sent"] {
        let change = |status: &mut Value| status["control"]["peers"]["east"][direction] = json!("syncing");
        assert_eq!(failed(change, &probe())[0].0, "link.exchange");
    }
    let change = |status: &mut Value| status["control"]["peers"]["east"]["error"] = json!("it was refused");
    assert!(failed(change, &probe())[0].1.starts_with("it was refused"));
}

#[test]
fn a_link_that_is_up_and_carries_nothing_fails() {
    let mut silent = probe();
    silent.links[0].tunnels[0].error = Some("the peer did not give back what it was sent within 5 s".into());
    let [(check, words)] = failed(|_| (), &silent).try_into().unwrap();
    assert!(check == "link.stream" && words.starts_with("1 of 1 tunnel failed"), "{words}");
    assert_eq!(failed(|_| (), &LinksProbe::default())[0].0, "link.stream");
}

#[test]
fn what_could_not_be_tried_gets_no_tick() {
    let lines = lines(&samples::status(|_| ()), Err("too many probes"), None, samples::now());
    let stream = lines.last().unwrap();
    assert_eq!((stream.mark, stream.found.as_deref()), (Mark::Skipped, Some("too many probes")));
}

#[test]
fn one_link_alone_can_be_asked_for() {
    assert!(lines(&samples::status(|_| ()), Ok(&probe()), Some("north"), samples::now()).is_empty());
}
