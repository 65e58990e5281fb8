//! The peer's side: bytes for whoever may have them, or counting what comes.

use super::{DRAINS, PIECE, REPORT, REPORT_BYTES, ROUNDS, ZEROS, turns::MOST_BYTES};
use crate::{
    core::Core,
    metrics::reasons::Bound,
    status::measure::Way,
    tunnel::{PeerIdentity, Refusal, RefusalReason, TunnelStream},
};
use std::{
    future::poll_fn,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
    time::Instant,
};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout_at};

/// Serves a stream of a peer's measurement, if it is that one's turn.
pub(crate) async fn serve(
    core: Rc<Core>,
    peer: Rc<PeerIdentity>,
    (way, id): (Way, u64),
    mut stream: Box<dyn TunnelStream>,
) {
    if core.common.draining.is_cancelled() {
        return stream.refuse(&super::refusal(RefusalReason::Draining, DRAINS));
    }
    let entered = if core.common.config.measurements {
        let entered = core.common.measures.enter(&peer.cluster, id);
        entered.map_err(|busy| Refusal { reason: RefusalReason::Limit, message: busy.to_string(), retry: false })
    } else {
        let message = "measurements are off here (measurements: off)".to_owned();
        Err(Refusal { reason: RefusalReason::Denied, message, retry: false })
    };
    let place = match entered {
        Ok(place) => place,
        Err(refusal) => {
            core.counters.refused(Bound::Measurements);
            return stream.refuse(&refusal);
        }
    };
    stream.accept();
    let (moved, ends) = (&*place.turn.moved, place.turn.ends);
    let served = async {
        match way {
            Way::Down => {
                let mut giving = Giving::default();
                poll_fn(|cx| giving.poll(cx, &mut *stream, moved)).await;
            }
            Way::Up => {
                let mut taking = Taking::new();
                poll_fn(|cx| taking.poll(cx, &core, &mut *stream, moved)).await;
            }
        }
    };
    // A stream that is not at its end both ways is reset when it is dropped.
    tokio::select! {
        _ = timeout_at(ends.into(), served) => {}
        () = core.common.draining.cancelled() => {}
    }
}

/// Sends from the first byte that comes on, until the asker ends.
#[derive(Default)]
struct Giving {
    asked: bool,
    finished: bool,
}

impl Giving {
    /// Ready when the stream is over.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut dyn TunnelStream, moved: &AtomicU64) -> Poll<()> {
        let mut room = [0; 64];
        let mut waits = false;
        for _ in 0..ROUNDS {
            match stream.poll_read(cx, &mut room) {
                Poll::Ready(Ok(n)) if n > 0 => self.asked = true,
                Poll::Ready(Ok(_)) if self.asked && !self.finished => {
                    stream.finish();
                    return Poll::Ready(());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    waits = true;
                    break;
                }
            }
        }
        for _ in 0..ROUNDS {
            if !self.asked || self.finished {
                break;
            }
            let left = MOST_BYTES.saturating_sub(moved.load(Relaxed)).min(PIECE as u64) as usize;
            if left == 0 {
                // What is under way arrives before the asker's end.
                stream.finish();
                self.finished = true;
                break;
            }
            match stream.poll_write(cx, &ZEROS[..left]) {
                Poll::Ready(Ok(n)) => {
                    moved.fetch_add(n as u64, Relaxed);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending if waits => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if waits && (!self.asked || self.finished) {
            return Poll::Pending;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Counts what comes, and says so ten times a second.
struct Taking {
    bytes: u64,
    first: Option<Instant>,
    ended: bool,
    ticks: Interval,
    is_due: bool,
    report: [u8; REPORT_BYTES],
    /// What of the report is under way from here on.
    sent: usize,
}

impl Taking {
    fn new() -> Self {
        let mut ticks = interval(REPORT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let report = [0; REPORT_BYTES];
        Self { bytes: 0, first: None, ended: false, ticks, is_due: false, report, sent: REPORT_BYTES }
    }

    /// Ready when the stream is over.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        core: &Core,
        stream: &mut dyn TunnelStream,
        moved: &AtomicU64,
    ) -> Poll<()> {
        let mut waits = self.ended;
        for _ in 0..ROUNDS {
            if waits {
                break;
            }
            let read = stream.poll_read(cx, &mut core.scratch.borrow_mut());
            match read {
                Poll::Ready(Ok(0)) => (self.ended, self.is_due, waits) = (true, true, true),
                Poll::Ready(Ok(n)) => {
                    self.first.get_or_insert_with(Instant::now);
                    self.bytes += n as u64;
                    if moved.fetch_add(n as u64, Relaxed) > MOST_BYTES {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => waits = true,
            }
        }
        while self.ticks.poll_tick(cx).is_ready() {
            self.is_due = true;
        }
        if self.poll_report(cx, stream).is_ready() {
            return Poll::Ready(());
        }
        if !waits {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Sends what is due. Ready when nothing will be any more.
    fn poll_report(&mut self, cx: &mut Context<'_>, stream: &mut dyn TunnelStream) -> Poll<()> {
        loop {
            while self.sent < REPORT_BYTES {
                match stream.poll_write(cx, &self.report[self.sent..]) {
                    Poll::Ready(Ok(n)) => self.sent += n,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.first {
                Some(first) if self.is_due => {
                    let (bytes, micros) = self.report.split_at_mut(REPORT_BYTES / 2);
                    bytes.copy_from_slice(&self.bytes.to_be_bytes());
                    micros.copy_from_slice(&(first.elapsed().as_micros() as u64).to_be_bytes());
                    (self.sent, self.is_due) = (0, false);
                }
                _ if self.ended => {
                    stream.finish();
                    return Poll::Ready(());
                }
                _ => return Poll::Pending,
            }
        }
    }
}
