//! What is tried.

use super::{
    Kind, Pair, Side, Wrong,
    pair::{byte, read, read_end, receive, send, write},
};
use crate::Room;
use rustix::net::sockopt;
use std::{
    io::ErrorKind,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    thread,
    time::Duration,
};

/// More than may be unread, so that flows go back to TCP within it.
const LARGE: u64 = 4 << 20;

/// One byte there and one back, often; all of it redirected.
pub(super) fn tiny(kind: Kind<'_>) -> Result<(), Wrong> {
    const TIMES: u64 = 200;
    let pair = kind.pair()?;
    let before = kind.programs.counts()?;
    for at in 0..TIMES {
        one(&pair.client, &pair.server, at)?;
        one(&pair.server, &pair.client, at)?;
    }
    let after = kind.programs.counts()?;
    if after.redirected - before.redirected < 2 * TIMES - 2 {
        return Err(Wrong::NotRedirected);
    }
    Ok(())
}

/// What the gateway asks before it writes on is told, and it can leave when all is read, not before.
pub(super) fn room(kind: Kind<'_>) -> Result<(), Wrong> {
    const BYTES: u32 = 5000;
    let pair = kind.pair()?;
    for (from, to) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let ask = |leave, expected| match kind.programs.room(from.as_fd(), leave)? {
            found if found == expected => Ok(()),
            found => Err(Wrong::Room { found, expected }),
        };
        let Room::Bytes(all) = kind.programs.room(from.as_fd(), false)? else {
            return Err(Wrong::NotRedirected);
        };
        write(from, BYTES.into(), 1000)?;
        ask(false, Room::Bytes(all.saturating_sub(BYTES)))?;
        ask(true, Room::Bytes(all.saturating_sub(BYTES)))?;
        read(to, 0, BYTES.into())?;
        ask(false, Room::Bytes(all))?;
        ask(true, Room::ByTcp)?;
        ask(false, Room::ByTcp)?;
        write(from, BYTES.into(), 1000)?;
        read(to, 0, BYTES.into())?;
    }
    Ok(())
}

fn one(from: &TcpStream, to: &TcpStream, at: u64) -> Result<(), Wrong> {
    send(from, &[byte(at)])?;
    read(to, at, at + 1)
}

/// Much both ways at once, in small pieces one way and a huge one the other. Readers come late, so that flows change from redirect to
/// TCP in the middle.
pub(super) fn both_ways(kind: Kind<'_>) -> Result<(), Wrong> {
    // Made before anybody waits for it: on a slow machine that takes longer than all the rest.
    let bytes: Vec<u8> = (0..LARGE).map(byte).collect();
    let Pair { client, server } = &kind.pair()?;
    let late = |from: &TcpStream| {
        thread::sleep(Duration::from_millis(30));
        read(from, 0, LARGE)?;
        read_end(from, LARGE)
    };
    let all = |to: &TcpStream, piece| {
        bytes.chunks(piece).try_for_each(|piece| send(to, piece))?;
        Ok(to.shutdown(Shutdown::Write)?)
    };
    thread::scope(|scope| {
        let up = scope.spawn(|| all(client, 1000));
        let down = scope.spawn(|| all(server, bytes.len()));
        let at_server = scope.spawn(|| late(server));
        let at_client = late(client);
        let [at_server, up, down] =
            [at_server, up, down].map(|thread| thread.join().unwrap_or(Err(Wrong::ResetLost)).err());
        worst([one_way(up, at_server), one_way(down, at_client.err())]).map_or(Ok(()), Err)
    })
}

/// Of what the writer and the reader of one way have found. Whoever finds something stops, so that the other waits for him in vain: that
/// nothing came is the last thing to believe, also where somebody has stopped because it came too slowly.
fn one_way(writer: Option<Wrong>, reader: Option<Wrong>) -> Option<Wrong> {
    [writer, reader].into_iter().flatten().min_by_key(|wrong| match wrong {
        Wrong::Io(error) if error.kind() == ErrorKind::TimedOut => 2,
        Wrong::Slow(_) => 1,
        _ => 0,
    })
}

