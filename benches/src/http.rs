//! As much of an HTTP/1.1 client as readiness, idle connections and stalled readers need.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);
/// More than any head that the origin sends.
const MAX_HEAD: usize = 4096;

/// Connects to `address`.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// The same, but gives up after `limit`.
pub fn connect_within(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The body of the answer to a request of its own connection.
pub fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = connect(address)?;
    request(&mut stream, path)?;
    let (head, length, bytes) = read_answer(&mut stream)?;
    Ok(String::from_utf8_lossy(&bytes[head..head + length]).into_owned())
}

/// Sends one keep-alive request for `path`.
pub fn request(stream: &mut TcpStream, path: &str) -> io::Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes())
}

/// One exchange on a connection that stays open; the body's length.
pub fn exchange(stream: &mut TcpStream, path: &str) -> io::Result<usize> {
    request(stream, path)?;
    answer(stream)
}

/// Reads the answer to one request; the body's length.
pub fn answer(stream: &mut TcpStream) -> io::Result<usize> {
    read_answer(stream).map(|(_, length, _)| length)
}

/// The head's length, the body's, and everything that was read.
fn read_answer(stream: &mut TcpStream) -> io::Result<(usize, usize, Vec<u8>)> {
    let mut read = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    loop {
        if let Some((head, length)) = parse_head(&read)?
            && read.len() >= head + length
        {
            return Ok((head, length, read));
        }
        match stream.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => read.extend_from_slice(&chunk[..count]),
        }
    }
}

/// The head's length and the body's, once the head is whole.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD { Err(invalid("the head does not end")) } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(invalid(head.lines().next().unwrap_or_default()));
    }
    let length = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    length.map(|length| Some((end + 4, length))).ok_or_else(|| invalid("no Content-Length"))
}

fn invalid(found: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("expected HTTP/1.1 200 with a length, found `{found}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let whole = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(parse_head(whole).unwrap(), Some((whole.len() - 5, 5)));
        assert_eq!(parse_head(&whole[..20]).unwrap(), None);
        assert!(parse_head(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_head(&[b'x'; MAX_HEAD + 1]).is_err());
    }
}
