//! Control and gateways as processes of their own: each may die, stall or be refused, and traffic goes on.

use isthmus_tests::{
    Config, Gateway, Load, Nginx, Part, Surroundings, Topology,
    apart::{self, Apart},
    check, eventually, identity,
    load::Reuse,
    pair::{self, SERVICE},
    several,
    topology::{gateway, pod},
};
use serde_json::Value;

/// West imports what east exports; each has one control and two gateways, and west's dial.
struct Both<'t> {
    topology: &'t Topology,
    west: Apart<'t>,
    east: Apart<'t>,
    _served: [Nginx; 2],
}

impl<'t> Both<'t> {
    fn start(topology: &'t Topology) -> Self {
        let served =
            apart::of(topology, "east").map(|at| Nginx::start(at.pods(), at.dir(), pair::endpoint(), "served"));
        let east = Apart::start(topology, "east", &east_config(topology, 1));
        let west = Apart::start(topology, "west", &west_config(topology));
        let both = Self { topology, west, east, _served: served };
        both.wait_served(1);
        both
    }

    /// Waits until both of west's gateways know of so many endpoints in east.
    fn wait_served(&self, ready: u32) {
        self.west.gateways.iter().for_each(|gateway| wait_ready_in_east(gateway, ready));
    }
}

fn west_config(topology: &Topology) -> Config {
    apart::linked(topology, apart::config(topology, "west"), "east", true).imports(SERVICE, pair::import())
}

/// East with so many endpoints, of which the first serves.
fn east_config(topology: &Topology, endpoints: u8) -> Config {
    let endpoints: Vec<_> = (0..endpoints).map(|n| pod(2 + n, 8080)).collect();
    apart::linked(topology, apart::config(topology, "east"), "west", false).exports(SERVICE, &endpoints)
}

fn wait_ready_in_east(gateway: &Gateway<'_>, ready: u32) {
    eventually(&format!("{} knows of {ready} endpoints in east", gateway.cluster().name()), || {
        let status = gateway.status();
        let found = import(&status)["clusters"]["east"].as_u64();
        if found == Some(ready.into()) { Ok(()) } else { Err(status.to_string()) }
    });
}

fn import(status: &Value) -> Value {
    let services = status["services"].as_array().cloned().unwrap_or_default();
    services.into_iter().find(|service| service["kind"] == "import").unwrap_or_default()
}

fn load(gateway: &Gateway<'_>) -> Load {
    let at = gateway.cluster();
    Load::start(at.pods(), at.tasks(), pair::import(), 4, Reuse::ConnectionPerRequest, "served")
}

fn wait_attachment(gateway: &Gateway<'_>, what: &str, wanted: impl Fn(&Value) -> bool) {
    eventually(&format!("{}: {what}", gateway.cluster().name()), || {
        let attachment = gateway.status()["control"]["attachment"].clone();
        if wanted(&attachment) { Ok(()) } else { Err(attachment.to_string()) }
    });
}

/// Waits until a control has its newest table on disk: it writes twice a second at most.
fn wait_kept(control: &Gateway<'_>, name: &str) {
    let file = control.cluster().dir().join(format!("{name}-state/last-good.json"));
    eventually(&format!("{name}'s newest table is on disk"), || {
        let version = control.status()["table"]["version"].to_string();
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        if text.contains(&format!("\"table\":{{\"version\":{version},")) { Ok(()) } else { Err(text) }
    });
}

