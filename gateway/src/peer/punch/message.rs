//! ● What the two ends of a relayed tunnel say to each other before they try a direct one: a line of text each (docs/wire.md,
//! "Punching").

use std::{fmt, net::SocketAddr, str::FromStr};

/// Longer lines are no messages.
pub(super) const LONGEST: u64 = 128;

/// What a side does when a direct path is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It dials.
    Dial,
    /// It sends a few datagrams, so that its NAT lets the other's in, and waits to be dialled.
    Wait,
}

/// What the side proposes that has dialled the relayed tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proposal {
    /// What the other side is to do.
    pub(super) yours: Role,
    /// Where the proposer's datagrams come from, as the relay sees it.
    pub(super) address: SocketAddr,
}

/// A line that is no proposal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {0:?}, expected \"dial ip:port\" or \"wait ip:port\"")]
pub(super) struct NoProposal(String);

impl Role {
    /// The other side's.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Dial => Self::Wait,
            Self::Wait => Self::Dial,
        }
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.yours {
            Role::Dial => "dial",
            Role::Wait => "wait",
        };
        write!(f, "{word} {}", self.address)
    }
}

impl FromStr for Proposal {
    type Err = NoProposal;

    fn from_str(line: &str) -> Result<Self, NoProposal> {
        let no = || NoProposal(line.chars().filter(|c| !c.is_control()).take(80).collect());
        let (word, address) = line.split_once(' ').ok_or_else(no)?;
        let yours = match word {
            "dial" => Role::Dial,
            "wait" => Role::Wait,
            _ => return Err(no()),
        };
        Ok(Self { yours, address: address.parse().map_err(|_| no())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_proposal_is_read_as_it_was_written(dial: bool, ip: std::net::IpAddr, port: u16) {
            let yours = if dial { Role::Dial } else { Role::Wait };
            let proposal = Proposal { yours, address: (ip, port).into() };
            let line = proposal.to_string();
            prop_assert!(line.len() as u64 <= LONGEST);
            prop_assert_eq!(line.parse(), Ok(proposal));
        }

        #[test]
        fn no_line_panics(line in ".*") {
            let _ = line.parse::<Proposal>();
        }
    }
}
