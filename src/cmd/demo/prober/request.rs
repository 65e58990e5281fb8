//! One request, on a connection of its own or on one that is kept.

use super::http::{self, Answer};
use crate::cmd::demo::samples::{Fault, Sample};
use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Whom to ask, and who may answer.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Where.
    pub(super) address: SocketAddr,
    /// What the answers may begin with.
    pub(super) endpoints: Arc<[String]>,
    /// A request without a whole answer after this has failed.
    pub(super) timeout: Duration,
}

/// A connection that is kept between requests.
#[derive(Debug)]
pub(super) struct Kept {
    stream: TcpStream,
    opened: Instant,
}

impl Kept {
    /// Whether the other side has closed it since the last answer (or has sent what nobody asked for).
    fn is_closed(&self) -> bool {
        !matches!(self.stream.try_read(&mut [0; 1]), Err(e) if e.kind() == ErrorKind::WouldBlock)
    }
}

impl Target {
    /// Sends one request, over `kept` if that is alive, and otherwise over a new connection that becomes `kept` if `keep` asks for it.
    ///
    /// A kept connection that was closed while it idled is no failure: every HTTP client opens another one then.
    pub(super) async fn ask(&self, kept: &mut Option<Kept>, keep: bool) -> Sample {
        let reused = kept.take().filter(|kept| !kept.is_closed());
        let mut opened = reused.as_ref().map_or_else(Instant::now, |kept| kept.opened);
        let asking = async {
            let mut stream = match reused {
                Some(kept) => kept.stream,
                None => {
                    opened = Instant::now();
                    TcpStream::connect(self.address).await.map_err(|_| Fault::Refused)?
                }
            };
            let endpoint = self.exchange(&mut stream, keep).await?;
            Ok((endpoint, stream))
        };
        let outcome = timeout(self.timeout, asking).await.unwrap_or(Err(Fault::Timeout));
        let ended = Instant::now();
        let outcome = outcome.map(|(endpoint, stream)| {
            *kept = keep.then_some(Kept { stream, opened });
            endpoint
        });
        Sample { opened, ended, outcome }
    }

    async fn exchange(&self, stream: &mut TcpStream, keep: bool) -> Result<usize, Fault> {
        stream.set_nodelay(true).map_err(|_| Fault::Broken)?;
        stream.write_all(http::request(keep)).await.map_err(|_| Fault::Broken)?;
        let mut answer = Vec::with_capacity(512);
        loop {
            match http::parse(&answer) {
                Answer::Whole(body) => return self.who(body).ok_or(Fault::Wrong),
                Answer::Wrong => return Err(Fault::Wrong),
                Answer::Incomplete => {}
            }
            if stream.read_buf(&mut answer).await.map_err(|_| Fault::Broken)? == 0 {
                return Err(Fault::Broken);
            }
        }
    }

    fn who(&self, body: &str) -> Option<usize> {
        let first = body.split_whitespace().next()?;
        self.endpoints.iter().position(|endpoint| endpoint == first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    fn target(listener: &TcpListener) -> Target {
        let timeout = Duration::from_millis(500);
        Target { address: listener.local_addr().unwrap(), endpoints: Arc::from(["a".to_owned()]), timeout }
    }

    #[test]
    fn silence_and_refusal_are_failures() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target(&listener);
        assert_eq!(block_on(target.ask(&mut None, false)).outcome, Err(Fault::Timeout));
        drop(listener);
        assert_eq!(block_on(target.ask(&mut None, false)).outcome, Err(Fault::Refused));
    }

    #[test]
    fn a_connection_closed_while_idle_is_replaced_and_one_closed_in_a_request_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target(&listener);
        let server = std::thread::spawn(move || {
            let answer_twice_then_close = |answers: &[&[u8]]| {
                let (mut stream, _) = listener.accept().unwrap();
                for answer in answers {
                    let _ = stream.read(&mut [0; 512]).unwrap();
                    stream.write_all(answer).unwrap();
                }
            };
            answer_twice_then_close(&[ANSWER, ANSWER]);
            answer_twice_then_close(&[&ANSWER[..10]]);
        });
        block_on(async {
            let mut kept = None;
            let first = target.ask(&mut kept, true).await;
            let second = target.ask(&mut kept, true).await;
            assert_eq!((first.outcome, second.outcome, first.opened), (Ok(0), Ok(0), second.opened));
            if let Some(kept) = &kept {
                kept.stream.readable().await.unwrap();
            }
            let third = target.ask(&mut kept, true).await;
            assert!(third.opened > second.opened && kept.is_none());
            assert_eq!(third.outcome, Err(Fault::Broken));
        });
        server.join().unwrap();
    }
}
