//! Addresses, and what becomes of a gateway one of whose cores cannot have its socket.

use super::*;
use crate::{
    core::tests::{East, importing},
    listener::{Listeners, Open},
    tunnel::driver::tests::pair::on_a_core,
};
use isthmus_control_api::Import;
use std::{
    collections::BTreeSet,
    fs::File,
    net::{TcpListener, TcpStream},
    sync::Arc,
};

/// In the place of the kernel's program: what is open.
#[derive(Debug, Default, Clone)]
struct Fake(Arc<Mutex<BTreeSet<SocketAddr>>>);

impl Fake {
    fn places(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap().iter().copied().collect()
    }
}

impl Program for Fake {
    fn open(&self, place: SocketAddr) -> io::Result<()> {
        self.0.lock().unwrap().insert(place);
        Ok(())
    }

    fn close(&self, place: SocketAddr) -> io::Result<bool> {
        Ok(self.0.lock().unwrap().remove(&place))
    }
}

impl Shared {
    /// Of cores with these sockets.
    fn of(program: &Fake, sockets: Vec<Vec<OwnedFd>>) -> Self {
        let (program, claims) = (Box::new(program.clone()), Claims::new(sockets.len(), 100));
        Self(Mutex::new(State::On(On { program, claims, sockets, has_v6: false, own: Vec::new() })))
    }
}

fn listening() -> Vec<OwnedFd> {
    vec![socket::listen("127.0.0.1:0".parse().unwrap()).unwrap()]
}

/// What no reactor takes: the kernel has EPERM for it.
fn refused() -> Vec<OwnedFd> {
    vec![File::open("/dev/null").unwrap().into()]
}

/// An address of this host that nobody has, and a table that imports something there.
fn importing_here() -> (SocketAddr, Table) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut table = importing(&["west"]);
    let import: Arc<Import> = table.imports.values().next().unwrap().clone();
    table.imports = [(Listen::tcp(address), import)].into();
    (address, table)
}

#[test]
fn a_connection_is_for_the_address_that_the_table_has() {
    let mut table = importing(&["west"]);
    let import: Arc<Import> = table.imports.values().next().unwrap().clone();
    table.imports.clear();
    for listen in ["10.0.0.1:1", "0.0.0.0:2", "[::]:3", "[fd00::1]:4", "[::]:5/udp"] {
        table.imports.insert(listen.parse().unwrap(), import.clone());
    }
    for (local, expected) in [
        ("10.0.0.1:1", "10.0.0.1:1"),
        ("10.0.0.2:1", "10.0.0.2:1"),
        ("10.0.0.2:2", "0.0.0.0:2"),
        ("10.0.0.2:3", "[::]:3"),
        ("[fd00::2]:3", "[::]:3"),
        ("[fd00::1]:4", "[fd00::1]:4"),
        ("[fd00::1]:2", "[fd00::1]:2"),
        ("10.0.0.2:5", "10.0.0.2:5"),
    ] {
        let found = asked_for(&table, local.parse().unwrap());
        assert_eq!(found, expected.parse().unwrap(), "{local}");
    }
}

#[test]
fn where_the_shared_sockets_are_nobody_else_listens() {
    let own = ["127.0.0.1:40000", "[::1]:40001"].map(|own| own.parse().unwrap());
    let is_own = |address: &str| is_own(&own, address.parse().unwrap());
    assert!(
        ["127.0.0.1:40000", "0.0.0.0:40000", "[::]:40000", "[::1]:40001", "[::]:40001"].iter().all(|own| is_own(own))
    );
    assert!(!["127.0.0.1:40001", "127.0.0.2:40000", "10.0.0.1:40000", "[::1]:40000"].iter().any(|other| is_own(other)));
}

#[test]
fn unless_it_is_wanted_it_takes_nothing() {
    let shared = Shared::start(false, 2);
    assert_eq!(shared.take("127.0.0.1:18080".parse().unwrap()).unwrap(), None);
    assert!(shared.take_sockets(0).is_empty());
    assert_eq!(shared.status(), SharedListenerStatus { state: "unused".into(), ..Default::default() });
}

#[test]
fn with_a_socket_on_each_core_an_address_is_open_when_all_have_asked() {
    on_a_core(async {
        let program = Fake::default();
        let shared = Shared::of(&program, vec![listening(), listening()]);
        let east = East::sharing(2, shared);
        let (address, table) = importing_here();
        let cores = [east.core.clone(), east.other_core(1)];
        let mut listeners = cores.each_ref().map(Listeners::start);
        listeners[0].reconcile(&cores[0], &table);
        assert_eq!(program.places(), []);
        listeners[1].reconcile(&cores[1], &table);
        assert_eq!(program.places(), [address]);
        assert!(listeners.iter().all(Listeners::are_bound));
        assert!(!listeners[0].retry(&cores[0]), "there is nothing to be done");
        assert_eq!(cores[0].common.shared_listener.status().state, "on");
    });
}

/// What was found: the core counted as ready, and what the kernel gave to its socket was lost.
#[test]
fn where_one_core_cannot_have_its_socket_all_have_listeners_of_their_own() {
    on_a_core(async {
        let program = Fake::default();
        let shared = Shared::of(&program, vec![listening(), refused()]);
        let east = East::sharing(2, shared);
        let (address, table) = importing_here();
        let (first, second) = (east.core.clone(), east.other_core(1));
        first.table.replace(Arc::new(table.clone()));
        second.table.replace(Arc::new(table.clone()));

        let mut before = Listeners::start(&first);
        before.reconcile(&first, &table);
        assert!(matches!(before.open.values().next(), Some(Open::Shared(_))));
        let mut after = Listeners::start(&second);
        let status = first.common.shared_listener.status();
        assert_eq!((status.state.as_str(), status.places), ("off", 0));
        let reason = status.reason.unwrap();
        assert!(reason.contains("core 1") && reason.contains("not permitted"), "{reason}");

        after.reconcile(&second, &table);
        assert!(after.are_bound() && matches!(after.open.values().next(), Some(Open::Tcp(_))));
        // Whoever comes before the other core has heard of it is served by this one.
        TcpStream::connect(address).unwrap();
        assert!(before.retry(&first));
        assert!(before.are_bound() && matches!(before.open.values().next(), Some(Open::Tcp(_))));
        assert!(before.shared.is_empty() && program.places().is_empty());
        assert!(!before.retry(&first), "it is done once");
        TcpStream::connect(address).unwrap();
    });
}

#[test]
fn a_core_that_reads_its_next_table_first_falls_back_as_well() {
    on_a_core(async {
        let shared = Shared::of(&Fake::default(), vec![listening(), refused()]);
        let east = East::sharing(2, shared);
        let (address, table) = importing_here();
        let mut listeners = Listeners::start(&east.core);
        listeners.reconcile(&east.core, &table);
        drop(Listeners::start(&east.other_core(1)));
        listeners.reconcile(&east.core, &table);
        assert!(listeners.are_bound());
        TcpStream::connect(address).unwrap();
    });
}
