use super::*;
use crate::core::tests::{exporting, importing, service};
use isthmus_control_api::ServicePolicy;
use std::os::fd::AsFd;

#[test]
fn nothing_is_loaded_before_a_service_of_tcp_asks() {
    let asks = Arc::new(ServicePolicy { local_hop: true, ..ServicePolicy::default() });
    let mut table = exporting(importing(&["west"]), &[]);
    assert!(!is_wanted(&table));
    let export = table.exports.get_mut(&service()).unwrap();
    Arc::make_mut(export).policy = asks.clone();
    assert!(is_wanted(&table));
    table.exports.clear();
    let import = table.imports.values_mut().next().unwrap();
    Arc::make_mut(import).policy = asks;
    assert!(is_wanted(&table));
}

#[test]
fn without_programs_nothing_is_marked_and_nothing_changes() {
    let hop = LocalHop::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(!hop.door(listener.as_fd(), None, true, false));
    hop.mark(listener.as_fd(), listener.local_addr().unwrap());
    hop.distrust("it was never on");
    assert_eq!(hop.status(), LocalHopStatus { state: "unused".into(), ..LocalHopStatus::default() });
}
