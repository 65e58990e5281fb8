//! Whether the peer is alive: when to ask, when to doubt, when to give up.
//!
//! PINGs and PONGs are no activity: a tunnel that carries nothing else is idle, and idle tunnels are cheap.

use std::time::{Duration, Instant};

/// After sending, ask if nothing has come back for this long.
const ASK_AFTER: Duration = Duration::from_millis(150);
/// On a tunnel that is in use, ask this often: to know the round trip, and so that a path that has died is known within a second even
/// where the tunnel's streams have nothing to say.
const ASK_ACTIVE: Duration = Duration::from_millis(500);
/// A tunnel is in use if it was of use at most so long before it was last asked.
const IN_USE: Duration = Duration::from_secs(2);
/// On an idle tunnel, ask this often: NATs forget after 30 s and more.
const ASK_IDLE: Duration = Duration::from_secs(20);
/// Doubt a peer that has left a question open for this long, or for three round trips. With [`ASK_AFTER`], the handshake of
/// another tunnel and the request itself it stays below a second up to a round trip of 80 ms; TCP sends a lost question again
/// in half of it.
const DOUBT_AFTER: Duration = Duration::from_millis(400);
/// Give up on a peer that has been silent for this long after a question, or for twelve round trips.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The peer is there, as far as we know.
    Live,
    /// Send a PING with this token.
    Ask(u64),
    /// New streams had better go elsewhere.
    Doubt,
    /// It is gone.
    GiveUp,
}

/// What is known of the peer's liveness.
#[derive(Debug)]
pub struct Liveness {
    /// When the tunnel was last of use: anything but PING and PONG.
    active: Instant,
    /// Since when something is under way that the peer should react to.
    waiting: Option<Instant>,
    asked: Instant,
    question: Option<Question>,
    tokens: u64,
    rtt: Option<Duration>,
}

#[derive(Debug)]
struct Question {
    token: u64,
    /// Anything at all has come in since: the peer lives, only its PONG is still under way.
    alive: bool,
    /// It was left open for too long, and that was said.
    doubted: bool,
}

impl Liveness {
    /// A tunnel that has just been set up; it asks at once, to learn the round trip.
    pub fn new(now: Instant) -> Self {
        let asked = now.checked_sub(ASK_ACTIVE).unwrap_or(now);
        Self { active: now, waiting: None, asked, question: None, tokens: 0, rtt: None }
    }

    /// Something other than PING, PONG or credit went out.
    pub fn sent(&mut self, now: Instant) {
        self.active = now;
        self.waiting.get_or_insert(now);
    }

    /// Something came in; `active`: other than PING and PONG.
    pub fn received(&mut self, now: Instant, active: bool) {
        self.waiting = None;
        if active {
            self.active = now;
        }
        if let Some(question) = &mut self.question {
            question.alive = true;
        }
    }

    /// A PONG came in.
    pub fn answered(&mut self, token: u64, now: Instant) {
        if self.question.take_if(|question| question.token == token).is_some() {
            let sample = now.saturating_duration_since(self.asked);
            // RFC 6298's weights.
            self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        }
    }

    /// The smoothed round trip, once measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// What to do now.
    pub fn verdict(&mut self, now: Instant) -> Verdict {
        let (patience, limit) = (self.patience(), self.limit());
        if let Some(question) = self.question.as_mut().filter(|question| !question.alive) {
            let silent = now.saturating_duration_since(self.asked);
            return if silent >= limit {
                Verdict::GiveUp
            } else if silent >= patience {
                question.doubted = true;
                Verdict::Doubt
            } else {
                Verdict::Live
            };
        }
        if now < self.ask_at() {
            return Verdict::Live;
        }
        self.tokens += 1;
        self.asked = now;
        self.question = Some(Question { token: self.tokens, alive: false, doubted: false });
        Verdict::Ask(self.tokens)
    }

    /// When to call [`Self::verdict`] next. Sending and receiving may bring it forward.
    pub fn next(&self) -> Instant {
        match &self.question {
            Some(question) if !question.alive && question.doubted => self.asked + self.limit(),
            Some(question) if !question.alive => self.asked + self.patience(),
            _ => self.ask_at(),
        }
    }

    fn ask_at(&self) -> Instant {
        let interval = if self.active + IN_USE >= self.asked { ASK_ACTIVE } else { ASK_IDLE };
        let regular = self.asked + interval;
        match self.waiting {
            Some(since) => (since + ASK_AFTER).max(self.asked + ASK_AFTER).min(regular),
            None => regular,
        }
    }

    fn patience(&self) -> Duration {
        DOUBT_AFTER.max(self.rtt.unwrap_or_default() * 3)
    }

    fn limit(&self) -> Duration {
        GIVE_UP_AFTER.max(self.patience() * 4)
    }
}

#[cfg(test)]
mod tests;
