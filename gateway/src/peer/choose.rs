//! ● Which transport a link's new streams take, where tunnels over TCP and over QUIC are both live.
//!
//! TLS over TCP costs the least CPU for a byte, about a quarter of QUIC's, so it is the choice on a path that loses little. On a
//! lossy path one lost packet holds up every stream of a TCP connection and only its own over QUIC; from [`LOSSY`] on that is worth
//! the CPU, unless round trips are so short that nobody notices. UDP that fares clearly worse than TCP on the same path is being
//! throttled: then it is TCP again. What carries nothing cannot be measured, so QUIC is tried again later.

use super::loss::Loss;
use crate::tunnel::{Packets, Transport};
use isthmus_control_api::TransportChoice;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// Loss from which on a path is a lossy one. At 1% it clearly is, so this is well below: what is measured scatters.
pub(crate) const LOSSY: f64 = 0.005;
/// Loss below which it is none any more.
pub(crate) const CLEAN: f64 = 0.002;
/// Loss of QUIC from which on, where it is also twice TCP's, UDP is thought to be throttled.
const THROTTLED: f64 = 0.05;
/// Packets that this is judged by: of a hundred, a path may well lose twice as many as it mostly does.
const JUDGED: u64 = 500;
/// QUIC has to have been live for so long before its losses count: those of an outage are known only when it is over, and
/// the peer tells its own every two seconds.
const SETTLED: Duration = Duration::from_secs(5);
/// Throttled UDP is tried again after this, and each time after twice as long, …
const FIRST_BAN: Duration = Duration::from_secs(10);
/// … up to this.
const LONGEST_BAN: Duration = Duration::from_mins(10);
/// Round trips below this are so short that waiting for a lost packet does not matter.
const SHORT: Duration = Duration::from_millis(5);
/// A choice stands for so long, as long as what it chose is live.
const DWELL: Duration = Duration::from_secs(10);

/// What carries a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Carrier {
    /// TCP: TLS or HTTP/2.
    Tcp,
    /// QUIC.
    Quic,
}

/// How the live tunnels of one carrier to one cluster fare, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// How many there are.
    pub(crate) live: usize,
    /// The shortest round trip.
    pub(crate) rtt: Option<Duration>,
    /// Packets sent so far that count: see [`crate::tunnel::Tunnel::packets_each_way`].
    pub(crate) sent: u64,
    /// Of these, lost.
    pub(crate) lost: u64,
}

/// What was chosen, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    pub(crate) carrier: Carrier,
    pub(crate) reason: Reason,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reason {
    /// The other has no live tunnel.
    OnlyOne,
    /// The path loses little: what costs less CPU.
    Clean,
    /// The path loses this much.
    Lossy(f64),
    /// The path loses much, but round trips are short.
    Short,
    /// UDP's round trip or loss is clearly worse than TCP's.
    Throttled,
}

/// One link's choice on one core.
#[derive(Debug)]
pub(crate) struct Chooser {
    tcp: Loss,
    quic: Loss,
    lossy: bool,
    /// What was measured last.
    loss: f64,
    throttled: Throttled,
    choice: Option<Choice>,
    changed: Option<Instant>,
}

/// Whether UDP loses far more than TCP.
#[derive(Debug)]
struct Throttled {
    tcp: Loss,
    quic: Loss,
    /// Since when QUIC is live.
    since: Option<Instant>,
    /// When it was seen last, and for how long QUIC is left alone from then on.
    seen: Option<(Instant, Duration)>,
}

impl Throttled {
    fn new() -> Self {
        Self { tcp: Loss::over(JUDGED), quic: Loss::over(JUDGED), since: None, seen: None }
    }

    fn look(&mut self, tcp: &Facts, quic: &Facts, now: Instant) {
        self.tcp.measure(tcp.packets(), now);
        self.since = (quic.live > 0).then(|| self.since.unwrap_or(now));
        if self.since.is_none_or(|since| now.saturating_duration_since(since) < SETTLED) {
            self.quic.forget(quic.packets());
        }
        let measured = self.quic.measure(quic.packets(), now).zip(self.tcp.smoothed());
        if measured.is_some_and(|(quic, tcp)| quic >= THROTTLED && quic > 2.0 * tcp) {
            self.note(now);
            // The next time that it is tried, it is measured anew.
            self.quic.forget(quic.packets());
        }
    }

