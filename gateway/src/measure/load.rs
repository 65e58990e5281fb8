//! One stream of whoever measures: filled, or emptied, until the time is over or the bytes are moved.

use super::{PIECE, REPORT_BYTES, ROUNDS, ZEROS};
use crate::{
    core::Core,
    status::{
        measure::{Allowance, Arrived, End, MeasureQuery, StreamMeasured, Way},
        probe::line,
    },
    tunnel::{StreamError, Tunnel, TunnelStream},
};
use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{timeout, timeout_at};

/// A stream that was opened, and what becomes of it.
pub(super) struct Load {
    core: Rc<Core>,
    stream: Box<dyn TunnelStream>,
    way: Way,
    began: Instant,
    ends: Instant,
    allowance: Arc<Allowance>,
    found: StreamMeasured,
    /// Bytes that were written: a peer cannot have counted more.
    written: u64,
    /// A report as it comes in.
    report: [u8; REPORT_BYTES],
    filled: usize,
    /// This side has ended.
    finished: bool,
}

impl Load {
    pub(super) fn new(core: Rc<Core>, query: &MeasureQuery, stream: Box<dyn TunnelStream>, on: &dyn Tunnel) -> Self {
        let found = StreamMeasured {
            transport: on.transport().as_str(),
            gateway: on.gateway().to_string(),
            arrived: Arrived::default(),
            end: End::Time,
        };
        Self {
            core,
            stream,
            way: query.way,
            began: query.begins,
            ends: query.ends,
            allowance: query.allowance.clone(),
            found,
            written: 0,
            report: [0; REPORT_BYTES],
            filled: 0,
            finished: false,
        }
    }

    /// Until it has had its time or its bytes, or has broken.
    pub(super) async fn run(mut self) -> Self {
        let ends = self.ends;
        let moving = poll_fn(|cx| match self.way {
            Way::Down => self.poll_down(cx),
            Way::Up => self.poll_up(cx),
        });
        self.found.end = match timeout_at(ends.into(), moving).await {
            Ok(Ok(end)) => end,
            Ok(Err(error)) => End::Failed(line(&error.to_string())),
            Err(_) => End::Time,
        };
        self
    }

    /// Says that this was it, and waits for the peer to say so, too; but no longer than this. What arrives meanwhile is not counted.
    pub(super) async fn end(mut self, within: Duration) -> StreamMeasured {
        if !matches!(self.found.end, End::Failed(_)) {
            if !self.finished {
                self.stream.finish();
            }
            // Whatever comes of it: a stream that is not at its end both ways is reset when it is dropped.
            let _ = timeout(within, poll_fn(|cx| self.poll_end(cx))).await;
        }
        self.found
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        for _ in 0..ROUNDS {
            let read = self.stream.poll_read(cx, &mut self.core.scratch.borrow_mut());
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Asks for bytes, and takes what comes.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, StreamError>> {
        if self.written == 0 {
            self.written = ready!(self.stream.poll_write(cx, &ZEROS[..1]))? as u64;
        }
        for _ in 0..ROUNDS {
            let read = self.stream.poll_read(cx, &mut self.core.scratch.borrow_mut());
            match ready!(read)? {
                0 => return Poll::Ready(Ok(self.ended_by_peer())),
                n => {
                    let at = self.began.elapsed();
                    self.found.arrived.note(n as u64, at, at);
                    self.allowance.take(n as u64);
                }
            }
            if self.allowance.left() == 0 {
                return Poll::Ready(Ok(End::Bytes));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends bytes, and hears what has arrived of them.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, StreamError>> {
        let mut waits = false;
        for _ in 0..ROUNDS {
            match self.stream.poll_read(cx, &mut self.report[self.filled..])? {
                Poll::Ready(0) => return Poll::Ready(Ok(self.ended_by_peer())),
                Poll::Ready(n) => self.filled += n,
                Poll::Pending => {
                    waits = true;
                    break;
                }
            }
            if self.filled == REPORT_BYTES {
                self.filled = 0;
                self.heard();
            }
        }
        if !waits {
            // There may be more to hear, whatever becomes of the writing.
            cx.waker().wake_by_ref();
        }
        for _ in 0..ROUNDS {
            if self.finished {
                return Poll::Pending;
            }
            let want = self.allowance.left().min(PIECE as u64) as usize;
            if want == 0 {
                // What has arrived then, the last report says.
                self.stream.finish();
                self.finished = true;
                return Poll::Pending;
            }
            let n = ready!(self.stream.poll_write(cx, &ZEROS[..want]))? as u64;
            self.written += n;
            self.allowance.take(n);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A report is whole. The peer's word, but for what cannot be.
    fn heard(&mut self) {
        let report = u128::from_be_bytes(self.report);
        let (bytes, micros) = ((report >> 64) as u64, report as u64);
        let bytes = bytes.min(self.written);
        let at = self.began.elapsed();
        let since_first = Duration::from_micros(micros).min(at);
        let more = bytes.saturating_sub(self.found.arrived.bytes);
        self.found.arrived.note(more, at - since_first, at);
    }

    fn ended_by_peer(&self) -> End {
        if self.finished { End::Bytes } else { End::Failed("the peer ended it".into()) }
    }
}
