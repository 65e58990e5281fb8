//! How exact and how fast the emulator is, for docs/wan.md: `cargo test -p isthmus-tests --test wan -- --nocapture figures`.
//!
//! What is printed depends on the machine, so that nothing of it is asserted but what the emulator promises.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use crate::{pings::Echo, west_and_east};
use isthmus_tests::Topology;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a load lasts.
const LOAD: Duration = Duration::from_secs(2);
/// How long the thread that only sleeps does so at a time.
const BEAT: Duration = Duration::from_millis(5);
/// Clock ticks a second in /proc: the same on all systems that we build for.
const TICKS: f64 = 100.0;

#[test]
fn figures() {
    let pulse = Pulse::start();
    let topology = west_and_east("0ms");
    let echo = Echo::start(&topology);
    for rtt in [0, 1, 10, 50, 200] {
        let rtt = Duration::from_millis(rtt);
        topology.emulator().set_all(format!("{}ms", rtt.as_millis()).parse().unwrap()).unwrap();
        let mut over: Vec<_> =
            echo.ping(1000, 100, Duration::from_millis(1)).iter().map(|(_, took)| *took - rtt).collect();
        assert_eq!(over.len(), 1000);
        over.sort_unstable();
        println!("{rtt:?} round trip: over by {:?} (median), {:?} (p99), {:?} (max)", over[500], over[989], over[999]);
    }
    let late = topology.emulator().counters("west", "east").unwrap();
    println!(
        "departures late by {:?} on average, {:?} at most",
        late.late / u32::try_from(late.packets).unwrap(),
        late.latest
    );
    drop(echo);
    topology.emulator().set_all("0ms".parse().unwrap()).unwrap();
    small_packets(&topology);
    for spec in ["0ms", "20ms", "20ms,1gbit"] {
        topology.emulator().set_all(spec.parse().unwrap()).unwrap();
        bulk(&topology, spec);
    }
    println!("a thread that only slept was late by {:?} at most", pulse.latest());
}

/// A thread that only sleeps. What it is late by, the whole process or the machine stood still, and not the emulator alone.
struct Pulse {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Pulse {
    fn start() -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let thread = std::thread::spawn(move || {
            let mut latest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                std::thread::sleep(BEAT);
                latest = latest.max(begun.elapsed() - BEAT);
            }
            latest
        });
        Self { enough, thread }
    }

    fn latest(self) -> Duration {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// As many datagrams of 100 bytes as one thread can send.
fn small_packets(topology: &Topology) {
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let (from, to) = (SocketAddr::new(west.tunnel_address().ip(), 0), SocketAddr::new(east.tunnel_address().ip(), 9));
    let client = west.edge().run(move || UdpSocket::bind(from)).unwrap();
    let packets = || topology.emulator().counters("west", "east").unwrap().packets;
    let (before, cpu, begun) = (packets(), cpu_seconds(), Instant::now());
    while begun.elapsed() < LOAD {
        // Refused, as nobody listens there: whatever comes back has crossed the WAN.
        let _ = client.send_to(&[0; 72], to);
    }
    let (took, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let packets = (packets() - before) as f64;
    let (rate, share, each) = (packets / took, cpu / took * 100.0, cpu / packets * 1e6);
    println!("{rate:.0} small packets a second, {share:.0}% of a core, {each:.1} us of CPU each");
}

/// One TCP connection from west's edge to east's, as fast as it goes.
fn bulk(topology: &Topology, spec: &str) {
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let listener = east.edge().listen(east.tunnel_address());
    let reading = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut buffer, mut bytes, begun) = (vec![0; 1 << 18], 0, Instant::now());
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return bytes as f64 / begun.elapsed().as_secs_f64(),
                n => bytes += n,
            }
        }
    });
    let counters = || topology.emulator().counters("west", "east").unwrap();
    let (before, cpu, begun) = (counters(), cpu_seconds(), Instant::now());
    send(&mut west.edge().connect(east.tunnel_address()).unwrap());
    let cpu = cpu_seconds() - cpu;
    let share = cpu / begun.elapsed().as_secs_f64() * 100.0;
    let (rate, after) = (reading.join().unwrap() * 8.0 / 1e9, counters());
    let (packets, late) = (after.packets - before.packets, after.late - before.late);
    let late = late / u32::try_from(packets).unwrap().max(1);
    let each = cpu / packets as f64 * 1e6;
    println!(
        "{spec}: one TCP connection {rate:.2} Gbit/s, {share:.0}% of a core, {each:.1} us of CPU a packet of data"
    );
    println!("  departures late by {late:?} on average");
}

fn send(stream: &mut TcpStream) {
    let (begun, chunk) = (Instant::now(), vec![7; 1 << 18]);
    while begun.elapsed() < LOAD {
        stream.write_all(&chunk).unwrap();
    }
}

/// What the emulator's threads of this process have used.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let ticks = stats.filter_map(|stat| {
        let (before, after) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = after.split(' ').collect();
        let [user, system] = [fields.get(11)?.parse::<f64>().ok()?, fields.get(12)?.parse::<f64>().ok()?];
        before.ends_with("(wan").then_some(user + system)
    });
    ticks.sum::<f64>() / TICKS
}
