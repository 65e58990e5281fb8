//! Whether the peer has had all that it was told: it answers PINGs in order, so a PONG says that everything before its PING has
//! come in and was acted on. That the kernel has it acknowledged would not do: a connection that breaks takes it along unread.

use super::Mux;
use crate::tunnel::mux::frame::Kind;

/// What was asked for that, and answered.
#[derive(Debug, Default)]
pub(super) struct Flush {
    /// Something that matters was said, and not asked for yet.
    unasked: bool,
    asked: u64,
    answered: u64,
}

/// Tells these PINGs from those of [`crate::tunnel::mux::liveness`], which counts from 1.
const FLUSH: u64 = 1 << 63;

impl Flush {
    /// Something that matters was said.
    pub(super) fn said(&mut self) {
        self.unasked = true;
    }

    /// A PONG came in.
    pub(super) fn answer(&mut self, token: u64) {
        let number = token & !FLUSH;
        if token & FLUSH != 0 && number <= self.asked {
            self.answered = self.answered.max(number);
        }
    }
}

impl<T: Default> Mux<T> {
    /// Asks the peer whether it has had all that was said so far: a number for [`Self::is_flushed`]. Nothing is asked twice.
    pub fn flush(&mut self) -> u64 {
        if std::mem::take(&mut self.flush.unasked) {
            self.flush.asked += 1;
            let token = FLUSH | self.flush.asked;
            self.put(Kind::Ping, 0, &[&token.to_be_bytes()]);
            // Somebody waits for the answer.
            self.active = true;
        }
        self.flush.asked
    }

    /// Whether the peer has had all that was said before the [`Self::flush`] that returned `number`.
    pub fn is_flushed(&self, number: u64) -> bool {
        self.flush.answered >= number
    }

    /// Whether nothing is left to say or to hear: both sides have said goodbye, no stream is left, and the peer has had everything.
    /// Asks it, if need be.
    pub fn is_done(&mut self) -> bool {
        if !self.is_over() {
            return false;
        }
        let number = self.flush();
        self.is_flushed(number)
    }
}
