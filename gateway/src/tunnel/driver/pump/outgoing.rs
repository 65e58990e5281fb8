//! The outgoing half: what streams have queued is sealed and written.

use super::Driver;
use crate::tunnel::{
    driver::TunnelEnd,
    tls::{RecordBuffer, record},
};
use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

/// Bytes sealed before they are written, so that the peer works while we seal on.
const SEAL: usize = 64 * 1024;

/// Records on their way out.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    records: RecordBuffer,
    sealed: usize,
    sent: usize,
}

impl Outgoing {
    /// Whether everything has gone.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Driver {
    /// Seals and writes what waits, as far as the connection takes it.
    pub(super) fn pump_out(&mut self, cx: &mut Context<'_>) -> Result<(), TunnelEnd> {
        loop {
            if self.outgoing.sent == self.outgoing.records.len() && !self.next_batch() {
                return Ok(());
            }
            if self.outgoing.sent == self.outgoing.sealed {
                self.outgoing.sealed = self.keys.seal(&mut self.outgoing.records, self.outgoing.sealed, SEAL)?;
            }
            let bytes = self.outgoing.records.slice(self.outgoing.sent, self.outgoing.sealed);
            match self.socket.poll_send(cx, bytes) {
                Poll::Ready(sent) => self.outgoing.sent += sent?,
                Poll::Pending => {
                    self.held_back();
                    return Ok(());
                }
            }
        }
    }

    /// Takes what streams have queued meanwhile, and makes room for more; false if there is nothing.
    fn next_batch(&mut self) -> bool {
        self.outgoing.records.clear();
        (self.outgoing.sealed, self.outgoing.sent) = (0, 0);
        let mut mux = self.tunnel.0.mux.borrow_mut();
        let out = mux.out();
        self.keys.queue_update(out);
        if out.is_empty() {
            return false;
        }
        out.close();
        std::mem::swap(out, &mut self.outgoing.records);
        for id in self.tunnel.0.waiting_for_room.borrow_mut().call() {
            if let Some(state) = mux.user(id) {
                state.has_room();
            }
        }
        true
    }

    /// Sends what is queued and `close_notify`, if the connection takes it soon, and waits for the peer's end.
    ///
    /// A TCP socket that is closed while bytes come in is reset, and throws away what it had still to send: the last bytes of streams
    /// that have just ended.
    pub(super) async fn say_close(&mut self, limit: Duration) {
        self.tunnel.0.mux.borrow_mut().out().push(record::ContentType::Alert, &[1, 0]);
        let close = async {
            poll_fn(|cx| match self.pump_out(cx) {
                Ok(()) if self.outgoing.is_empty() => Poll::Ready(()),
                Ok(()) => Poll::Pending,
                Err(_) => Poll::Ready(()),
            })
            .await;
            self.socket.finish();
            let mut discarded = [0; 4096];
            while poll_fn(|cx| self.socket.poll_recv(cx, &mut discarded)).await.is_ok_and(|n| n > 0) {}
        };
        // Courtesy only: the peer may be gone.
        let _ = tokio::time::timeout(limit, close).await;
    }
}