/// Of what was found each way. That one was slow explains nothing of the other.
fn worst(ways: [Option<Wrong>; 2]) -> Option<Wrong> {
    ways.into_iter().flatten().min_by_key(|wrong| matches!(wrong, Wrong::Slow(_)))
}

/// One end has said all, and reads only when the other one has closed: nothing of what is queued is lost.
pub(super) fn half_close(kind: Kind<'_>) -> Result<(), Wrong> {
    const QUEUED: u64 = 300_000;
    for closes in [Side::Connects, Side::Accepts] {
        let Pair { client, server } = kind.pair()?;
        let (first, last) = if closes == Side::Connects { (client, server) } else { (server, client) };
        write(&first, 10, 10)?;
        first.shutdown(Shutdown::Write)?;
        read(&last, 0, 10)?;
        read_end(&last, 10)?;
        write(&last, QUEUED, 10_000)?;
        drop(last);
        // What is told by TCP has arrived long before.
        thread::sleep(Duration::from_millis(2));
        read(&first, 0, QUEUED)?;
        read_end(&first, QUEUED)?;
    }
    Ok(())
}

/// A reset is a reset, with data before it or not.
pub(super) fn reset(kind: Kind<'_>) -> Result<(), Wrong> {
    for queued in [0, 1, 100_000] {
        let Pair { client, server } = kind.pair()?;
        write(&server, queued, 10_000)?;
        sockopt::set_socket_linger(server.as_fd(), Some(Duration::ZERO)).map_err(std::io::Error::from)?;
        drop(server);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match receive(&client, &mut buffer) {
                Ok(0) => return Err(Wrong::ResetLost),
                Ok(_) => {}
                Err(Wrong::Io(error)) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(wrong) => return Err(wrong),
            }
        }
    }
    Ok(())
}

/// Many connections that all carry something at the same time.
pub(super) fn many(kind: Kind<'_>) -> Result<(), Wrong> {
    const BYTES: u64 = 3000;
    let pairs = (0..64).map(|_| kind.pair()).collect::<Result<Vec<_>, _>>()?;
    for pair in &pairs {
        write(&pair.client, BYTES, 700)?;
        write(&pair.server, BYTES, 3000)?;
    }
    for pair in &pairs {
        read(&pair.server, 0, BYTES)?;
        read(&pair.client, 0, BYTES)?;
    }
    Ok(())
}

/// Nobody else's connection takes part, on the same addresses.
pub(super) fn strangers(kind: Kind<'_>) -> Result<(), Wrong> {
    let pair = Pair::make(kind.programs, kind.address, Side::Nobodys)?;
    write(&pair.client, 100, 100)?;
    read(&pair.server, 0, 100)?;
    if pair.joined(kind.programs)? == (false, false) { Ok(()) } else { Err(Wrong::Stranger) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Option<Wrong> {
        Some(Wrong::Io(ErrorKind::TimedOut.into()))
    }

    fn slow() -> Option<Wrong> {
        Some(Wrong::Slow(Duration::from_secs(3)))
    }

    fn text(wrong: Option<Wrong>) -> Option<String> {
        wrong.map(|wrong| wrong.to_string())
    }

    #[test]
    fn who_waits_for_one_that_was_slow_has_lost_nothing() {
        let reset = || Some(Wrong::Io(ErrorKind::ConnectionReset.into()));
        let byte = || Some(Wrong::Byte { at: 1, found: 2, expected: 3 });
        assert_eq!(text(one_way(lost(), slow())), text(slow()));
        assert_eq!(text(one_way(slow(), lost())), text(slow()));
        assert_eq!(text(one_way(lost(), lost())), text(lost()));
        for wrong in [byte, reset] {
            assert_eq!(text(one_way(lost(), wrong())), text(wrong()));
            assert_eq!(text(one_way(wrong(), slow())), text(wrong()));
        }
        assert_eq!(text(one_way(None, None)), None);
    }

    #[test]
    fn that_one_way_was_slow_hides_no_loss_on_the_other() {
        assert_eq!(text(worst([slow(), lost()])), text(lost()));
        assert_eq!(text(worst([lost(), slow()])), text(lost()));
        assert_eq!(text(worst([slow(), None])), text(slow()));
        assert_eq!(text(worst([None, None])), None);
    }
}