/// Control dies under load, a gateway starts without it, and it is back: nobody's request fails, and nobody is told everything again.
#[test]
fn traffic_goes_on_without_control() {
    let topology = several::topology(2, 2);
    let mut both = Both::start(&topology);
    let report = check::wait_well(&both.west.control);
    assert_eq!(check::marks(&report, "link.stream"), ["skipped"], "a control has no tunnels: {report}");
    let report = check::wait_well(&both.west.gateways[0]);
    assert_eq!(check::marks(&report, "link.stream"), ["ok"], "{report}");
    let loads = [load(&both.west.gateways[0]), load(&both.west.gateways[1])];
    loads.iter().for_each(|load| load.wait_for(200));
    wait_kept(&both.west.control, "west");
    wait_kept(&both.east.control, "east");
    both.west.control.kill();
    both.east.control.kill();
    for gateway in both.west.gateways.iter().chain(&both.east.gateways) {
        wait_attachment(gateway, "it is not attached", |attachment| attachment["attached"] == false);
        check::wait_named(gateway, "gateway of", &["not attached to"]);
    }
    loads.iter().for_each(|load| load.wait_for(200));
    let [first, second] = loads;
    first.stop().assert_no_failure();
    both.west.gateways[0].restart();
    both.east.gateways[1].restart();
    wait_ready_in_east(&both.west.gateways[0], 1);
    let first = load(&both.west.gateways[0]);
    [&first, &second].iter().for_each(|load| load.wait_for(200));
    both.west.control.restart();
    both.east.control.restart();
    for cluster in [&both.west, &both.east] {
        cluster.wait_attached(2);
        let metrics = cluster.control.metrics();
        assert_eq!(metrics.sum("isthmus_push_updates_total", &["kind=\"snapshot\""]), 0.0);
        assert!(metrics.sum("isthmus_push_updates_total", &["kind=\"delta\""]) >= 2.0);
        assert_eq!(metrics.sum("isthmus_push_gateways", &[]), 2.0);
    }
    both.wait_served(1);
    // It rules again.
    both.east.control.configure(&east_config(both.topology, 2));
    both.wait_served(2);
    both.east.control.configure(&east_config(both.topology, 1));
    both.wait_served(1);
    first.wait_for(400);
    first.stop().assert_no_failure();
    // The gateway of east that was restarted cut off what went through it, and nothing else failed.
    let outcome = second.stop();
    assert!(outcome.failed <= 4, "{outcome:?}");
}

