//! What has gone wrong with such programs elsewhere, each as a test.

use crate::{
    connection::{Ours, PATIENCE, Pattern, connect, joined, read_end, receive, send, socket},
    programs,
};
use isthmus_ebpf::Room;
use rustix::{event::epoll, net::RecvFlags};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Data in the SYN lies at the server before anything can be redirected, and must stay in front.
#[test]
fn tcp_fast_open_is_left_alone() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    enable_fast_open();
    set(&listener, libc::TCP_FASTOPEN, 16);
    for _ in 0..20 {
        let client = socket(to);
        set(&client, libc::TCP_FASTOPEN_CONNECT, 1);
        programs.mark(client.as_fd()).unwrap();
        client.connect(&to.into()).unwrap();
        let client: TcpStream = client.into();
        client.set_nonblocking(true).unwrap();
        let mut sent = Pattern::new(8);
        sent.write(&client, 500, 500);
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        sent.write(&client, 5_000, 50);
        client.shutdown(Shutdown::Write).unwrap();
        Pattern::new(8).read(&server, 5_500, 333);
        read_end(&server);
    }
}

/// What somebody has left unread can be asked for, from the other end, and asking changes nothing.
#[test]
fn what_lies_unread_is_told() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, server) = connect(&programs, &listener, Ours::Client);
    let unread = || programs.unread(client.as_fd()).unwrap();
    assert_eq!(unread(), 0);
    let (mut sent, mut received) = (Pattern::new(4), Pattern::new(4));
    sent.write(&client, 5000, 1000);
    assert_eq!(unread(), 5000);
    received.read(&server, 3000, 500);
    assert!((1..5000).contains(&unread()), "{}", unread());
    received.read(&server, 2000, 500);
    assert_eq!(unread(), 0);
    let before = programs.counts().unwrap().redirected;
    sent.write(&client, 100, 100);
    received.read(&server, 100, 100);
    assert_eq!(programs.counts().unwrap().redirected, before + 1);
    drop(server);
    assert_eq!(unread(), 0);
}

/// Pieces of all sizes to a reader that stands still until nothing more goes in, and then keeps falling behind and catching up: each change between
/// the ways keeps the order.
#[test]
fn changing_ways_keeps_the_order() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    const PIECES: usize = 2000;
    let pieces = || (1..PIECES).map(|n| n * n % 70_001 + 1);
    thread::scope(|scope| {
        for seed in 0..8 {
            let pair = connect(&programs, &listener, if seed % 2 == 0 { Ours::Client } else { Ours::Server });
            scope.spawn(move || {
                let (client, server) = &pair;
                let mut received = Pattern::new(seed);
                let (is_full, wait_for_full) = mpsc::sync_channel(1);
                thread::scope(|scope| {
                    scope.spawn(move || {
                        let mut sent = Pattern::new(seed);
                        let mut bytes = Vec::new();
                        for piece in pieces() {
                            bytes.resize(piece, 0);
                            sent.fill(&mut bytes);
                            let written = send_at_once(client, &bytes);
                            if written < piece {
                                // Once is enough: later there may be nobody who waits, and room for one.
                                let _ = is_full.try_send(());
                                send(client, &bytes[written..]).unwrap();
                            }
                        }
                        client.shutdown(Shutdown::Write).unwrap();
                    });
                    wait_for_full.recv().expect("a sender that nobody reads from cannot write all of it");
                    let mut read = 0;
                    for piece in pieces() {
                        received.read(server, piece, 16 * 1024);
                        read += piece;
                        if read > 5 << 20 {
                            read = 0;
                            thread::sleep(Duration::from_millis(5));
                        }
                    }
                    read_end(server);
                });
            });
        }
    });
    let counts = programs.counts().unwrap();
    assert!(
        counts.redirected > counts.unread && counts.unread == 8,
        "each went one way and then the other: {counts:?}"
    );
}

/// What goes in without waiting.
fn send_at_once(mut to: &TcpStream, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match to.write(&bytes[written..]) {
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    written
}

/// Bytes that come while connections are being accepted, and so by TCP, stay in front of those that are redirected then.
#[test]
fn the_first_bytes_keep_the_order() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    programs.open_door(listener.as_fd()).unwrap();
    let to = listener.local_addr().unwrap();
    const CONNECTIONS: u64 = 2000;
    const PIECES: [usize; 6] = [1, 700, 3, 20_000, 1, 9];
    thread::scope(|scope| {
        scope.spawn(|| {
            for seed in 0..CONNECTIONS {
                let client = TcpStream::connect(to).unwrap();
                client.set_nodelay(true).unwrap();
                client.set_nonblocking(true).unwrap();
                let mut sent = Pattern::new(seed);
                PIECES.iter().for_each(|&piece| sent.write(&client, piece, piece));
                read_end(&client);
            }
        });
        for seed in 0..CONNECTIONS {
            let (server, _) = listener.accept().unwrap();
            server.set_nonblocking(true).unwrap();
            Pattern::new(seed).read(&server, PIECES.iter().sum(), 4096);
        }
    });
    let counts = programs.counts().unwrap();
    assert_eq!(counts.joined, 2 * CONNECTIONS, "{counts:?}");
    assert!(counts.redirected > 0 && counts.behind + counts.waits > 0, "{counts:?}");
}

