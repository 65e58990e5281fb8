//! Connections that are taken out of the local hop while they are in use: nobody at the other end notices anything.

use crate::{
    connection::{Ours, Pattern, connect, joined, read_end, receive, socket},
    hazards::set,
    programs,
};
use isthmus_ebpf::{Programs, Room, Withdrawal};
use rustix::net::sockopt;
use std::{
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::AsFd,
    thread,
    time::Duration,
};

/// Pieces of all sizes, as many bytes as `most` at least.
fn pieces(seed: u64, most: usize) -> impl Iterator<Item = usize> {
    let sizes = (seed as usize + 1..).map(|n| n * n % 40_001 + 1);
    sizes.scan(0, move |sum, size| {
        (*sum < most).then(|| {
            *sum += size;
            size
        })
    })
}

/// What an end of somebody else's does: writes and reads at the same time.
fn other(end: &TcpStream, seed: u64, bytes: usize) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = Pattern::new(seed);
            pieces(seed, bytes).for_each(|piece| sent.write(end, piece, piece));
            end.shutdown(Shutdown::Write).unwrap();
        });
        Pattern::new(seed + 2).read(end, pieces(seed + 1, bytes).sum(), 5000);
        read_end(end);
    });
}

/// What the gateway does with its own, in one thread: reads, writes, and asks after `patience` bytes read, until it is out.
fn gateway(programs: &Programs, end: &TcpStream, seed: u64, bytes: usize, patience: usize) {
    let (mut received, mut sent) = (Pattern::new(seed), Pattern::new(seed + 2));
    let (mut found, mut expected) = (vec![0; 30_000], vec![0; 30_000]);
    let mut writes = pieces(seed + 1, bytes);
    let (mut read, mut is_out) = (0, false);
    loop {
        let length = receive(end, &mut found).unwrap();
        received.fill(&mut expected[..length]);
        assert!(found[..length] == expected[..length], "seed {seed}, after {read} bytes");
        read += length;
        if length == 0 {
            break;
        }
        if !is_out && read >= patience {
            // As the gateway does before it writes on.
            while programs.room(end.as_fd(), true).unwrap() != Room::ByTcp {
                thread::yield_now();
            }
            is_out = programs.withdraw(end.as_fd(), read as u64).unwrap() == Withdrawal::Done;
        }
        writes.by_ref().take(1).for_each(|piece| {
            while matches!(programs.room(end.as_fd(), false).unwrap(), Room::Bytes(room) if (room as usize) < piece) {
                thread::yield_now();
            }
            sent.write(end, piece, piece);
        });
    }
    assert_eq!(read, pieces(seed, bytes).sum::<usize>(), "seed {seed}");
    writes.for_each(|piece| sent.write(end, piece, piece));
    end.shutdown(Shutdown::Write).unwrap();
}

/// Connections that are taken out after more and more bytes, some of whose other ends wait in their system calls.
#[test]
fn who_writes_and_reads_meanwhile_notices_nothing() {
    const BYTES: usize = 1 << 20;
    let programs = programs();
    // Whoever comes through a door is the gateway's: those to whom it connects are behind none.
    let [door, listener] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    for round in 0..12 {
        thread::scope(|scope| {
            for lane in 0..8 {
                let seed = 16 * round + 2 * lane;
                let (end, others) = if lane % 2 == 0 {
                    connect(&programs, &listener, Ours::Client)
                } else {
                    let (client, server) = connect(&programs, &door, Ours::Server);
                    (server, client)
                };
                others.set_nonblocking(round % 3 > 0).unwrap();
                scope.spawn(move || other(&others, seed, BYTES));
                let programs = &programs;
                scope.spawn(move || gateway(programs, &end, seed, BYTES, seed as usize * 4000));
            }
        });
    }
    let counts = programs.counts().unwrap();
    assert!(counts.withdrawn > 150 && counts.redirected > 1000, "{counts:?}");
    assert_eq!(programs.ends().unwrap(), 0);
}

/// Whoever closes or resets at that moment is gone as always, and nothing stays behind.
#[test]
fn the_other_end_may_go_meanwhile() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut done = 0;
    for round in 0..600_u64 {
        let (client, server) = connect(&programs, &listener, Ours::Client);
        assert_eq!(programs.room(client.as_fd(), true).unwrap(), Room::ByTcp);
        assert_eq!(programs.withdraw(client.as_fd(), 0).unwrap(), Withdrawal::NotYet);
        thread::scope(|scope| {
            scope.spawn(|| {
                if round % 2 == 0 {
                    sockopt::set_socket_linger(server.as_fd(), Some(Duration::ZERO)).unwrap();
                }
                (0..round % 7 * 300).for_each(|_| std::hint::spin_loop());
                drop(server);
            });
            let found = programs.withdraw(client.as_fd(), 0).unwrap();
            done += u64::from(found == Withdrawal::Done);
        });
        let end = receive(&client, &mut [0; 16]);
        assert_eq!(end.is_ok_and(|length| length == 0), round % 2 == 1, "round {round}");
    }
    assert!(done > 0, "none was taken out");
    assert_eq!(programs.ends().unwrap(), 0);
}

/// A connection that has been taken out is nobody's: neither end is asked about any more.
#[test]
fn it_is_out_for_good() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = connect(&programs, &listener, Ours::Server);
    assert_eq!(joined(&programs, &pair), (true, true));
    let end = pair.1.as_fd();
    assert_eq!(programs.withdraw(end, 0).unwrap(), Withdrawal::Stays, "nothing goes by TCP");
    assert_eq!(programs.room(end, true).unwrap(), Room::ByTcp);
    let found = [0; 3].map(|read| programs.withdraw(end, read).unwrap());
    assert_eq!(found, [Withdrawal::NotYet, Withdrawal::Done, Withdrawal::Never]);
    assert!(!programs.noted(end).unwrap().joined);
    let before = programs.counts().unwrap();
    Pattern::new(1).write(&pair.0, 5000, 500);
    Pattern::new(1).read(&pair.1, 5000, 700);
    assert_eq!(programs.counts().unwrap(), before);
    drop(pair);
    assert_eq!(programs.ends().unwrap(), 0);
}

/// An end that is alone is out soon: here the kernel makes the other one when data come, and the programs let none join by then. The same goes for
/// one on another node.
#[test]
fn an_end_that_is_alone_goes_too() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set(&listener, libc::TCP_DEFER_ACCEPT, 10);
    let to = listener.local_addr().unwrap();
    let client = socket(to);
    programs.mark(client.as_fd()).unwrap();
    client.connect(&to.into()).unwrap();
    let client: TcpStream = client.into();
    programs.enable(false).unwrap();
    let (mut sent, mut received) = (Pattern::new(2), Pattern::new(2));
    sent.write(&client, 10, 10);
    let (server, _) = listener.accept().unwrap();
    programs.enable(true).unwrap();
    client.set_nonblocking(true).unwrap();
    server.set_nonblocking(true).unwrap();
    let pair = (client, server);
    assert_eq!(joined(&programs, &pair), (true, false));
    let (client, server) = pair;
    Pattern::new(1).write(&server, 5000, 500);
    let found = [0; 2].map(|read| programs.withdraw(client.as_fd(), read).unwrap());
    assert_eq!(found, [Withdrawal::NotYet, Withdrawal::Done], "what came by TCP stays where it is");
    Pattern::new(1).read(&client, 5000, 700);
    sent.write(&client, 5000, 500);
    received.read(&server, 5010, 700);
    drop((client, server));
    assert_eq!(programs.ends().unwrap(), 0);
}
