//! ● The life of one dialled tunnel of a link: when to dial, and what to say of it.
//!
//! ```text
//!          retry time            handshake             no answer for 1 s
//!  Down ──────────────▶ Dialling ──────────▶ Up ◀──────────────────────▶ Unresponsive
//!    ▲                     │                  │          answer               │
//!    └──── failed ─────────┘◀──── lost ───────┘◀──────────── lost ────────────┘
//! ```
//!
//! The driver (`tunnel/driver.rs`) does the dialling and tells [`Link`] what happened; a link that the peer dials has no driver and
//! never asks to dial. A link of several tunnels is as good as its best one: [`LinkState::best`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The shortest wait before dialling again.
pub const MIN_DELAY: Duration = Duration::from_millis(50);
/// The longest wait before dialling again.
pub const MAX_DELAY: Duration = Duration::from_secs(15);
/// A tunnel that lived so long was a good one: the next wait is a short one.
pub const GOOD_LIFE: Duration = Duration::from_secs(10);

/// What is known of a link or of one of its tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// No tunnel.
    Down {
        /// Since when.
        since: Instant,
        /// Why, in one line; `None` before the first attempt.
        last_error: Option<Arc<str>>,
    },
    /// An attempt is under way.
    Dialling {
        /// Since when.
        since: Instant,
        /// Why the last one failed or ended.
        last_error: Option<Arc<str>>,
    },
    /// It takes streams.
    Up {
        /// Since when.
        since: Instant,
    },
    /// It is there, but the peer does not answer.
    Unresponsive {
        /// Since when it does not.
        since: Instant,
    },
}

impl LinkState {
    /// The best of several tunnels' states; of alike ones the first. `None` of none.
    pub fn best<'a>(states: impl IntoIterator<Item = &'a Self>) -> Option<&'a Self> {
        // Of equal ones `min_by_key` takes the first.
        states.into_iter().min_by_key(|state| match state {
            Self::Up { .. } => 0,
            Self::Unresponsive { .. } => 1,
            Self::Dialling { .. } => 2,
            Self::Down { .. } => 3,
        })
    }

    /// A word for status and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Down { .. } => "down",
            Self::Dialling { .. } => "dialling",
            Self::Up { .. } => "up",
            Self::Unresponsive { .. } => "unresponsive",
        }
    }

    /// Since when it is so.
    pub fn since(&self) -> Instant {
        match *self {
            Self::Down { since, .. }
            | Self::Dialling { since, .. }
            | Self::Up { since }
            | Self::Unresponsive { since } => since,
        }
    }

    /// Why there is no tunnel, if there is none and it is known.
    pub fn last_error(&self) -> Option<&str> {
        match self {
            Self::Down { last_error, .. } | Self::Dialling { last_error, .. } => last_error.as_deref(),
            Self::Up { .. } | Self::Unresponsive { .. } => None,
        }
    }
}

/// One tunnel of a link, over all its attempts and lives.
#[derive(Debug)]
pub struct Link {
    state: LinkState,
    backoff: Backoff,
    retry_at: Instant,
    /// When the tunnel that is there came up.
    up_since: Option<Instant>,
}

impl Link {
    /// No tunnel yet, to be dialled at once.
    pub fn new(now: Instant) -> Self {
        let state = LinkState::Down { since: now, last_error: None };
        Self { state, backoff: Backoff::default(), retry_at: now, up_since: None }
    }

    /// What is known of it.
    pub fn state(&self) -> &LinkState {
        &self.state
    }

    /// When to dial next; `None` while there is a tunnel or an attempt.
    pub fn dial_at(&self) -> Option<Instant> {
        matches!(self.state, LinkState::Down { .. }).then_some(self.retry_at)
    }

    /// The peer's address or credentials have changed: an attempt may succeed now, so a waiting link dials at once.
    pub fn hurry(&mut self, now: Instant) {
        self.backoff = Backoff::default();
        self.retry_at = self.retry_at.min(now);
    }

    /// An attempt begins.
    pub fn dialling(&mut self, now: Instant) {
        if let LinkState::Down { last_error, .. } = &mut self.state {
            self.state = LinkState::Dialling { since: now, last_error: last_error.take() };
        }
    }

    /// The tunnel is there.
    pub fn up(&mut self, now: Instant) {
        self.state = LinkState::Up { since: now };
        self.up_since = Some(now);
    }

    /// The peer does not answer any more.
    pub fn unresponsive(&mut self, now: Instant) {
        if let LinkState::Up { .. } = self.state {
            self.state = LinkState::Unresponsive { since: now };
        }
    }

    /// The peer answers again.
    pub fn responsive(&mut self, now: Instant) {
        if let LinkState::Unresponsive { .. } = self.state {
            self.state = LinkState::Up { since: now };
        }
    }

    /// The attempt went well, and its tunnel is not needed: there is none now, and nothing is wrong. To be dialled again at `until`.
    pub fn rest(&mut self, now: Instant, until: Instant) {
        self.up_since = None;
        self.backoff = Backoff::default();
        self.state = LinkState::Down { since: now, last_error: None };
        self.retry_at = until;
    }

    /// The attempt failed or the tunnel ended, for the reason `error` (one line); `random` spreads the next attempt.
    pub fn down(&mut self, now: Instant, error: &str, random: u64) {
        if self.up_since.take().is_some_and(|since| now.saturating_duration_since(since) >= GOOD_LIFE) {
            self.backoff = Backoff::default();
        }
        self.state = LinkState::Down { since: now, last_error: Some(error.into()) };
        self.retry_at = now + self.backoff.delay(random);
    }
}

/// Waits that grow: each evenly at random between [`MIN_DELAY`] and a ceiling that doubles up to [`MAX_DELAY`], so that many
/// gateways that lost the same peer at the same time do not come back at the same time.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait.
    pub fn delay(&mut self, random: u64) -> Duration {
        // 100 ms, 200 ms, 400 ms … ; eight doublings are past the longest wait.
        let ceiling = MAX_DELAY.min(MIN_DELAY * (2 << self.attempts.min(8)));
        self.attempts = self.attempts.saturating_add(1);
        let span = (ceiling - MIN_DELAY).as_nanos();
        // The high half of the product: at most `span`, which is far below 2^64 nanoseconds.
        let jitter = (u128::from(random) * span) >> 64;
        MIN_DELAY + Duration::from_nanos(jitter as u64)
    }
}

#[cfg(test)]
mod tests;