    fn note(&mut self, now: Instant) {
        let before = self.seen.filter(|&(at, _)| now.saturating_duration_since(at) < 2 * LONGEST_BAN);
        let ban = before.map_or(FIRST_BAN, |(_, ban)| LONGEST_BAN.min(2 * ban));
        self.seen = Some((now, ban));
    }

    fn stands(&self, now: Instant) -> bool {
        self.seen.is_some_and(|(at, ban)| now.saturating_duration_since(at) < ban)
    }
}

impl Facts {
    fn packets(&self) -> Packets {
        Packets { sent: self.sent, lost: self.lost }
    }
}

impl Carrier {
    /// Of a tunnel of this transport.
    pub(crate) fn of(transport: Transport) -> Self {
        match transport {
            Transport::Tls | Transport::H2 => Self::Tcp,
            Transport::Quic => Self::Quic,
        }
    }
}

impl From<TransportChoice> for Carrier {
    fn from(choice: TransportChoice) -> Self {
        match choice {
            TransportChoice::Auto | TransportChoice::Tls | TransportChoice::H2 => Self::Tcp,
            TransportChoice::Quic => Self::Quic,
        }
    }
}

impl Chooser {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self {
            tcp: Loss::default(),
            quic: Loss::default(),
            lossy: false,
            loss: 0.0,
            throttled: Throttled::new(),
            choice: None,
            changed: None,
        }
    }

    /// What was chosen last; `None` while nothing is live.
    pub(crate) fn choice(&self) -> Option<Choice> {
        self.choice
    }

    /// Chooses anew.
    pub(crate) fn look(&mut self, tcp: &Facts, quic: &Facts, now: Instant) {
        self.throttled.look(tcp, quic, now);
        let measured = [self.tcp.measure(tcp.packets(), now), self.quic.measure(quic.packets(), now)];
        if let Some(loss) = measured.into_iter().flatten().reduce(f64::max) {
            self.loss = loss;
            self.lossy = loss >= if self.lossy { CLEAN } else { LOSSY };
        }
        let only = |carrier| Some(Choice { carrier, reason: Reason::OnlyOne });
        self.choice = match (tcp.live > 0, quic.live > 0) {
            (false, false) => None,
            (true, false) => only(Carrier::Tcp),
            (false, true) => only(Carrier::Quic),
            (true, true) => Some(self.of_both(tcp, quic, now)),
        };
    }

    fn of_both(&mut self, tcp: &Facts, quic: &Facts, now: Instant) -> Choice {
        let wanted = self.wanted(tcp, quic, now);
        let stands = self.choice.filter(|choice| {
            let fresh = self.changed.is_some_and(|at| now.saturating_duration_since(at) < DWELL);
            choice.reason != Reason::OnlyOne && choice.carrier != wanted.carrier && fresh
        });
        if let Some(choice) = stands {
            return choice;
        }
        if self.choice.is_none_or(|choice| choice.carrier != wanted.carrier) {
            self.changed = Some(now);
        }
        wanted
    }

    fn wanted(&self, tcp: &Facts, quic: &Facts, now: Instant) -> Choice {
        let (carrier, reason) = if !self.lossy {
            (Carrier::Tcp, Reason::Clean)
        } else if tcp.rtt.or(quic.rtt).is_some_and(|rtt| rtt < SHORT) {
            (Carrier::Tcp, Reason::Short)
        } else if self.is_throttled(tcp, quic, now) {
            (Carrier::Tcp, Reason::Throttled)
        } else {
            (Carrier::Quic, Reason::Lossy(self.loss))
        };
        Choice { carrier, reason }
    }

    fn is_throttled(&self, tcp: &Facts, quic: &Facts, now: Instant) -> bool {
        // PINGs measure the round trip of what carries nothing else, too.
        let slower = tcp.rtt.zip(quic.rtt).is_some_and(|(tcp, quic)| quic > 2 * tcp + Duration::from_millis(20));
        slower || self.throttled.stands(now)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyOne => f.write_str("no other transport has a live tunnel"),
            Self::Clean => f.write_str("the path loses little, and it costs less CPU"),
            Self::Lossy(loss) => write!(f, "the path loses {:.1}% of the packets", loss * 100.0),
            Self::Short => f.write_str("the path loses packets, but round trips are short"),
            Self::Throttled => f.write_str("the path loses packets, and UDP fares worse than TCP"),
        }
    }
}

#[cfg(test)]
mod tests;
