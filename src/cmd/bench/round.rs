//! One round: a connection, what is asked on it, and its answer.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A round that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every round does.
#[derive(Debug, Clone)]
pub(super) struct Round {
    /// Where it connects.
    pub(super) at: SocketAddr,
    /// The path that is asked for by HTTP, and of whom.
    pub(super) http: Option<(String, String)>,
}

/// What a round took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Took {
    /// Until the connection was there.
    pub(super) connect: Duration,
    /// From the beginning until the first byte of the answer, or its end.
    pub(super) first: Duration,
    /// From the beginning until the end of the answer.
    pub(super) whole: Duration,
    /// Bytes of the answer.
    pub(super) bytes: u64,
}

impl Round {
    /// Goes one.
    ///
    /// # Errors
    /// In words: what went wrong.
    pub(super) async fn go(&self) -> Result<Took, String> {
        match timeout(PATIENCE, self.exchange()).await {
            Ok(Ok(took)) => took,
            Ok(Err(error)) => Err(match error.kind() {
                io::ErrorKind::ConnectionReset => {
                    "reset: the gateway refuses the stream, or the endpoint does".to_owned()
                }
                _ => error.to_string(),
            }),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn exchange(&self) -> io::Result<Result<Took, String>> {
        let began = Instant::now();
        let mut stream = TcpStream::connect(self.at).await?;
        let connect = began.elapsed();
        let mut room = vec![0; 16 * 1024];
        let Some((path, service)) = &self.http else {
            stream.shutdown().await?;
            let bytes = stream.read(&mut room).await? as u64;
            let first = began.elapsed();
            return Ok(Ok(Took { connect, first, whole: first, bytes }));
        };
        let host = service.replace('/', ".");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: isthmus-bench\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (mut first, mut bytes, mut head) = (None, 0, Vec::new());
        loop {
            let n = stream.read(&mut room).await?;
            first.get_or_insert_with(|| began.elapsed());
            if n == 0 {
                break;
            }
            bytes += n as u64;
            let missing = STATUS_LINE.saturating_sub(head.len());
            head.extend_from_slice(&room[..n.min(missing)]);
        }
        let whole = began.elapsed();
        let took = Took { connect, first: first.unwrap_or(whole), whole, bytes };
        Ok(judge(&head).map(|()| took))
    }
}

/// `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

/// Whether an answer begins as one that is well.
fn judge(head: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(head).ok().and_then(|text| text.strip_prefix("HTTP/1."));
    let status = text.and_then(|text| text.get(2..5)).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(100..400) => Ok(()),
        Some(status) => Err(format!("HTTP status {status}")),
        None => Err("the answer is no HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What a round comes to, at a server that reads something and says this.
    async fn against(answer: &'static [u8], http: bool) -> Result<Took, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let round = Round { at, http: http.then(|| ("/".to_owned(), "shop/api".to_owned())) };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let n = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&asked[..n]).into_owned()
        };
        let (took, asked) = tokio::join!(round.go(), serve);
        assert_eq!(asked.contains("Host: shop.api\r\n"), http, "{asked}");
        took
    }

    #[tokio::test]
    async fn an_end_is_an_answer_where_nothing_is_asked() {
        let took = against(b"", false).await.unwrap();
        assert_eq!((took.bytes, took.first), (0, took.whole));
        assert!(took.connect <= took.first);
        assert_eq!(against(b"220 hello", false).await.unwrap().bytes, 9);
    }

    #[tokio::test]
    async fn all_of_an_answer_counts_and_a_bad_one_does_not() {
        assert_eq!(against(b"HTTP/1.1 200 OK\r\n\r\nbody", true).await.unwrap().bytes, 23);
        assert_eq!(against(b"HTTP/1.1 503 No\r\n\r\n", true).await.unwrap_err(), "HTTP status 503");
        assert_eq!(against(b"SSH-2.0-x\r\n", true).await.unwrap_err(), "the answer is no HTTP");
        assert_eq!(against(b"", true).await.unwrap_err(), "the answer is no HTTP");
    }
}
