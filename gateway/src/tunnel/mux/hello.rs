//! HELLO: what each side tells first (docs/wire.md, "HELLO").

use super::{ProtocolError, connection::MAX_CREDIT, path::Clock};
use isthmus_control_api::GatewayId;
use std::time::SystemTime;

/// The revision of `isthmus/1` that this gateway speaks. Revisions add what older ones may ignore.
pub const REVISION: u16 = 1;

/// What a side tells in HELLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The credit that every new stream begins with, towards the sender of the HELLO.
    pub window: u32,
    /// How many streams the peer may have open at once.
    pub max_streams: u32,
    /// How many cores the sender runs on: a dialler may want a tunnel for each.
    pub cores: u16,
    /// Who says it.
    pub about: Introduction,
}

/// Who says HELLO. Everything is advice, and as true as the peer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Introduction {
    /// The revision of the protocol that it speaks; 0 knows of none of what follows.
    pub revision: u16,
    /// Which gateway of its cluster it is.
    pub gateway: GatewayId,
    /// Its clock when it said so, in milliseconds since 1970; 0 if it does not tell.
    pub clock: u64,
}

/// Bytes of a HELLO of revision 0.
const FIRST: usize = 12;
/// Bytes of a HELLO of ours.
const LENGTH: usize = 28;

impl Introduction {
    /// Of a peer that tells nothing of itself.
    pub const UNKNOWN: Self = Self { revision: 0, gateway: GatewayId::UNKNOWN, clock: 0 };

    /// What the gateway `gateway` of this version says of itself.
    pub fn of(gateway: GatewayId) -> Self {
        Self { revision: REVISION, gateway, clock: 0 }
    }

    /// The same, said at `now`.
    #[must_use]
    pub fn at(self, now: SystemTime) -> Self {
        let clock = if self.revision == 0 { Clock::default() } else { Clock::at(now) };
        Self { clock: clock.0, ..self }
    }

    /// By how much its clock is ahead of ours, in milliseconds, if it came in at `now`; a path's delay makes it look late.
    pub fn ahead(&self, now: SystemTime) -> Option<i64> {
        Clock(self.clock).ahead(now)
    }
}

impl Settings {
    /// The same, said at `now`.
    #[must_use]
    pub fn said_at(self, now: SystemTime) -> Self {
        Self { about: self.about.at(now), ..self }
    }

    /// HELLO's payload.
    pub fn to_bytes(&self) -> [u8; LENGTH] {
        let mut hello = [0; LENGTH];
        hello[..4].copy_from_slice(&self.window.to_be_bytes());
        hello[4..8].copy_from_slice(&self.max_streams.to_be_bytes());
        hello[8..10].copy_from_slice(&self.cores.to_be_bytes());
        hello[10..12].copy_from_slice(&self.about.revision.to_be_bytes());
        hello[12..20].copy_from_slice(&self.about.gateway.0.to_be_bytes());
        hello[20..28].copy_from_slice(&self.about.clock.to_be_bytes());
        hello
    }

    /// What a HELLO's payload says. What it is too short for is as revision 0 has it.
    ///
    /// # Errors
    /// More credit than a window can be.
    pub fn from_bytes(payload: &[u8]) -> Result<Self, ProtocolError> {
        let half = |at: usize| payload.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes);
        let word = |at: usize| payload.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        let long = |at: usize| payload.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes);
        let about = match half(10) {
            0 => Introduction::UNKNOWN,
            revision => Introduction { revision, gateway: GatewayId(long(FIRST)), clock: long(20) },
        };
        let settings = Self { window: word(0), max_streams: word(4), cores: half(8), about };
        if settings.window as usize > MAX_CREDIT { Err(ProtocolError::CreditOverflow(0)) } else { Ok(settings) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    proptest! {
        #[test]
        fn a_hello_is_read_as_it_was_written(
            (window, max_streams, cores) in (0u32..1 << 31, any::<u32>(), any::<u16>()),
            (revision, gateway, clock) in (1u16.., any::<u64>(), any::<u64>()),
            more in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let about = Introduction { revision, gateway: GatewayId(gateway), clock };
            let settings = Settings { window, max_streams, cores, about };
            let mut bytes = settings.to_bytes().to_vec();
            bytes.extend(more);
            prop_assert_eq!(Settings::from_bytes(&bytes), Ok(settings));
            // As a peer of revision 0 would have said it.
            bytes.truncate(FIRST);
            bytes[10..].fill(0);
            prop_assert_eq!(Settings::from_bytes(&bytes), Ok(Settings { about: Introduction::UNKNOWN, ..settings }));
        }
    }

    #[test]
    fn clocks_are_compared_if_both_are_known() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let said = Introduction::of(GatewayId(7)).at(now);
        assert_eq!(said.ahead(now), Some(0));
        assert_eq!(said.ahead(now + Duration::from_secs(3)), Some(-3_000));
        assert_eq!(said.ahead(now - Duration::from_secs(3)), Some(3_000));
        assert_eq!(Introduction::of(GatewayId(7)).ahead(now), None);
    }
}
