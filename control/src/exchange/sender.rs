//! What to send, and when: the sending side of one stream. Pure.

use super::{COALESCE, Delta, ExchangeError, HEARTBEAT, Hello, Message, PATIENCE, Services, Summaries};
use std::{sync::Arc, time::Instant};

/// The sending side of one stream of the exchange. One update is under way at a time; what changes meanwhile goes out together
/// with the next. So it holds two states, whatever the peer does: the newest one, and the one the peer has or is about to have.
#[derive(Debug)]
pub struct Sender {
    hello: Option<Hello>,
    newest: Arc<Summaries>,
    /// What the peer has confirmed; `None`: nothing, so a snapshot is next.
    confirmed: Option<Arc<Summaries>>,
    waiting: Option<Waiting>,
    version: u64,
    /// When the changes noted so far go out.
    due: Option<Instant>,
    next_heartbeat: Instant,
}

/// An update that the peer has not answered yet.
#[derive(Debug)]
struct Waiting {
    state: Arc<Summaries>,
    since: Instant,
    snapshot: bool,
}

impl Sender {
    /// The sender of a new stream: it begins with `hello` and a snapshot of `exports`.
    pub fn new(hello: Hello, exports: Arc<Summaries>, now: Instant) -> Self {
        Self {
            hello: Some(hello),
            newest: exports,
            confirmed: None,
            waiting: None,
            version: 0,
            due: None,
            next_heartbeat: now + HEARTBEAT,
        }
    }

    /// Takes a new state to be sent.
    pub fn update(&mut self, exports: Arc<Summaries>, now: Instant) {
        self.newest = exports;
        self.due.get_or_insert(now + COALESCE);
    }

    /// The next message to send now, if there is one.
    pub fn poll(&mut self, now: Instant) -> Option<Message> {
        if let Some(hello) = self.hello.take() {
            return Some(Message::Hello(hello));
        }
        if self.waiting.is_some() {
            return None;
        }
        let Some(confirmed) = self.confirmed.clone() else { return Some(self.snapshot(now)) };
        if self.due.is_some_and(|due| now >= due) {
            self.due = None;
            if confirmed != self.newest {
                return Some(self.change(&confirmed, now));
            }
        }
        (now >= self.next_heartbeat)
            .then(|| self.wait(confirmed, false, now))
            .map(|version| Message::Heartbeat { version })
    }

    /// Takes the peer's answer.
    ///
    /// # Errors
    /// It refused a snapshot or the stream, or this is no answer to what was sent. The stream is to be closed.
    pub fn answer(&mut self, message: Message) -> Result<(), ExchangeError> {
        match message {
            Message::Ack { version } if version == self.version => match self.waiting.take() {
                Some(waiting) => {
                    self.confirmed = Some(waiting.state);
                    Ok(())
                }
                None => Err(ExchangeError::OutOfPlace("an answer to nothing")),
            },
            Message::Nack { version, reason } => match self.waiting.take() {
                Some(Waiting { snapshot: false, .. }) if version == self.version => {
                    self.confirmed = None;
                    Ok(())
                }
                _ => Err(ExchangeError::Refused(reason)),
            },
            Message::Ack { .. } => Err(ExchangeError::OutOfPlace("an answer to another version")),
            _ => Err(ExchangeError::OutOfPlace("not an answer")),
        }
    }

    /// When to look again, if nothing else happens before.
    pub fn deadline(&self) -> Instant {
        match &self.waiting {
            Some(waiting) => waiting.since + PATIENCE,
            None => self.due.map_or(self.next_heartbeat, |due| due.min(self.next_heartbeat)),
        }
    }

    /// Whether the peer has let a message unanswered for too long.
    pub fn expired(&self, now: Instant) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| now >= waiting.since + PATIENCE)
    }

    /// Whether the peer has confirmed the newest state.
    pub fn is_synced(&self) -> bool {
        self.confirmed.as_ref() == Some(&self.newest)
    }

    fn snapshot(&mut self, now: Instant) -> Message {
        self.due = None;
        self.version += 1;
        let version = self.wait(self.newest.clone(), true, now);
        Message::Snapshot { version, services: (*self.newest).clone() }
    }

    fn change(&mut self, confirmed: &Summaries, now: Instant) -> Message {
        let (old, new) = (&confirmed.services, &self.newest.services);
        let changed = |(name, summary): &(&_, &_)| old.get(*name) != Some(*summary);
        let upserts: Services = new.iter().filter(changed).map(|(name, of)| (name.clone(), of.clone())).collect();
        let removed: Vec<_> = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        let delta =
            Delta { from: self.version, to: self.version + 1, upserts, removed, lacking: self.newest.lacking.clone() };
        if delta.weight() > self.newest.weight() {
            return self.snapshot(now);
        }
        self.version += 1;
        self.wait(self.newest.clone(), false, now);
        Message::Delta(delta)
    }

    fn wait(&mut self, state: Arc<Summaries>, snapshot: bool, now: Instant) -> u64 {
        self.waiting = Some(Waiting { state, since: now, snapshot });
        self.next_heartbeat = now + HEARTBEAT;
        self.version
    }
}