/// The same where packets are handed from CPU to CPU (RPS), and so arrive later than what is redirected.
#[test]
fn rps_does_not_change_the_order() {
    // A namespace of its own has a loopback of its own, whose packets all CPUs take.
    const INSIDE: &str = "mount -t sysfs sysfs /mnt && ip link set lo up && \
                          printf %x $(((1 << $(nproc)) - 1)) > /mnt/class/net/lo/queues/rx-0/rps_cpus && exec \"$@\"";
    let output = std::process::Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", INSIDE, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "hazards::the_first_bytes_keep_the_order", "hazards::changing_ways_keeps_the_order"])
        .arg("withdrawing::who_writes_and_reads_meanwhile_notices_nothing")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("3 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// What a sender has left behind, which has closed since, arrives whole, however late it is read, and by however much more than may be unread.
#[test]
fn what_was_written_before_a_close_arrives() {
    const MOST: usize = 8 << 20;
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    thread::scope(|scope| {
        for seed in 0..24 {
            let (client, server) =
                connect(&programs, &listener, if seed % 2 == 0 { Ours::Client } else { Ours::Server });
            let (client, server) = if seed % 4 < 2 { (client, server) } else { (server, client) };
            let bytes = MOST - (seed as usize) * 300_001;
            scope.spawn(move || {
                Pattern::new(seed).write(&client, bytes, 64 * 1024);
                client.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                thread::sleep(Duration::from_secs(3));
                Pattern::new(seed).read(&server, bytes, 64 * 1024);
                read_end(&server);
            });
        }
    });
}

/// A reader that takes a read with room left for the last one until epoll tells of more, as programs on tokio and nginx do, gets what
/// the gateway wrote while it had stopped: nothing of that is behind an edge that has passed.
#[test]
fn a_late_reader_by_edges_misses_nothing() {
    const BYTES: usize = 5 << 20;
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for ours in [Ours::Client, Ours::Server] {
        let (client, server) = connect(&programs, &listener, ours);
        let (writer, reader) = if ours == Ours::Client { (client, server) } else { (server, client) };
        let (epoll, mut events) = edges(&reader);
        thread::scope(|scope| {
            scope.spawn(|| {
                // As the gateway writes.
                let (mut sent, mut left) = (Pattern::new(5), BYTES);
                while let Room::Bytes(room) = programs.room(writer.as_fd(), left < BYTES / 2).unwrap() {
                    let bytes = left.min(room as usize);
                    sent.write(&writer, bytes, 10_000);
                    left -= bytes;
                    thread::sleep(Duration::from_micros(100));
                }
                sent.write(&writer, left, 10_000);
                writer.shutdown(Shutdown::Write).unwrap();
            });
            // It has stopped until the writer waits for it.
            eventually(|| programs.room(writer.as_fd(), false).unwrap() == Room::Bytes(0));
            let (mut read, mut ended) = (Pattern::new(5), false);
            let (mut found, mut expected) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
            let mut left = BYTES;
            while !ended {
                events.clear();
                epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&PATIENCE)).unwrap();
                assert!(!events.is_empty(), "{left} bytes lie behind an edge that has passed");
                loop {
                    let length = match (&reader).read(&mut found) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        length => length.unwrap(),
                    };
                    read.fill(&mut expected[..length]);
                    assert!(found[..length] == expected[..length], "{left} bytes before the end");
                    left -= length;
                    ended = length == 0;
                    // The end is told of apart: as tokio has it, it is not forgotten.
                    let has_ended =
                        events.iter().any(|&epoll::Event { flags, .. }| flags.contains(epoll::EventFlags::RDHUP));
                    if ended || (length < found.len() && !has_ended) {
                        break;
                    }
                }
            }
            assert_eq!(left, 0);
        });
    }
    let counts = programs.counts().unwrap();
    assert_eq!((counts.unread, counts.behind + counts.waits), (2, 0), "both went by TCP at last: {counts:?}");
}

fn edges(socket: &TcpStream) -> (OwnedFd, Vec<epoll::Event>) {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    epoll::add(&epoll, socket, epoll::EventData::new_u64(0), flags).unwrap();
    (epoll, Vec::with_capacity(4))
}

fn eventually(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed().as_secs() < PATIENCE.tv_sec.cast_unsigned(), "it has not come to that");
        thread::sleep(Duration::from_millis(1));
    }
}

/// An end that is established late, when the gateway has written without it, does not join: nobody would keep it room.
#[test]
fn an_end_that_comes_late_stays_out() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    for late in [false, true] {
        // The kernel makes the accepting end when data come.
        set(&listener, libc::TCP_DEFER_ACCEPT, 10);
        let client = socket(to);
        programs.mark(client.as_fd()).unwrap();
        client.connect(&to.into()).unwrap();
        let client: TcpStream = client.into();
        client.set_nonblocking(true).unwrap();
        if late {
            assert_eq!(programs.room(client.as_fd(), false).unwrap(), Room::ByTcp);
        }
        let mut sent = Pattern::new(6);
        sent.write(&client, 10, 10);
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut received = Pattern::new(6);
        received.read(&server, 10, 10);
        assert_eq!(programs.noted(server.as_fd()).unwrap().joined, !late);
        sent.write(&client, 5_000, 50);
        received.read(&server, 5_000, 50);
    }
}

