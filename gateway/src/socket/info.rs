//! What the kernel knows of a TCP connection (tcp(7), TCP_INFO).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

/// How a TCP connection fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFacts {
    /// The smoothed round trip.
    pub rtt: Duration,
    /// The shortest one of the last minutes.
    pub least_rtt: Duration,
    /// Bytes a second that were delivered lately.
    pub rate: u64,
    /// Segments with data sent so far, those sent again among them.
    pub sent: u64,
    /// Segments sent again so far.
    pub lost: u64,
}

/// Where the kernel's `struct tcp_info` has its fields (linux/tcp.h). It only ever grows at its end.
const RTT: usize = 68;
/// See [`RTT`].
const TOTAL_RETRANS: usize = 100;
/// See [`RTT`].
const BYTES_RECEIVED: usize = 128;
/// See [`RTT`].
const MIN_RTT: usize = 148;
/// See [`RTT`].
const DATA_SEGS_OUT: usize = 156;
/// See [`RTT`].
const DELIVERY_RATE: usize = 160;
/// Up to the last field that is read here.
const LENGTH: usize = DELIVERY_RATE + 8;

/// See [`RTT`].
const RETRANSMITS: usize = 2;
/// See [`RTT`].
const UNACKED: usize = 24;
/// So many times in a row the kernel has sent something again in vain when it is [`stuck`]: after about a second and a half.
const IN_VAIN: u8 = 3;
/// How often [`stuck`] looks.
const LOOK: Duration = Duration::from_millis(200);

/// Waits until what was sent on a connection does not get through.
pub async fn stuck(socket: OwnedFd) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(info) = tcp_info(&socket) else { return std::future::pending().await };
        let unacked = u32::from_ne_bytes(std::array::from_fn(|i| info[UNACKED + i]));
        if unacked > 0 && info[RETRANSMITS] >= IN_VAIN {
            return;
        }
    }
}

/// Asks the kernel.
///
/// # Errors
/// It is no TCP socket, or the kernel is older than 4.9.
pub fn tcp_facts(socket: &impl AsFd) -> io::Result<TcpFacts> {
    let info = tcp_info(socket)?;
    let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| info[at + i]));
    Ok(TcpFacts {
        rtt: Duration::from_micros(word(RTT).into()),
        least_rtt: Duration::from_micros(word(MIN_RTT).into()),
        rate: u64::from_ne_bytes(std::array::from_fn(|i| info[DELIVERY_RATE + i])),
        sent: word(DATA_SEGS_OUT).into(),
        lost: word(TOTAL_RETRANS).into(),
    })
}

/// Bytes that have come by TCP in order; the end counts as one.
///
/// # Errors
/// As [`tcp_facts`].
pub(crate) fn bytes_received(socket: &impl AsFd) -> io::Result<u64> {
    let info = tcp_info(socket)?;
    Ok(u64::from_ne_bytes(std::array::from_fn(|i| info[BYTES_RECEIVED + i])))
}

fn tcp_info(socket: &impl AsFd) -> io::Result<[u8; LENGTH]> {
    let mut info = [0_u8; LENGTH];
    let mut length = LENGTH as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many, and says in `length` how many it wrote.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < LENGTH {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_connection_tells_what_it_has_sent() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut dialled = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        for _ in 0..5 {
            dialled.write_all(b"x").unwrap();
            accepted.read_exact(&mut [0]).unwrap();
        }
        let facts = tcp_facts(&dialled).unwrap();
        assert!(facts.sent >= 5 && facts.lost <= facts.sent, "{facts:?}");
        assert!(facts.rtt >= facts.least_rtt && facts.least_rtt > Duration::ZERO, "{facts:?}");
        assert_eq!(bytes_received(&accepted).unwrap(), 5);
        dialled.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
        assert_eq!(bytes_received(&accepted).unwrap(), 5 + 1);
        assert!(tcp_facts(&std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).is_err());
    }
}
