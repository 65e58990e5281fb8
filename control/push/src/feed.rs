//! ● What one gateway is sent, and when: one update at a time, always the newest.

use crate::digest::Digest;
use serde::Serialize;
use std::{fmt, time::Instant};

/// Which table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The term of the control that made it. A later one counts more, whatever the versions.
    pub term: u64,
    /// Its version in that term; 0 before the first.
    pub version: u64,
    /// What it says.
    pub digest: Digest,
}

impl Position {
    /// What it is ordered by.
    pub fn age(&self) -> (u64, u64) {
        (self.term, self.version)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of term {}", self.version, self.term)
    }
}

/// A table that a gateway has refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Its version.
    pub version: u64,
    /// Why, in the gateway's words.
    pub reason: String,
}

/// A gateway's answer to an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has it.
    Taken,
    /// It cannot make anything of this update, and needs the whole table.
    NeedsAll(String),
    /// It does not take this table, and keeps what it has.
    Rejected(String),
}

/// One gateway, as control feeds it. While an update is under way nothing else is sent: what changes meanwhile goes out together, so a
/// slow gateway costs no memory and no other gateway anything.
#[derive(Debug)]
pub(crate) struct Feed {
    /// What it has, as far as a delta can begin there.
    has: Option<Position>,
    under_way: Option<Sent>,
    rejected: Option<(Position, Rejected)>,
}

/// An update that was not answered yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// What it leads to.
    pub to: Position,
    /// Whether it is a whole table.
    pub whole: bool,
    /// When the oldest change in it was published; `None`: it catches up with what was before.
    pub since: Option<Instant>,
}

/// Answers that are against the rules: the gateway is let go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FeedError {
    /// There is no such update under way.
    #[error("an answer to {0}, which is not under way")]
    Unasked(String),
    /// It was sent everything.
    #[error("it cannot make anything of a whole table: {0}")]
    NotEvenAll(String),
}

impl Feed {
    /// One that says that it has this.
    pub(crate) fn new(has: Option<Position>) -> Self {
        Self { has, under_way: None, rejected: None }
    }

    /// Whether something is to be sent now, with `newest` published: not while an update is under way, nor what it has or has
    /// refused.
    pub(crate) fn is_due(&self, newest: &Position) -> bool {
        let refused = self.rejected.as_ref().is_some_and(|(position, _)| position == newest);
        self.under_way.is_none() && self.has.as_ref() != Some(newest) && !refused
    }

    /// What it has, for a delta to begin there.
    pub(crate) fn has(&self) -> Option<Position> {
        self.has
    }

    /// What it has refused, if it has not taken another since.
    pub(crate) fn rejected(&self) -> Option<&Rejected> {
        self.rejected.as_ref().map(|(_, rejected)| rejected)
    }

    /// An update has been sent.
    pub(crate) fn sent(&mut self, sent: Sent) {
        self.under_way = Some(sent);
    }

    /// The answer to the update that leads to `age`. What it was, if it was taken.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub(crate) fn answered(&mut self, age: (u64, u64), answer: Answer) -> Result<Option<Sent>, FeedError> {
        let sent = self.under_way.take().filter(|sent| sent.to.age() == age);
        let sent = sent.ok_or_else(|| FeedError::Unasked(format!("version {} of term {}", age.1, age.0)))?;
        match answer {
            Answer::Taken => {
                self.has = Some(sent.to);
                self.rejected = None;
                return Ok(Some(sent));
            }
            Answer::NeedsAll(why) if sent.whole => return Err(FeedError::NotEvenAll(why)),
            Answer::NeedsAll(_) => self.has = None,
            Answer::Rejected(reason) => {
                self.rejected = Some((sent.to, Rejected { version: sent.to.version, reason }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: u64) -> Position {
        Position { term: 1, version, digest: Digest::default() }
    }

    fn sent(version: u64, whole: bool) -> Sent {
        Sent { to: at(version), whole, since: None }
    }

    #[test]
    fn one_update_is_under_way_and_the_newest_is_next() {
        let mut feed = Feed::new(None);
        assert!(feed.is_due(&at(1)));
        feed.sent(sent(1, true));
        assert!(!feed.is_due(&at(5)));
        feed.answered((1, 1), Answer::Taken).unwrap();
        assert!(!feed.is_due(&at(1)) && feed.is_due(&at(5)));
        assert_eq!(feed.has(), Some(at(1)));
    }

    #[test]
    fn what_was_refused_is_not_sent_again() {
        let mut feed = Feed::new(Some(at(1)));
        feed.sent(sent(2, false));
        feed.answered((1, 2), Answer::Rejected("no".into())).unwrap();
        assert_eq!(feed.rejected().unwrap().reason, "no");
        assert!(!feed.is_due(&at(2)) && feed.is_due(&at(3)));
        assert_eq!(feed.has(), Some(at(1)), "the old one stays");
        feed.sent(sent(3, false));
        feed.answered((1, 3), Answer::Taken).unwrap();
        assert_eq!(feed.rejected(), None);
    }

    #[test]
    fn who_cannot_use_a_delta_gets_everything_once() {
        let mut feed = Feed::new(Some(at(1)));
        feed.sent(sent(2, false));
        feed.answered((1, 2), Answer::NeedsAll("lost".into())).unwrap();
        assert!(feed.has().is_none() && feed.is_due(&at(2)));
        feed.sent(sent(2, true));
        let error = feed.answered((1, 2), Answer::NeedsAll("lost".into())).unwrap_err();
        assert_eq!(error, FeedError::NotEvenAll("lost".into()));
    }

    #[test]
    fn an_answer_to_nothing_is_an_error() {
        assert!(Feed::new(None).answered((1, 1), Answer::Taken).is_err());
        let mut feed = Feed::new(None);
        feed.sent(sent(2, true));
        assert!(feed.answered((1, 1), Answer::Taken).is_err());
    }

    #[test]
    fn the_same_table_of_a_later_term_is_due() {
        let feed = Feed::new(Some(at(1)));
        assert!(feed.is_due(&Position { term: 2, ..at(1) }));
    }
}
