//! The congestion control of a TCP connection.

use rustix::net::{AddressFamily, SocketType, sockopt};
use std::{io, os::fd::AsFd};

/// The one that learns what a path carries, and keeps that.
const BBR: &str = "bbr";
/// One that every kernel has.
const RENO: &str = "reno";

/// Has a connection learn anew what its path carries, if it keeps that; whether it does. What is under way is not touched.
///
/// # Errors
/// It is no TCP connection, or BBR was forbidden at this moment.
pub fn learn_anew(socket: &impl AsFd) -> io::Result<bool> {
    if sockopt::tcp_congestion(socket)? != BBR || !may_choose_bbr() {
        return Ok(false);
    }
    // The same one again would change nothing.
    sockopt::set_tcp_congestion(socket, RENO)?;
    sockopt::set_tcp_congestion(socket, BBR).inspect_err(|error| {
        // Somebody has forbidden it between the two. Where Cubic cannot be had either, Reno it is.
        tracing::warn!(%error, "BBR cannot be chosen any more: a tunnel goes on without");
        let _ = sockopt::set_tcp_congestion(socket, "cubic");
    })?;
    Ok(true)
}

/// A route may give connections what this process may not choose (tcp(7), tcp_allowed_congestion_control): there would be no way back.
fn may_choose_bbr() -> bool {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
    let may = |name| socket.as_ref().is_ok_and(|socket| sockopt::set_tcp_congestion(socket, name).is_ok());
    may(RENO) && may(BBR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_connection_that_begins_anew_goes_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut dialled = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        for control in [RENO, "cubic", BBR] {
            // Not every kernel has all of them.
            let is_there = sockopt::set_tcp_congestion(&dialled, control).is_ok();
            let before = sockopt::tcp_congestion(&dialled).unwrap();
            dialled.write_all(b"before").unwrap();
            assert_eq!(learn_anew(&dialled).unwrap(), before == BBR && may_choose_bbr(), "{control}, {is_there}");
            assert_eq!(sockopt::tcp_congestion(&dialled).unwrap(), before);
            dialled.write_all(b"after").unwrap();
            let mut received = [0; 11];
            accepted.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"beforeafter");
        }
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(learn_anew(&udp).is_err());
    }
}
