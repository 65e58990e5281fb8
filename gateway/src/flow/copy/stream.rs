//! A flow's end at its stream: datagrams beside it where they fit, framed on it otherwise.

use super::{Delivery, End};
use crate::{
    core::Core,
    flow::{
        Ended,
        frame::{self, Frames},
    },
    metrics::reasons::Dropped,
    tunnel::{DatagramError, TunnelStream},
};
use bytes::Bytes;
use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::Duration,
};

/// Bytes of frames that are gathered before the stream has to take them.
const BATCH: usize = 16 * 1024;
/// How long the peer may take to end the stream in turn.
const FAREWELL: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct StreamEnd {
    pub(crate) stream: Box<dyn TunnelStream>,
    /// Frames that the stream has not taken, from `at` on.
    out: Vec<u8>,
    at: usize,
    frames: Frames,
    /// Nothing goes beside the stream.
    framed_only: bool,
    dropped: u64,
}

impl StreamEnd {
    /// The end at `stream`; `unsent`: frames that it has to be given first.
    pub(crate) fn new(stream: Box<dyn TunnelStream>, unsent: Vec<u8>) -> Self {
        Self { stream, out: unsent, at: 0, frames: Frames::default(), framed_only: false, dropped: 0 }
    }

    /// Ends the stream as one that is whole: the peer ends it in turn.
    pub(crate) async fn finish(mut self, core: &Core) {
        self.stream.finish();
        let end = poll_fn(|cx| {
            let mut scratch = core.scratch.borrow_mut();
            while let Ok(1..) = ready!(self.stream.poll_read(cx, &mut scratch)) {}
            Poll::Ready(())
        });
        // Who does not answer is reset, by dropping the stream.
        let _ = tokio::time::timeout(FAREWELL, end).await;
    }

    /// Gives the stream what it takes of the frames; `Pending` if that is not all.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while self.at < self.out.len() {
            self.at += ready!(self.stream.poll_write(cx, &self.out[self.at..]))?;
        }
        (self.out, self.at) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl End for StreamEnd {
    fn poll_next(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Result<Bytes, Ended>> {
        if let Some(datagram) = self.frames.take() {
            return Poll::Ready(Ok(Bytes::copy_from_slice(datagram)));
        }
        if let Poll::Ready((datagram, dropped)) = self.stream.poll_receive_datagram(cx) {
            self.dropped += dropped;
            return Poll::Ready(Ok(datagram));
        }
        loop {
            match ready!(self.stream.poll_read(cx, scratch))? {
                0 => return Poll::Ready(Err(Ended::Finished)),
                n => self.frames.add(&scratch[..n]),
            }
            if let Some(datagram) = self.frames.take() {
                return Poll::Ready(Ok(Bytes::copy_from_slice(datagram)));
            }
        }
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>, datagram: &Bytes) -> Poll<Result<Delivery, Ended>> {
        if self.out.len() >= BATCH {
            ready!(self.poll_out(cx))?;
        }
        let mut delivery = Delivery::Done;
        if !self.framed_only {
            match ready!(self.stream.poll_send_datagram(cx, datagram)) {
                Ok(()) => return Poll::Ready(Ok(Delivery::Done)),
                Err(DatagramError::TooLarge(limit)) => delivery = Delivery::Framed(limit),
                Err(DatagramError::Unsupported) => self.framed_only = true,
                Err(DatagramError::TunnelLost) => {
                    return Poll::Ready(Err(crate::tunnel::StreamError::TunnelLost.into()));
                }
            }
        }
        if !frame::push(&mut self.out, datagram) {
            delivery = Delivery::Dropped(Dropped::TooLarge);
        }
        Poll::Ready(Ok(delivery))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        match self.poll_out(cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}
