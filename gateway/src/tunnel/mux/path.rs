//! ● PATH: what a side tells beside a PING (docs/wire.md, "PATH"), and how clocks compare.

use crate::tunnel::Packets;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a PATH says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathReport {
    /// What its sender has counted on its path to us; zeros where it cannot know.
    pub packets: Packets,
    /// What its clock said then.
    pub clock: Clock,
}

/// What a clock says, in milliseconds since 1970; 0 tells nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock(pub u64);

/// Bytes of a PATH of ours.
const LENGTH: usize = 24;

impl PathReport {
    /// PATH's payload.
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&self.packets.sent.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.packets.lost.to_be_bytes());
        bytes[16..].copy_from_slice(&self.clock.0.to_be_bytes());
        bytes
    }

    /// What a payload says; nothing of what it is too short for.
    pub fn from_bytes(payload: &[u8]) -> Self {
        let word =
            |at: usize| payload.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_be_bytes);
        Self { packets: Packets { sent: word(0), lost: word(8) }, clock: Clock(word(16)) }
    }
}

impl Clock {
    /// A clock that says `now`.
    pub fn at(now: SystemTime) -> Self {
        let clock = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(u64::try_from(clock).unwrap_or(u64::MAX))
    }

    /// By how much it is ahead of ours, in milliseconds, if it came in at `now`; a path's delay makes it look late.
    pub fn ahead(self, now: SystemTime) -> Option<i64> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        let ahead = i128::from(self.0) - i128::try_from(now).ok()?;
        (self.0 != 0).then(|| i64::try_from(ahead).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_is_read_as_it_was_written(sent: u64, lost: u64, clock: u64, more in prop::collection::vec(any::<u8>(), 0..50)) {
            let report = PathReport { packets: Packets { sent, lost }, clock: Clock(clock) };
            let mut bytes = report.to_bytes().to_vec();
            bytes.extend(more);
            prop_assert_eq!(PathReport::from_bytes(&bytes), report);
            // As a peer that tells no clock says it.
            bytes.truncate(16);
            prop_assert_eq!(PathReport::from_bytes(&bytes), PathReport { clock: Clock::default(), ..report });
        }
    }
}
