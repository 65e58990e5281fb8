//! ● How a stream ended, and whether another attempt may do better.

use crate::tunnel::{Refusal, RefusalReason, StreamError};
use std::{fmt, io};

/// How a stream ended, as this gateway saw it: the word of metrics and access records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closed {
    /// Both sides finished (FIN) and everything was delivered.
    Fin,
    /// The local socket was reset or failed: the client's at the egress gateway, the endpoint's at the ingress gateway.
    ResetLocal,
    /// The peer reset it, and the local socket was reset in turn.
    ResetPeer,
    /// The local connection stopped answering, or the stream reached one of its time limits.
    Timeout,
    /// It was never opened.
    Refused(RefusalReason),
    /// Its tunnel ended first.
    TunnelLost,
    /// It was open, and an access policy that changed denies it.
    Denied,
    /// The deadline of this gateway's drain was reached.
    Drained,
    /// UDP: nothing has moved for a time, which is how a flow ends.
    Idle,
    /// UDP: it gave way to a new flow, the table being full.
    Evicted,
    /// The client's proxy did not send the header of the PROXY protocol that it has to.
    BadProxyHeader,
}

impl Closed {
    /// Every way there is, in the order of [`Self::index`].
    pub const ALL: [Self; 18] = [
        Self::Fin,
        Self::ResetLocal,
        Self::ResetPeer,
        Self::Timeout,
        Self::TunnelLost,
        Self::Drained,
        Self::Refused(RefusalReason::Denied),
        Self::Refused(RefusalReason::NoSuchExport),
        Self::Refused(RefusalReason::NoEndpoint),
        Self::Refused(RefusalReason::Timeout),
        Self::Refused(RefusalReason::Limit),
        Self::Refused(RefusalReason::Draining),
        Self::Refused(RefusalReason::TunnelLost),
        Self::Idle,
        Self::Evicted,
        Self::BadProxyHeader,
        Self::Denied,
        Self::Refused(RefusalReason::Source),
    ];

    /// Its place in [`Self::ALL`], for counters in an array.
    pub const fn index(self) -> usize {
        match self {
            Self::Fin => 0,
            Self::ResetLocal => 1,
            Self::ResetPeer => 2,
            Self::Timeout => 3,
            Self::TunnelLost => 4,
            Self::Drained => 5,
            Self::Refused(RefusalReason::Denied) => 6,
            Self::Refused(RefusalReason::NoSuchExport) => 7,
            Self::Refused(RefusalReason::NoEndpoint) => 8,
            Self::Refused(RefusalReason::Timeout) => 9,
            Self::Refused(RefusalReason::Limit) => 10,
            Self::Refused(RefusalReason::Draining) => 11,
            Self::Refused(RefusalReason::TunnelLost) => 12,
            Self::Idle => 13,
            Self::Evicted => 14,
            Self::BadProxyHeader => 15,
            Self::Denied => 16,
            Self::Refused(RefusalReason::Source) => 17,
        }
    }

    /// A word for metrics and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fin => "fin",
            Self::ResetLocal => "reset_local",
            Self::ResetPeer => "reset_peer",
            Self::Timeout => "timeout",
            Self::TunnelLost => "tunnel_lost",
            Self::Drained => "drained",
            Self::Refused(RefusalReason::Denied) => "refused_denied",
            Self::Refused(RefusalReason::NoSuchExport) => "refused_no_such_export",
            Self::Refused(RefusalReason::NoEndpoint) => "refused_no_endpoint",
            Self::Refused(RefusalReason::Timeout) => "refused_timeout",
            Self::Refused(RefusalReason::Limit) => "refused_limit",
            Self::Refused(RefusalReason::Draining) => "refused_draining",
            Self::Refused(RefusalReason::TunnelLost) => "refused_tunnel_lost",
            Self::Refused(RefusalReason::Source) => "refused_source",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::BadProxyHeader => "bad_proxy_header",
            Self::Denied => "denied",
        }
    }

    /// Whether its client did not get what it came for, and not by its own or the endpoint's doing: it was refused, timed out or was
    /// cut off.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::Fin | Self::ResetLocal | Self::ResetPeer | Self::Idle)
    }

    /// Whether another attempt elsewhere (another tunnel, another cluster) may succeed and does nothing twice.
    ///
    /// Only a stream that was never opened can be tried again: of an open one the endpoint may have acted on what it got. Where
    /// the peer itself has said so ([`Refusal::retry`]), that is the better answer.
    pub const fn retry_can_help(self) -> bool {
        match self {
            Self::Refused(reason) => !matches!(reason, RefusalReason::Denied),
            Self::Fin
            | Self::ResetLocal
            | Self::ResetPeer
            | Self::Timeout
            | Self::TunnelLost
            | Self::Drained
            | Self::Idle
            | Self::Evicted
            | Self::BadProxyHeader
            | Self::Denied => false,
        }
    }

    /// Whether the other side must see an error and not an end.
    pub const fn is_error(self) -> bool {
        !matches!(self, Self::Fin | Self::Idle)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&StreamError> for Closed {
    fn from(error: &StreamError) -> Self {
        match error {
            // TCP gave up: keep-alive probes or data were not answered.
            StreamError::Socket(e) if e.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            StreamError::Socket(_) => Self::ResetLocal,
            StreamError::Reset => Self::ResetPeer,
            StreamError::TunnelLost => Self::TunnelLost,
        }
    }
}

impl From<&Refusal> for Closed {
    fn from(refusal: &Refusal) -> Self {
        Self::Refused(refusal.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_way_has_its_place_and_its_own_word() {
        for (place, closed) in Closed::ALL.into_iter().enumerate() {
            assert_eq!(closed.index(), place, "{closed}");
        }
        assert_eq!(Closed::ALL.map(Closed::as_str).into_iter().collect::<BTreeSet<_>>().len(), Closed::ALL.len());
    }

    #[test]
    fn refusals_use_the_tunnels_words() {
        for closed in Closed::ALL {
            if let Closed::Refused(reason) = closed {
                assert_eq!(closed.as_str(), format!("refused_{reason}"));
            }
        }
    }

    #[test]
    fn an_open_stream_is_never_tried_again() {
        let helped: Vec<_> = Closed::ALL.into_iter().filter(|closed| closed.retry_can_help()).collect();
        assert!(helped.iter().all(|closed| matches!(closed, Closed::Refused(_))));
        assert!(!helped.contains(&Closed::Refused(RefusalReason::Denied)));
    }

    #[test]
    fn a_silent_client_is_a_timeout_and_a_failed_one_a_reset() {
        let socket = |kind: io::ErrorKind| Closed::from(&StreamError::Socket(kind.into()));
        assert_eq!(socket(io::ErrorKind::TimedOut), Closed::Timeout);
        assert_eq!(socket(io::ErrorKind::ConnectionReset), Closed::ResetLocal);
        assert_eq!(Closed::from(&StreamError::Reset), Closed::ResetPeer);
        assert_eq!(Closed::from(&StreamError::TunnelLost), Closed::TunnelLost);
    }
}
