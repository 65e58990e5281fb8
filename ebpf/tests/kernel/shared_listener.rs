//! The shared listener's program: which connections come to its listeners, and that no others do. Each test has a network namespace of its
//! own.

use crate::{
    namespaces::inside,
    unloading::{all_programs, programs_of},
};
use isthmus_ebpf::{LoadError, SharedListener};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// No wait of a test is longer. Emulated machines, which `make kernels` has, take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, and as many listeners of each family as a gateway has cores.
pub(crate) struct Shared {
    program: SharedListener,
    v4: Vec<TcpListener>,
    v6: Vec<TcpListener>,
}

impl Shared {
    pub(crate) fn start(cores: usize) -> Self {
        let (v4, v6) = (group("127.0.0.1:0", cores), group("[::1]:0", cores));
        let program = SharedListener::load(&fds(&v4), &fds(&v6)).unwrap();
        Self { program, v4, v6 }
    }

    fn open(&self, places: &[&str]) {
        places.iter().for_each(|place| self.program.open(place.parse().unwrap()).unwrap());
    }

    /// The next connection, and the core that gets it.
    fn accept(&self) -> (TcpStream, usize) {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let all = || self.v4.iter().enumerate().chain(self.v6.iter().enumerate());
        let mut ready: Vec<_> = all().map(|(_, listener)| PollFd::new(listener, PollFlags::IN)).collect();
        assert!(poll(&mut ready, Some(&patience)).unwrap() > 0, "nothing comes");
        all().find_map(|(core, listener)| Some((listener.accept().ok()?.0, core))).unwrap()
    }
}

fn fds(listeners: &[TcpListener]) -> Vec<BorrowedFd<'_>> {
    listeners.iter().map(AsFd::as_fd).collect()
}

/// Listeners of one port, non-blocking.
fn group(address: &str, number: usize) -> Vec<TcpListener> {
    let mut address: SocketAddr = address.parse().unwrap();
    let listen = |_| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        address = socket.local_addr().unwrap().as_socket().unwrap();
        socket.into()
    };
    (0..number).map(listen).collect()
}

fn connect(to: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&to.parse().unwrap(), PATIENCE)
}

