//! Endpoints of this process: some that serve, and some that swallow connections.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

use crate::error::{Error, Result};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// Answers every request, one after the other.
pub(crate) struct Well {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Well {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("listening"))?;
        let address = listener.local_addr().map_err(Error::io("listening"))?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                // Who goes away has had enough.
                let _ = answer(stream);
            }
        });
        Ok(Self { address, ended, thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Well {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // So that it looks.
        drop(TcpStream::connect(self.address));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (mut request, mut read) = ([0; 1024], 0);
    while !request[..read].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[read..])? {
            0 => return Ok(()),
            n => read += n,
        }
    }
    stream.write_all(ANSWER)
}

/// Listens, and has no room for connections: the kernel drops what comes.
pub(super) struct Deaf {
    address: SocketAddr,
    _listener: rustix::fd::OwnedFd,
    _full: Vec<TcpStream>,
}

impl Deaf {
    pub(super) fn start() -> Result<Self> {
        let make = || -> rustix::io::Result<_> {
            let listener = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            listen(&listener, 0)?;
            let address = SocketAddr::try_from(getsockname(&listener)?)?;
            Ok((listener, address))
        };
        let (listener, address) = make().map_err(|error| Error::io("listening")(error.into()))?;
        let mut full = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            full.push(stream);
        }
        Ok(Self { address, _listener: listener, _full: full })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}