/// Both gateways of west are gone at the same time: what control knows of east stays, as east has said nothing else.
#[test]
fn control_keeps_what_it_knows_while_its_gateways_are_away() {
    let topology = several::topology(2, 2);
    let mut both = Both::start(&topology);
    both.west.gateways.iter_mut().for_each(Gateway::kill);
    both.west.wait_push("its gateways are gone", |push| {
        push["gateways"].as_array().is_some_and(Vec::is_empty)
            && push["away"].as_array().is_some_and(|all| all.len() == 2)
    });
    let status = both.west.control.status();
    assert_eq!(status["control"]["peers"]["east"]["up"], true, "{status}");
    assert_eq!(import(&status)["clusters"]["east"], 1, "{status}");
    both.west.gateways.iter_mut().for_each(Gateway::restart);
    both.west.wait_attached(2);
    // Those that are back are believed: what east exports now comes through them.
    both.east.control.configure(&east_config(&topology, 2));
    both.wait_served(2);
    // A peer that gateways lose is another matter.
    both.east.gateways.iter_mut().for_each(Gateway::kill);
    eventually("east is gone", || {
        let status = both.west.control.status();
        if status["control"]["peers"]["east"]["up"] == false { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_stalled_gateway_delays_no_other() {
    let topology = several::topology(2, 2);
    let both = Both::start(&topology);
    let [one, two] = [&both.west.gateways[0], &both.west.gateways[1]];
    two.pause();
    for port in 18081..18084 {
        both.west.control.configure(&west_config(&topology).imports(SERVICE, gateway(port)));
        eventually("the new import listens", || {
            one.cluster().pods().connect(gateway(port)).map(drop).map_err(|e| e.to_string())
        });
    }
    two.resume();
    both.west.wait_attached(2);
    eventually("the last import listens at the other one, too", || {
        two.cluster().pods().connect(gateway(18083)).map(drop).map_err(|e| e.to_string())
    });
}

#[test]
fn a_table_that_gateways_cannot_serve_is_refused_with_its_reason() {
    let topology = several::topology(2, 2);
    let both = Both::start(&topology);
    let load = load(&both.west.gateways[0]);
    load.wait_for(50);
    let taken = isthmus_tests::admin::ADDRESS;
    both.west.control.configure(&west_config(&topology).imports("shop/other", taken));
    let why = format!("imports: found shop/other:80 at {taken}, which admin of this gateway has");
    let push = both.west.wait_push("both have refused it", |push| {
        let gateways = push["gateways"].as_array().cloned().unwrap_or_default();
        let refused =
            |gateway: &Value| gateway["rejected"]["reason"].as_str().is_some_and(|reason| reason.contains(&why));
        gateways.len() == 2 && gateways.iter().all(refused)
    });
    assert!(push["gateways"][0]["tableVersion"].as_u64() < push["tableVersion"].as_u64(), "{push}");
    assert!(both.west.control.metrics().sum("isthmus_push_rejected_total", &[]) >= 2.0);
    for gateway in &both.west.gateways {
        wait_attachment(gateway, "it says why", |attachment| {
            attachment["rejected"].as_str().is_some_and(|reason| reason.contains(&why))
        });
        assert_eq!(gateway.clusters_of(SERVICE), ["east"]);
    }
    load.wait_for(100);
    both.west.control.configure(&west_config(&topology));
    both.west.wait_push("nothing is refused any more", |push| {
        push["gateways"].as_array().is_some_and(|all| all.iter().all(|gateway| gateway["rejected"].is_null()))
    });
    load.stop().assert_no_failure();
}

/// What a cluster exports reaches its peers through whichever of its gateways lives.
#[test]
fn the_exchange_outlives_a_gateway_on_either_side() {
    let topology = several::topology(2, 2);
    let mut both = Both::start(&topology);
    let mut ready = 1;
    let mut change = |both: &Both<'_>| {
        ready = if ready == 1 { 2 } else { 1 };
        both.east.control.configure(&east_config(&topology, ready));
        ready
    };
    let told = change(&both);
    both.wait_served(told.into());
    both.east.gateways[0].kill();
    let told = change(&both);
    both.wait_served(told.into());
    both.east.gateways[0].restart();
    both.east.wait_attached(2);
    both.west.gateways[1].kill();
    let told = change(&both);
    wait_ready_in_east(&both.west.gateways[0], told.into());
    both.west.gateways[1].restart();
    both.west.wait_attached(2);
    both.east.gateways[1].kill();
    let told = change(&both);
    both.wait_served(told.into());
}

#[test]
fn strangers_are_refused() {
    let topology = several::topology(2, 2);
    let [west, east] = ["west", "east"].map(|name| apart::of(&topology, name));
    let own = apart::config(&topology, "west");
    identity::issue(&west[0].identity_dir(), &apart::control_id("west"), &apart::control_identity(west[0]));
    let surroundings = Surroundings::default();
    let control = Gateway::start_part(west[0], Part::Control, &own.to_yaml(), &surroundings);
    // A gateway of another cluster.
    let address = apart::control_address(west[0]);
    let stranger = Gateway::launch(east[0], Part::Gateway, &apart::gateway_yaml(east[0], address), &surroundings);
    eventually("the stranger runs", || stranger.readyz().map(drop).map_err(|e| e.to_string()));
    eventually("the stranger refuses the control of another cluster", || {
        let status = stranger.status();
        let error = status["control"]["attachment"]["error"].as_str().unwrap_or_default().to_owned();
        if error.contains("wrong_trust_domain") { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(stranger.readyz().unwrap().0, 503, "it has no table");
    // The same cluster's, but a gateway where a control should be, and the other way round.
    for (part, identity, found) in [
        (Part::Control, west[1].identity_dir(), "holds the SVID of a gateway, expected that of a control"),
        (Part::Gateway, apart::control_identity(west[0]), "holds the SVID of a control, expected that of a gateway"),
    ] {
        let mut config = several::config(west[1]);
        config.identity = identity.display().to_string();
        let yaml = match part {
            Part::Control => config.with("control: {listen: \"0.0.0.0:15010\"}").to_yaml(),
            _ => apart::gateway_yaml(west[1], address)
                .replace(&west[1].identity_dir().display().to_string(), &config.identity),
        };
        let mut wrong = Gateway::launch(west[1], part, &yaml, &surroundings);
        assert_eq!(wrong.wait_end().code(), Some(1));
        wrong.wait_log(&[found]);
    }
    assert_eq!(control.status()["control"]["push"]["gateways"], Value::Array(Vec::new()));
    assert_eq!(control.metrics().sum("isthmus_push_gateways", &[]), 0.0);
}

/// The SVIDs of both sides are replaced while they run: sessions go on, and new ones use the new ones.
#[test]
fn identities_rotate_live() {
    let topology = several::topology(2, 2);
    let mut both = Both::start(&topology);
    let load = load(&both.west.gateways[0]);
    let first = apart::of(&topology, "west")[0];
    identity::issue(&first.identity_dir(), &apart::control_id("west"), &apart::control_identity(first));
    both.west.control.wait_log(&["took over a changed identity"]);
    for gateway in &both.west.gateways {
        identity::renew(&gateway.cluster().identity_dir());
        gateway.wait_log(&["took over a changed identity"]);
    }
    load.wait_for(100);
    both.west.wait_attached(2);
    both.west.gateways.iter().for_each(|gateway| assert!(!gateway.log().contains("not attached to control any more")));
    both.west.gateways[1].restart();
    both.west.wait_attached(2);
    load.stop().assert_no_failure();
}
