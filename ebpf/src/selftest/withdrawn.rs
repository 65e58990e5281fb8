//! Connections that are taken out of the local hop, and are plain TCP from then on.

use super::{
    Kind, LOST, Pair, Side, Wrong,
    pair::{byte, read, read_end, receive, send, write},
};
use crate::{Programs, Room, Withdrawal};
use std::{
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

/// Bytes each way before a busy connection is taken out, and in all.
const BEFORE: u64 = 200_000;
const ALL: u64 = 1 << 20;
/// More than a socket has room for at once.
const PIECE: usize = 1000;

/// The gateway's end, and the other one.
fn ends(side: Side, pair: &Pair) -> (&TcpStream, &TcpStream) {
    if side == Side::Connects { (&pair.client, &pair.server) } else { (&pair.server, &pair.client) }
}

fn expect(programs: &Programs, ours: &TcpStream, read: u64, expected: Withdrawal) -> Result<(), Wrong> {
    match programs.withdraw(ours.as_fd(), read)? {
        found if found == expected => Ok(()),
        found => Err(Wrong::Withdrawal { found, expected }),
    }
}

/// Not before one way goes by TCP, not while anything is unread on either side, then at once, and for good.
pub(super) fn step_by_step(kind: Kind<'_>) -> Result<(), Wrong> {
    const BYTES: u64 = 5000;
    let (programs, pair) = (kind.programs, kind.pair()?);
    let (ours, theirs) = ends(kind.side, &pair);
    write(theirs, BYTES, PIECE)?;
    expect(programs, ours, 0, Withdrawal::Stays)?;
    if programs.room(ours.as_fd(), true)? != Room::ByTcp {
        return Err(Wrong::NotRedirected);
    }
    write(ours, BYTES, PIECE)?;
    expect(programs, ours, 0, Withdrawal::NotYet)?;
    expect(programs, ours, 0, Withdrawal::NotYet)?;
    read(ours, 0, BYTES)?;
    read(theirs, 0, BYTES)?;
    // Behind what was redirected, by TCP already.
    let before = programs.counts()?;
    send(theirs, &[byte(BYTES)])?;
    read(ours, BYTES, BYTES + 1)?;
    expect(programs, ours, BYTES + 1, Withdrawal::Done)?;
    expect(programs, ours, BYTES + 1, Withdrawal::Never)?;
    for (from, to) in [(ours, theirs), (theirs, ours)] {
        write(from, BYTES, PIECE)?;
        from.shutdown(Shutdown::Write)?;
        read(to, 0, BYTES)?;
        read_end(to, BYTES)?;
    }
    let after = programs.counts()?;
    if after.redirected != before.redirected || programs.noted(ours.as_fd())?.joined {
        return Err(Wrong::Stranger);
    }
    Ok(())
}

/// In the middle of what both ends write, whose other end reads and writes without knowing of it.
pub(super) fn busy(kind: Kind<'_>) -> Result<(), Wrong> {
    let pair = &kind.pair()?;
    let (ours, theirs) = ends(kind.side, pair);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            write(theirs, ALL, PIECE)?;
            Ok(theirs.shutdown(Shutdown::Write)?)
        });
        let reader = scope.spawn(|| {
            read(theirs, 0, ALL)?;
            read_end(theirs, ALL)
        });
        let gateway = gateway(kind.programs, ours);
        // Whoever waits for the others waits no longer.
        if gateway.is_err() {
            let _ = ours.shutdown(Shutdown::Both);
        }
        let threads = [writer, reader].map(|thread| thread.join().unwrap_or(Err(Wrong::ResetLost)));
        gateway?;
        threads.into_iter().collect()
    })
}

/// One thread, as a stream of the gateway is: reads, writes, and asks in between.
fn gateway(programs: &Programs, socket: &TcpStream) -> Result<(), Wrong> {
    let (mut at, mut written, mut out) = (0, 0, false);
    let mut buffer = vec![0; 64 * 1024];
    while at < ALL {
        let length = receive(socket, &mut buffer)?;
        if length == 0 {
            return Err(Wrong::Length { found: at, expected: ALL });
        }
        if let Some((at, found)) = (at..).zip(&buffer[..length]).find(|(at, found)| **found != byte(*at)) {
            return Err(Wrong::Byte { at, found: *found, expected: byte(at) });
        }
        at += length as u64;
        if at >= BEFORE && !out {
            // What goes there goes by TCP from when all is read.
            programs.room(socket.as_fd(), true)?;
            out = programs.withdraw(socket.as_fd(), at)? == Withdrawal::Done;
        }
        while written < at {
            let until = at.min(written + PIECE as u64);
            let piece: Vec<u8> = (written..until).map(byte).collect();
            send(socket, &piece)?;
            written = until;
        }
    }
    read_end(socket, at)?;
    // By now everything comes to rest, if it was never so before.
    let begun = Instant::now();
    while !out {
        programs.room(socket.as_fd(), true)?;
        match programs.withdraw(socket.as_fd(), at + 1)? {
            Withdrawal::Done => out = true,
            Withdrawal::Stays | Withdrawal::NotYet if begun.elapsed() < LOST => thread::sleep(Duration::from_millis(1)),
            found => return Err(Wrong::Withdrawal { found, expected: Withdrawal::Done }),
        }
    }
    Ok(socket.shutdown(Shutdown::Write)?)
}