#[track_caller]
fn refused(to: &str) {
    assert_eq!(connect(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
}

/// Both ends of a new connection to a place.
#[track_caller]
fn taken(shared: &Shared, to: &str) -> (TcpStream, TcpStream) {
    let client = connect(to).unwrap();
    let (server, _) = shared.accept();
    assert_eq!(server.local_addr().unwrap(), to.parse().unwrap());
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    let mut ends = (client, server);
    exchange(&mut ends);
    ends
}

fn exchange((client, server): &mut (TcpStream, TcpStream)) {
    server.set_nonblocking(false).unwrap();
    let ends: [&mut TcpStream; 2] = [client, server];
    ends.iter().for_each(|end| end.set_read_timeout(Some(PATIENCE)).unwrap());
    let [client, server] = ends;
    let mut found = [0; 5];
    client.write_all(b"there").unwrap();
    server.read_exact(&mut found).unwrap();
    assert_eq!(&found, b"there");
    server.write_all(b"again").unwrap();
    client.read_exact(&mut found).unwrap();
    assert_eq!(&found, b"again");
}

#[test]
fn connections_to_its_places_come_to_it_and_keep_their_addresses() {
    inside(|| {
        let shared = Shared::start(2);
        shared.open(&["127.0.0.1:1000", "0.0.0.0:2000", "[::]:3000", "[::1]:4000"]);
        for to in ["127.0.0.1:1000", "127.0.0.1:2000", "127.0.0.9:2000", "[::1]:3000", "[::1]:4000"] {
            taken(&shared, to);
        }
        for to in ["127.0.0.2:1000", "[::1]:1000", "[::1]:2000", "127.0.0.1:3000", "127.0.0.1:4000", "127.0.0.1:1001"] {
            refused(to);
        }
    });
}

#[test]
fn whoever_listens_elsewhere_is_let_alone() {
    inside(|| {
        let shared = Shared::start(2);
        shared.open(&["127.0.0.1:1000"]);
        for address in ["127.0.0.2:1000", "127.0.0.1:1001", "[::1]:1000"] {
            let others = TcpListener::bind(address).unwrap();
            let client = connect(address).unwrap();
            assert_eq!(others.accept().unwrap().1, client.local_addr().unwrap());
        }
        let (others, client) = (UdpSocket::bind("127.0.0.1:1000").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        client.send_to(b"datagram", "127.0.0.1:1000").unwrap();
        others.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(others.recv_from(&mut [0; 16]).unwrap(), (8, client.local_addr().unwrap()));
    });
}

/// The program asks nobody: this is why the gateway looks whether a port is free before it opens it.
#[test]
fn a_place_is_taken_before_whoever_listens_there() {
    inside(|| {
        let shared = Shared::start(2);
        let other = TcpListener::bind("127.0.0.1:1000").unwrap();
        shared.open(&["127.0.0.1:1000"]);
        taken(&shared, "127.0.0.1:1000");
        assert!(shared.program.close("127.0.0.1:1000".parse().unwrap()).unwrap());
        let client = connect("127.0.0.1:1000").unwrap();
        assert_eq!(other.accept().unwrap().1, client.local_addr().unwrap());
    });
}

#[test]
fn a_place_that_is_closed_refuses_and_what_it_has_taken_goes_on() {
    inside(|| {
        let shared = Shared::start(2);
        let place = "127.0.0.1:1000".parse().unwrap();
        for _ in 0..3 {
            shared.open(&["127.0.0.1:1000", "127.0.0.1:1000"]);
            let mut ends = taken(&shared, "127.0.0.1:1000");
            assert!(shared.program.close(place).unwrap());
            assert!(!shared.program.close(place).unwrap());
            refused("127.0.0.1:1000");
            exchange(&mut ends);
        }
    });
}

#[test]
fn connections_are_spread_over_all_and_those_that_have_closed_get_none() {
    inside(|| {
        let mut shared = Shared::start(4);
        shared.open(&["127.0.0.1:1000"]);
        let spread = |shared: &Shared, over: usize| {
            let mut got = vec![0; over];
            for _ in 0..200 {
                let _client = connect("127.0.0.1:1000").unwrap();
                got[shared.accept().1] += 1;
            }
            assert!(got.iter().all(|&connections| connections > 10), "{got:?}");
        };
        spread(&shared, 4);
        // The first one, which the program names.
        shared.v4.remove(0);
        spread(&shared, 3);
        shared.v4.remove(0);
        shared.v4.clear();
        refused("127.0.0.1:1000");
    });
}

#[test]
fn another_namespace_is_not_touched() {
    inside(|| {
        let shared = Shared::start(1);
        shared.open(&["0.0.0.0:1000", "[::]:1000"]);
        inside(|| ["127.0.0.1:1000", "[::1]:1000"].into_iter().for_each(refused));
        taken(&shared, "127.0.0.1:1000");
    });
}

#[test]
fn two_gateways_of_a_namespace_have_their_places_each() {
    inside(|| {
        let (one, other) = (Shared::start(2), Shared::start(2));
        one.open(&["127.0.0.1:1000"]);
        other.open(&["127.0.0.1:2000"]);
        taken(&one, "127.0.0.1:1000");
        taken(&other, "127.0.0.1:2000");
        drop(one);
        refused("127.0.0.1:1000");
        taken(&other, "127.0.0.1:2000");
    });
}

#[test]
fn beyond_the_bound_no_place_is_opened_and_the_others_stay() {
    inside(|| {
        let shared = Shared::start(1);
        let place = |n: usize| SocketAddr::from(([127, 0, (n >> 15) as u8, 1], (n & 0x7fff) as u16 + 1));
        (0..SharedListener::MOST).for_each(|n| shared.program.open(place(n)).unwrap());
        assert!(shared.program.open(place(SharedListener::MOST)).is_err());
        taken(&shared, "127.0.0.1:1");
        assert!(shared.program.close(place(7)).unwrap());
        shared.program.open(place(SharedListener::MOST)).unwrap();
        taken(&shared, "127.0.2.1:1");
    });
}

/// The map takes sockets that listen. Where it does not take one, there is no shared listener, and nothing of it is left.
#[test]
fn a_socket_that_the_kernel_does_not_take_is_an_error() {
    inside(|| {
        let idle = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        idle.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let v4 = group("127.0.0.1:0", 1);
        for v4 in [vec![idle.as_fd()], vec![v4[0].as_fd(), idle.as_fd()]] {
            let error = SharedListener::load(&v4, &[]).unwrap_err();
            assert!(matches!(error, LoadError::Refused(_)), "{error}");
        }
        let shared = Shared::start(1);
        shared.open(&["127.0.0.1:1000"]);
        taken(&shared, "127.0.0.1:1000");
    });
}

/// Nothing is pinned: with the process, its ports are everybody's.
#[test]
fn a_killed_process_leaves_its_ports_to_others() {
    const CHILD: &str = "ISTHMUS_TEST_HOLDS_PLACES";
    if std::env::var_os(CHILD).is_some() {
        let shared = Shared::start(2);
        shared.open(&["127.0.0.1:1000"]);
        println!("open");
        loop {
            std::thread::park();
        }
    }
    inside(|| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "shared_listener::a_killed_process_leaves_its_ports_to_others", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("open")), "the child opens a place");
        connect("127.0.0.1:1000").unwrap();
        let held = programs_of(child.id());
        assert_eq!(held.len(), 1, "{held:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        refused("127.0.0.1:1000");
        let other = TcpListener::bind("127.0.0.1:1000").unwrap();
        let client = connect("127.0.0.1:1000").unwrap();
        assert_eq!(other.accept().unwrap().1, client.local_addr().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while !held.is_disjoint(&all_programs()) {
            assert!(Instant::now() < deadline, "{held:?} are still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}
