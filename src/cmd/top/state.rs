//! ● What is shown: the last answer of the gateway, and rates since the one before.

use super::counters::{self, Counters, Whose};
use crate::cmd::Failure;
use isthmus_gateway::status::Status;
use std::{collections::BTreeMap, time::Instant};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    End,
    Show(Tab),
    Next,
    /// So many lines down.
    Move(isize),
    Stop,
}

/// What can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Links,
    Services,
    Streams,
}

impl Tab {
    /// All of them, in order.
    pub(super) const ALL: [Self; 3] = [Self::Links, Self::Services, Self::Streams];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Services => "services",
            Self::Streams => "streams",
        }
    }
}

/// Streams of a service with a peer, in one direction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Streams {
    pub(super) whose: Whose,
    pub(super) active: f64,
    /// A second, each.
    pub(super) opened: f64,
    pub(super) broken: f64,
    pub(super) up: f64,
    pub(super) down: f64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub(super) admin: String,
    pub(super) tab: Tab,
    pub(super) status: Option<Status>,
    /// The busiest first.
    pub(super) streams: Vec<Streams>,
    /// Why there is nothing newer.
    pub(super) missed: Option<String>,
    /// The first line that is shown.
    pub(super) top: usize,
    stopped: bool,
    before: Option<(Instant, BTreeMap<Whose, Counters>)>,
}

impl State {
    /// Before the first answer of the gateway at `admin`.
    pub(super) fn new(admin: String) -> Self {
        Self {
            admin,
            tab: Tab::Links,
            status: None,
            streams: Vec::new(),
            missed: None,
            top: 0,
            stopped: false,
            before: None,
        }
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// It is no status.
    pub(super) fn take(&mut self, status: &[u8], metrics: &[u8], now: Instant) -> Result<(), Failure> {
        let status: Status = serde_json::from_slice(status).map_err(|error| {
            let admin = &self.admin;
            Failure::failed(format!(
                "{admin} answered something else than a status: {error} (is it a gateway of this version?)"
            ))
        })?;
        let counted = counters::parse(&String::from_utf8_lossy(metrics));
        let seconds = self.before.as_ref().map(|(then, _)| now.saturating_duration_since(*then).as_secs_f64());
        let rate = |whose: &Whose, of: fn(&Counters) -> f64, new: &Counters| {
            let before = self.before.as_ref().and_then(|(_, before)| before.get(whose)).map_or(0.0, of);
            // A gateway that has restarted counts from zero.
            seconds.filter(|seconds| *seconds > 0.0).map_or(0.0, |seconds| (of(new) - before).max(0.0) / seconds)
        };
        let streams = counted.iter().map(|(whose, new)| Streams {
            whose: whose.clone(),
            active: new.active,
            opened: rate(whose, |of| of.opened, new),
            broken: rate(whose, |of| of.broken, new),
            up: rate(whose, |of| of.up, new),
            down: rate(whose, |of| of.down, new),
        });
        let mut streams: Vec<_> = streams.collect();
        streams.sort_by(|a, b| (b.up + b.down).total_cmp(&(a.up + a.down)).then(b.active.total_cmp(&a.active)));
        (self.streams, self.status, self.missed) = (streams, Some(status), None);
        self.before = Some((now, counted));
        self.act(Act::Move(0));
        Ok(())
    }

    /// There was no answer.
    pub(super) fn miss(&mut self, why: &str) {
        self.missed = Some(why.to_owned());
    }

    /// Does what a key asks for; false if that is the end.
    pub(super) fn act(&mut self, act: Act) -> bool {
        match act {
            Act::End => return false,
            Act::Show(tab) => (self.tab, self.top) = (tab, 0),
            Act::Next => {
                let at = Tab::ALL.iter().position(|tab| *tab == self.tab).unwrap_or(0);
                (self.tab, self.top) = (Tab::ALL[(at + 1) % Tab::ALL.len()], 0);
            }
            Act::Move(lines) => self.top = self.top.saturating_add_signed(lines).min(self.lines().saturating_sub(1)),
            Act::Stop => self.stopped = !self.stopped,
        }
        true
    }

    /// Whether it stands still.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Lines of what is looked at.
    fn lines(&self) -> usize {
        let of = |of: fn(&Status) -> usize| self.status.as_ref().map_or(0, of);
        match self.tab {
            Tab::Links => of(|status| status.links.len()),
            Tab::Services => of(|status| status.services.len()),
            Tab::Streams => self.streams.len(),
        }
    }
}
