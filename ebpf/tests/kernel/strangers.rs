//! The sockets of others are not touched.

use crate::{
    connection::{Ours, Pair, Pattern, connect, connect_from, joined, socket},
    hazards::set,
    namespaces::inside,
    programs,
};
use isthmus_ebpf::{Counts, Programs};
use rustix::net::sockopt;
use socket2::{SockFilter, Socket};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    time::Duration,
};

/// Neither to the same address, nor to the same port, nor by a process that has doors, too.
#[test]
fn connections_without_a_mark_or_a_door_do_not_take_part() {
    let programs = programs();
    let ours = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = ours.local_addr().unwrap().port();
    let others = [
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind(("127.0.0.2", port)).unwrap(),
        TcpListener::bind(("::1", port)).unwrap(),
    ];
    let taken = connect(&programs, &ours, Ours::Server);
    assert_eq!(joined(&programs, &taken), (true, true));
    let before = programs.counts().unwrap();
    for listener in &others {
        let pair = connect(&programs, listener, Ours::None);
        Pattern::new(1).write(&pair.0, 100_000, 7_000);
        Pattern::new(1).read(&pair.1, 100_000, 9_000);
        assert_eq!(joined(&programs, &pair), (false, false), "{listener:?}");
    }
    assert_eq!(programs.counts().unwrap(), before);
}

/// A door that is closed lets nobody in; who is in stays.
#[test]
fn closing_a_door_leaves_open_connections_as_they_are() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = connect(&programs, &listener, Ours::Server);
    programs.close_door(listener.as_fd()).unwrap();
    let second = connect(&programs, &listener, Ours::None);
    assert_eq!(joined(&programs, &first), (true, true));
    assert_eq!(joined(&programs, &second), (false, false));
}

#[test]
fn nothing_joins_once_it_is_turned_off_and_what_has_joined_goes_on() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut sent, mut received) = (Pattern::new(3), Pattern::new(3));
    let first = connect(&programs, &listener, Ours::Client);
    sent.write(&first.0, 1000, 100);
    programs.enable(false).unwrap();
    let second = connect(&programs, &listener, Ours::Client);
    assert_eq!(joined(&programs, &second), (false, false));
    sent.write(&first.0, 1000, 100);
    received.read(&first.1, 2000, 64);
    let Counts { joined: ends, .. } = programs.counts().unwrap();
    assert_eq!(ends, 2);
}

/// The SYN of one client comes while connections join, and it is established when they do not, which the client's own end finds out: the
/// next client of its addresses and ports is another one.
#[test]
fn a_client_that_is_established_once_it_is_turned_off_is_forgotten() {
    let programs = &programs();
    inside(|| {
        let door = TcpListener::bind("127.0.0.1:18080").unwrap();
        programs.open_door(door.as_fd()).unwrap();
        let client = client();
        hear_nothing(&client);
        client.set_nonblocking(true).unwrap();
        client.connect(&door.local_addr().unwrap().into()).unwrap_err();
        programs.enable(false).unwrap();
        client.detach_filter().unwrap();
        // The kernel asks again.
        let (server, _) = door.accept().unwrap();
        let pair: Pair = (client.into(), server);
        assert_eq!(joined(programs, &pair), (false, false));
        next_client_is_a_stranger(programs, &door, pair);
    });
}

/// The same where the end that accepts is the one to find it out.
#[test]
fn a_client_that_is_accepted_once_it_is_turned_off_is_forgotten() {
    let programs = &programs();
    inside(|| {
        let door = TcpListener::bind("127.0.0.1:18080").unwrap();
        programs.open_door(door.as_fd()).unwrap();
        // The kernel makes the accepting end when data come.
        set(&door, libc::TCP_DEFER_ACCEPT, 10);
        let client = client();
        // A client's end that is ours leaves it to the accepting one.
        programs.mark(client.as_fd()).unwrap();
        client.connect(&door.local_addr().unwrap().into()).unwrap();
        programs.enable(false).unwrap();
        let client: TcpStream = client.into();
        Pattern::new(1).write(&client, 10, 10);
        let (server, _) = door.accept().unwrap();
        let pair: Pair = (client, server);
        assert_eq!(joined(programs, &pair), (true, false));
        set(&door, libc::TCP_DEFER_ACCEPT, 0);
        next_client_is_a_stranger(programs, &door, pair);
    });
}

/// Connects once more from the same port to the same one, whose door is closed now.
fn next_client_is_a_stranger(programs: &Programs, door: &TcpListener, (before, server): Pair) {
    sockopt::set_socket_linger(&before, Some(Duration::ZERO)).unwrap();
    drop((before, server));
    programs.close_door(door.as_fd()).unwrap();
    programs.enable(true).unwrap();
    let pair = connect_from(programs, &client(), door, Ours::None);
    assert_eq!(joined(programs, &pair), (false, false));
}

/// A client whose port is always the same: in a namespace of its own.
fn client() -> Socket {
    let address = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let client = socket(address);
    client.bind(&address.into()).unwrap();
    client
}

/// Has the kernel drop all that comes to a socket.
fn hear_nothing(socket: &Socket) {
    // `ret 0`: of each packet nothing is kept.
    socket.attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
}

/// Two gateways on a node: what one redirects, the other one lets alone.
#[test]
fn two_gateways_between_each_other() {
    let (one, other) = (programs(), programs());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    other.open_door(listener.as_fd()).unwrap();
    let pair = connect(&one, &listener, Ours::Client);
    for (from, to) in [(&pair.0, &pair.1), (&pair.1, &pair.0)] {
        let (mut sent, mut received) = (Pattern::new(9), Pattern::new(9));
        for _ in 0..50 {
            sent.write(from, 3000, 3000);
            received.read(to, 3000, 4096);
        }
    }
    let redirected = one.counts().unwrap().redirected + other.counts().unwrap().redirected;
    let takers = [joined(&one, &pair), joined(&other, &pair)];
    assert_eq!(takers.iter().filter(|joined| **joined == (true, true)).count(), 1, "{takers:?}");
    assert!(redirected >= 98, "{redirected}");
}
