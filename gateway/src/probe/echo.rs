//! Both ends of an echo: enough bytes to fill packets of any size, each way.

use crate::{
    core::Core,
    metrics::reasons::Bound,
    tunnel::{Refusal, RefusalReason, StreamError, TunnelStream},
};
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

/// What is sent to be given back.
const BYTES: usize = 32 * 1024;
/// What is given back at most: a later version may ask for more.
const MOST: usize = 256 * 1024;
/// Echoes of a core at once.
const PLACES: usize = 32;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is held of one at a time.
const HELD: usize = 8 * 1024;

/// One of so many places.
pub(crate) struct Place(Rc<Core>);

impl Place {
    /// One that is free.
    pub(crate) fn take(core: &Rc<Core>) -> Option<Self> {
        if core.echoes.get() >= PLACES {
            core.counters.refused(Bound::Probes);
            return None;
        }
        core.echoes.set(core.echoes.get() + 1);
        Some(Self(core.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.echoes.set(self.0.echoes.get() - 1);
    }
}

/// Gives back what comes, until its end.
pub(crate) async fn serve(place: Option<Place>, mut stream: Box<dyn TunnelStream>) {
    let Some(_place) = place else {
        let message = "too many echoes at once".to_owned();
        return stream.refuse(&Refusal { reason: RefusalReason::Limit, message, retry: true });
    };
    stream.accept();
    let mut held = Held::default();
    // A stream that is not at its end both ways is reset when it is dropped.
    let _ = tokio::time::timeout(PATIENCE, poll_fn(|cx| held.poll_give_back(cx, &mut *stream))).await;
}

/// What has come and not gone back.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    gone: usize,
    all: usize,
}

impl Held {
    fn poll_give_back(&mut self, cx: &mut Context<'_>, stream: &mut dyn TunnelStream) -> Poll<Result<(), StreamError>> {
        loop {
            while self.gone < self.bytes.len() {
                match stream.poll_write(cx, &self.bytes[self.gone..])? {
                    Poll::Ready(n) => self.gone += n,
                    Poll::Pending => return Poll::Pending,
                }
            }
            (self.gone, _) = (0, self.bytes.resize(HELD, 0));
            let read = stream.poll_read(cx, &mut self.bytes);
            self.bytes.truncate(match read {
                Poll::Ready(Ok(n)) => n,
                _ => 0,
            });
            match read? {
                Poll::Ready(0) => {
                    stream.finish();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(n) => self.all += n,
                Poll::Pending => return Poll::Pending,
            }
            if self.all > MOST {
                stream.reset();
                return Poll::Ready(Err(StreamError::Reset));
            }
        }
    }
}

/// Sends bytes and takes them back.
///
/// # Errors
/// The stream ends, or others come.
pub(super) async fn ask(stream: &mut dyn TunnelStream) -> Result<(), String> {
    // A pattern in which nothing that is lost or comes twice goes unseen.
    let bytes: Vec<u8> = (0..BYTES).map(|at| (at ^ (at >> 8)) as u8).collect();
    let (mut sent, mut back) = (0, 0);
    poll_fn(|cx| poll_ask(cx, stream, &bytes, &mut sent, &mut back)).await
}

fn poll_ask(
    cx: &mut Context<'_>,
    stream: &mut dyn TunnelStream,
    bytes: &[u8],
    sent: &mut usize,
    back: &mut usize,
) -> Poll<Result<(), String>> {
    let failed = |error: StreamError| error.to_string();
    while *sent < bytes.len() {
        match stream.poll_write(cx, &bytes[*sent..]).map_err(failed)? {
            Poll::Ready(n) => *sent += n,
            Poll::Pending => break,
        }
        if *sent == bytes.len() {
            stream.finish();
        }
    }
    let mut room = [0; 2048];
    loop {
        match stream.poll_read(cx, &mut room).map_err(failed)? {
            Poll::Ready(0) if *back == bytes.len() => return Poll::Ready(Ok(())),
            Poll::Ready(0) => return Poll::Ready(Err(format!("{back} of {} bytes came back", bytes.len()))),
            Poll::Ready(n) => {
                if bytes.get(*back..*back + n) != Some(&room[..n]) {
                    return Poll::Ready(Err(format!("other bytes came back than were sent, after {back}")));
                }
                *back += n;
            }
            Poll::Pending => return Poll::Pending,
        }
    }
}
