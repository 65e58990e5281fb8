//! ● Which transport a link's new streams take, where tunnels over TCP and over QUIC are both live.
//!
//! TLS over TCP costs the least CPU for a byte, about a quarter of QUIC's, so it is the choice on a path that loses little. On a
//! lossy path one lost packet holds up every stream of a TCP connection and only its own over QUIC; from [`LOSSY`] on that is worth
//! the CPU, unless round trips are so short that nobody notices. UDP that fares clearly worse than TCP on the same path is being
//! throttled: then it is TCP again.

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
    /// Packets sent so far.
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
    choice: Option<Choice>,
    changed: Option<Instant>,
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
        Self { tcp: Loss::default(), quic: Loss::default(), lossy: false, choice: None, changed: None }
    }

    /// What was chosen last; `None` while nothing is live.
    pub(crate) fn choice(&self) -> Option<Choice> {
        self.choice
    }

    /// Chooses anew.
    pub(crate) fn look(&mut self, tcp: &Facts, quic: &Facts, now: Instant) {
        let measured = [self.tcp.measure(tcp.packets(), now), self.quic.measure(quic.packets(), now)]
            .into_iter()
            .flatten()
            .reduce(f64::max);
        if let Some(loss) = measured {
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
        let wanted = self.wanted(tcp, quic);
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

    fn wanted(&self, tcp: &Facts, quic: &Facts) -> Choice {
        let (carrier, reason) = if !self.lossy {
            (Carrier::Tcp, Reason::Clean)
        } else if tcp.rtt.or(quic.rtt).is_some_and(|rtt| rtt < SHORT) {
            (Carrier::Tcp, Reason::Short)
        } else if self.is_throttled(tcp, quic) {
            (Carrier::Tcp, Reason::Throttled)
        } else {
            let loss = self.tcp.smoothed().into_iter().chain(self.quic.smoothed()).fold(0.0, f64::max);
            (Carrier::Quic, Reason::Lossy(loss))
        };
        Choice { carrier, reason }
    }

    fn is_throttled(&self, tcp: &Facts, quic: &Facts) -> bool {
        let slower = match (tcp.rtt, quic.rtt) {
            (Some(tcp), Some(quic)) => quic > 2 * tcp + Duration::from_millis(20),
            _ => false,
        };
        let loses_more = match (self.tcp.smoothed(), self.quic.smoothed()) {
            (Some(tcp), Some(quic)) => quic >= THROTTLED && quic > 2.0 * tcp,
            _ => false,
        };
        slower || loses_more
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