/// A reset gets through to a reader that is busy with much that was redirected. The kernel drops it where that is too much.
#[test]
fn a_reset_reaches_a_busy_reader() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for round in 0..1000 {
        let ours = if round % 2 == 0 { Ours::Client } else { Ours::Server };
        let (client, server) = connect(&programs, &listener, ours);
        let (mut writer, reader) = if round % 4 < 2 { (client, server) } else { (server, client) };
        // Over loopback it is huge, and what may come in meanwhile with it.
        rustix::net::sockopt::set_socket_send_buffer_size(&reader, 16 * 1024).unwrap();
        // As much as goes, up to what would be too much.
        let piece = vec![7; 32 * 1024];
        for _ in 0..28 {
            match writer.write(&piece) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                written => drop(written.unwrap()),
            }
        }
        let reads = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut found = vec![0; 128 * 1024];
                reads.store(true, Ordering::Relaxed);
                loop {
                    match receive(&reader, &mut found) {
                        Ok(length) => assert!(length > 0, "a reset came as an end"),
                        Err(error) => break assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                    }
                }
            });
            rustix::net::sockopt::set_socket_linger(&writer, Some(Duration::ZERO)).unwrap();
            while !reads.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            // The reader is at one place or another.
            (0..round % 50 * 20).for_each(|_| std::hint::spin_loop());
            drop(writer);
        });
    }
}

/// A GiB, byte by byte, past a reader that pauses.
#[test]
fn a_gib_arrives_whole() {
    const GIB: usize = 1 << 30;
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, server) = connect(&programs, &listener, Ours::Client);
    thread::scope(|scope| {
        scope.spawn(|| {
            Pattern::new(4).write(&client, GIB, 256 * 1024);
            client.shutdown(Shutdown::Write).unwrap();
        });
        Pattern::new(4).read(&server, GIB, 64 * 1024);
        read_end(&server);
    });
}

/// Whoever writes to an end that has reset the connection is told.
#[test]
fn a_reset_reaches_a_writer() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for ours in [Ours::Client, Ours::Server] {
        let (client, server) = connect(&programs, &listener, ours);
        send(&client, &[1; 5000]).unwrap();
        rustix::net::sockopt::set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
        drop(server);
        let failed = (0..100).find_map(|_| send(&client, &[2; 5000]).err()).expect("a write after a reset fails");
        assert!(matches!(failed.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{failed}");
    }
}

/// A read that waits for all that it asks for gets it.
#[test]
fn who_waits_in_a_read_is_not_redirected_to() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, server) = connect(&programs, &listener, Ours::Client);
    server.set_nonblocking(false).unwrap();
    const BYTES: usize = 100_000;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = Pattern::new(1);
            for _ in 0..BYTES / 1000 {
                sent.write(&client, 1000, 1000);
                thread::sleep(Duration::from_micros(20));
            }
        });
        let (mut found, mut expected) = (vec![0; BYTES], vec![0; BYTES]);
        let (length, _) = rustix::net::recv(&server, &mut found[..], RecvFlags::WAITALL).unwrap();
        Pattern::new(1).fill(&mut expected);
        assert_eq!(length, BYTES);
        assert!(found == expected);
    });
    let counts = programs.counts().unwrap();
    assert!(counts.waits > 0 && counts.redirected == 0, "{counts:?}");
}

/// A connection that is encrypted by the kernel goes by TCP: what is written there is not what the other end expects.
#[test]
fn ktls_goes_by_tcp() {
    let programs = programs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, server) = connect(&programs, &listener, Ours::Client);
    assert_eq!(joined(&programs, &(client.try_clone().unwrap(), server.try_clone().unwrap())), (true, true));
    let name = b"tls";
    // SAFETY: the kernel reads as many bytes as `name` has.
    let result =
        unsafe { libc::setsockopt(client.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_ULP, name.as_ptr().cast(), 3) };
    if result != 0 {
        // A kernel without kTLS, or one that refuses it here: then there is nothing to encrypt.
        let error = std::io::Error::last_os_error();
        assert!(matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP)), "{error}");
        return;
    }
    let before = programs.counts().unwrap().redirected;
    // Without keys it is written as it is.
    Pattern::new(1).write(&client, 500, 500);
    Pattern::new(1).read(&server, 500, 500);
    let after = programs.counts().unwrap();
    assert_eq!((after.redirected, after.encrypted), (before, 1));
}

fn enable_fast_open() {
    // Both sides, for this namespace; the value is left as the next test wants it, too.
    std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1027").unwrap();
}

/// Sets an option of TCP.
pub(crate) fn set(socket: &impl AsFd, option: i32, value: i32) {
    // SAFETY: the kernel reads one int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
