//! Across network namespaces, as pods have them.

use crate::{
    connection::{Ours, Pair, Pattern, connect, connect_from, joined, receive, send, socket},
    programs,
};
use std::{
    net::{SocketAddr, TcpListener},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// Runs `job` in a new network namespace whose loopback is up, on a thread that ends with it.
pub(crate) fn inside<T: Send>(job: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only CLONE_FILES could take descriptors away from other threads, and it is not asked for.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
            ip("link set lo up");
            job()
        });
        thread.join().unwrap()
    })
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A gateway's namespace and a pod's, joined by a veth, with both families; `job` runs in the first with what `make` made in the other.
fn joined_by_veth<T: Send, R: Send>(make: impl FnOnce() -> T + Send, job: impl FnOnce(T) -> R + Send) -> R {
    inside(|| {
        let gateway = rustix::thread::gettid().as_raw_nonzero();
        ip("link add to-pod type veth peer name to-gateway");
        let pod = inside(|| {
            let here = rustix::thread::gettid().as_raw_nonzero();
            let process = std::process::id();
            let output = Command::new("nsenter")
                .arg(format!("--net=/proc/{process}/task/{gateway}/ns/net"))
                .args(["ip", "link", "set", "to-gateway", "netns", &format!("/proc/{process}/task/{here}/ns/net")])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            for command in ["addr add 10.9.0.2/24 dev to-gateway", "link set to-gateway up"] {
                ip(command);
            }
            ip("addr add fd09::2/64 dev to-gateway nodad");
            let made = make();
            // The namespace lives as long as its sockets; its device as long as the namespace.
            made
        });
        ip("addr add 10.9.0.1/24 dev to-pod");
        ip("link set to-pod up");
        ip("addr add fd09::1/64 dev to-pod nodad");
        job(pod)
    })
}

/// Endpoints in a pod, over both families.
#[test]
fn endpoints_in_a_pod() {
    let programs = &programs();
    let addresses: [SocketAddr; 2] = ["10.9.0.2:8080".parse().unwrap(), "[fd09::2]:8080".parse().unwrap()];
    joined_by_veth(
        || addresses.map(|address| TcpListener::bind(address).unwrap()),
        |endpoints| {
            for endpoint in &endpoints {
                let pair = connect(programs, endpoint, Ours::Client);
                assert_eq!(joined(programs, &pair), (true, true));
                exchange(&pair);
            }
        },
    );
    assert!(programs.counts().unwrap().redirected > 100);
}

/// Clients in a pod, at a door that is open for both families.
#[test]
fn clients_in_a_pod() {
    let programs = &programs();
    joined_by_veth(
        || ["10.9.0.1:1", "[fd09::1]:1"].map(|to| socket(to.parse().unwrap())),
        |clients| {
            let door = TcpListener::bind("[::]:18080").unwrap();
            for (client, host) in clients.iter().zip(["10.9.0.1", "fd09::1"]) {
                programs.open_door(std::os::fd::AsFd::as_fd(&door)).unwrap();
                client.connect(&SocketAddr::new(host.parse().unwrap(), 18080).into()).unwrap();
                let (server, _) = door.accept().unwrap();
                let pair: Pair = (client.try_clone().unwrap().into(), server);
                for end in [&pair.0, &pair.1] {
                    end.set_nonblocking(true).unwrap();
                }
                assert_eq!(joined(programs, &pair), (true, true), "{host}");
                exchange(&pair);
            }
        },
    );
    assert!(programs.counts().unwrap().redirected > 100);
}

/// The same addresses and ports in two namespaces, of which one is the gateway's: nobody gets the other's bytes.
#[test]
fn the_same_addresses_elsewhere_are_others() {
    let programs = &programs();
    let listen = || TcpListener::bind("127.0.0.1:18080").unwrap();
    let client = || {
        let client = socket("127.0.0.1:1".parse().unwrap());
        client.bind(&"127.0.0.1:40000".parse::<SocketAddr>().unwrap().into()).unwrap();
        client
    };
    let ours = inside(|| {
        let (client, listener) = (client(), listen());
        connect_from(programs, &client, &listener, Ours::Server)
    });
    let others = inside(|| {
        let (client, listener) = (client(), listen());
        connect_from(programs, &client, &listener, Ours::None)
    });
    assert_eq!(joined(programs, &ours), (true, true));
    assert_eq!(joined(programs, &others), (false, false));
    exchange(&ours);
    exchange(&others);
}

fn exchange((client, server): &Pair) {
    let (mut up, mut down) = (Pattern::new(5), Pattern::new(6));
    let (mut up_read, mut down_read) = (up.clone(), down.clone());
    for round in 1..40 {
        up.write(client, round * 97, 4096);
        up_read.read(server, round * 97, 1024);
        down.write(server, round * 1013, 4096);
        down_read.read(client, round * 1013, 1024);
    }
}

/// Two gateways, each with an endpoint in its own namespace, at the same addresses and ports, connect at the same moment. The kernel begins counting
/// bytes at a number that it makes of addresses, ports and the time, so now and then all of these are the same: still each hears its own endpoint.
#[test]
fn the_same_connection_in_another_namespace_is_another_one() {
    const TIMES: u64 = 8000;
    const FROM: u16 = 20_000;
    let (arrived, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    // Whoever waits asks again and again: a moment of sleep, and the two are apart.
    let together = |times: u64| {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < 2 * times && !is_over.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        !is_over.load(Ordering::SeqCst)
    };
    let gateway = |own: u64| {
        let (programs, mut wrong) = (programs(), None);
        inside(|| {
            let endpoint = TcpListener::bind("127.0.0.1:8080").unwrap();
            for time in 1..=TIMES {
                let port = FROM + u16::try_from(time).unwrap();
                let client = socket(endpoint.local_addr().unwrap());
                client.set_reuse_address(true).unwrap();
                client.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
                client.set_linger(Some(Duration::ZERO)).unwrap();
                if !together(time) {
                    break;
                }
                let (client, server) = connect_from(&programs, &client, &endpoint, Ours::Client);
                let (said, mut heard) = ([own, time].map(u64::to_be_bytes).concat(), [0; 16]);
                send(&server, &said).unwrap();
                receive(&client, &mut heard).unwrap();
                if heard != *said {
                    wrong = Some(format!("gateway {own}, connection {time}: found {heard:?}"));
                    is_over.store(true, Ordering::SeqCst);
                }
            }
        });
        (programs.counts().unwrap(), wrong)
    };
    let counts = std::thread::scope(|scope| {
        let gateway = &gateway;
        let gateways = [0, 1].map(|own| scope.spawn(move || gateway(own)));
        gateways.map(|gateway| gateway.join().unwrap())
    });
    let counts = counts.map(|(counts, wrong)| {
        assert_eq!(wrong, None);
        counts
    });
    for counts in counts {
        assert!(counts.redirected > TIMES / 2, "{counts:?}");
    }
}
