//! Ports of imports, and which of the gateway's they get.

use super::*;

#[test]
fn gateway_ports_stay_whatever_comes_and_goes() {
    let mut west = west();
    let east =
        |names: &[&str]| view(&names.iter().map(|name| (*name, summary(200, "http", 80, 3))).collect::<Vec<_>>());
    west.link("east", east(&["shop/a", "shop/b", "shop/z"]));
    west.settle();
    let port = |west: &Cluster, name: &str| *west.service_plan(name).imports.keys().next().unwrap();
    let z = port(&west, "shop/z");
    west.link("east", east(&["shop/0", "shop/z"]));
    west.settle();
    west.plan = Plan::default();
    west.settle();
    assert_eq!(port(&west, "shop/z"), z);
    assert_ne!(port(&west, "shop/0"), z);
}

#[test]
fn no_port_is_given_out_twice_while_the_api_server_has_not_shown_it() {
    let mut west = west();
    west.link("east", view(&[("shop/b", summary(200, "http", 80, 3))]));
    // As far as the plan of shop/b's Service, which is not applied.
    for _ in 0..2 {
        let next = west.replan();
        west.apply(&next);
        west.plan = next;
    }
    west.plan = west.replan();
    let given = |west: &Cluster, name: &str| {
        let service = west.service_plan(name).services[0].clone();
        ports::targets(&service).map(|(_, target)| target).collect::<Vec<_>>()
    };
    let b = given(&west, "shop/b");
    west.world.services.remove(&ObjectKey::new("shop", &derived_name("shop/b")));
    west.link("east", view(&[("shop/a", summary(1, "http", 80, 3)), ("shop/b", summary(200, "http", 80, 3))]));
    for _ in 0..2 {
        let mut next = west.replan();
        next.services.get_mut(&key("shop/b")).unwrap().services.clear();
        west.apply(&next);
        west.plan = west.replan();
    }
    assert_eq!(given(&west, "shop/b"), b);
    assert!(given(&west, "shop/a") != b);
}

#[test]
fn exhaustion_is_said_on_the_import_and_harms_no_other() {
    let mut west = west();
    let names: Vec<_> = (0..12).map(|n| format!("shop/s{n:02}")).collect();
    west.link("east", view(&names.iter().map(|name| (&**name, summary(200, "http", 80, 3))).collect::<Vec<_>>()));
    west.settle();
    let ready = |name: &str| {
        let status = west.import(name).unwrap().status.clone().unwrap();
        let ready = condition(&status.conditions, "Ready");
        (ready.status.clone(), ready.reason.clone(), ready.message.clone())
    };
    assert_eq!(ready("shop/api").0, "True");
    assert_eq!(ready("shop/s08").0, "True");
    let said = ready("shop/s11");
    assert_eq!((&*said.0, &*said.1), ("False", "NoGatewayPort"));
    assert_eq!(said.2, "no gateway port is left for shop/s11:80");
    assert!(west.derived("shop/s11").is_none());
    // One that goes leaves its port to another.
    west.link("east", view(&names[1..].iter().map(|name| (&**name, summary(200, "http", 80, 3))).collect::<Vec<_>>()));
    west.settle();
    assert_eq!(west.service_plan("shop/s09").imports.len(), 1);
}

#[test]
fn traffic_to_a_disputed_port_goes_to_those_that_have_it() {
    let mut west = west();
    let mut east = summary(200, "http", 8080, 3);
    east.ports.extend(summary(200, "admin", 9000, 3).ports);
    west.link("east", view(&[("shop/api", east)]));
    west.settle();
    let import = west.import("shop/api").unwrap();
    let ports: Vec<_> = import.spec.ports.iter().map(|port| (port.name.as_deref().unwrap(), port.port)).collect();
    assert_eq!(ports, [("http", 80), ("admin", 9000)], "the older export's http");
    let slices = west.slices("shop/api");
    let targets: Vec<_> =
        west.service_plan("shop/api").imports.iter().map(|(target, of)| (of.service.port, *target)).collect();
    assert_eq!(targets, [(80, 20000), (9000, 20001)]);
    assert_eq!((&slices["west IPv4"].0, &slices["east IPv4"].0), (&vec![20000], &vec![20001]));
    let status = west.service_plan("shop/api").export_status.clone().unwrap();
    let conflict = condition(&status.conditions, "Conflict");
    assert_eq!((&*conflict.status, &*conflict.reason), ("True", "PortConflict"));
    let said = "ports: Using all ports, where they clash those from the oldest export, in cluster \"west\"; 1 of 2 clusters disagrees.";
    assert_eq!(conflict.message, said);
}

/// The specification wants every port on the import; no gateway carries SCTP.
#[test]
fn ports_that_are_not_carried_are_named_and_lead_nowhere() {
    let mut west = Cluster::new("west");
    west.exports(service("shop/api", &[("http", 80, "TCP"), ("assoc", 9, "SCTP")]), &[("10.2.0.1", "")], 100);
    west.exports(service("shop/sigtran", &[("", 2905, "SCTP")]), &[("10.2.0.1", "")], 100);
    let told = |west: &Cluster, name: &str| west.service_plan(name).summary.as_deref().cloned();
    west.settle();
    assert!(told(&west, "shop/api").unwrap().sctp.keys().eq(&[9]));
    let more = PortSummary { name: Some("more".into()), ..PortSummary::default() };
    west.link("east", view(&[("shop/api", Summary { sctp: [(142, more)].into(), ..summary(200, "http", 80, 3) })]));
    west.settle();
    let ports = |name| -> Vec<_> {
        let ports = west.import(name).unwrap().spec.ports.iter();
        ports.map(|port| (port.name.as_deref(), port.protocol.as_deref().unwrap(), port.port)).collect()
    };
    assert_eq!(ports("shop/api"), [(Some("http"), "TCP", 80), (Some("assoc"), "SCTP", 9), (Some("more"), "SCTP", 142)]);
    assert_eq!(ports("shop/sigtran"), [(None, "SCTP", 2905)]);
    let carried = west.derived("shop/api").unwrap().spec.clone().unwrap().ports.unwrap();
    assert!(carried.iter().map(|port| port.port).eq([80]));
    let ready = |name| {
        let status = west.import(name).unwrap().status.clone().unwrap();
        let ready = condition(&status.conditions, "Ready").clone();
        (ready.status, ready.reason, ready.message)
    };
    let said = |status: &str, reason: &str, message: &str| (status.to_owned(), reason.to_owned(), message.to_owned());
    assert_eq!(ready("shop/api"), said("True", "Ready", "not carried: 9/SCTP, 142/SCTP; gateways carry TCP and UDP"));
    assert_eq!(
        ready("shop/sigtran"),
        said("False", "NotCarried", "not carried: 2905/SCTP; gateways carry TCP and UDP")
    );
    let status = west.service_plan("shop/api").export_status.clone().unwrap();
    let exported = condition(&status.conditions, "Ready");
    assert_eq!((&*exported.status, &*exported.message), ("True", "not carried: 9/SCTP; gateways carry TCP and UDP"));
    assert_eq!(condition(&status.conditions, "Conflict").reason, "PortConflict");
}
