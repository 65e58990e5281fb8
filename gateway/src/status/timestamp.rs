//! Points in time as people and scripts read them: RFC 3339, UTC, whole seconds.

use serde::{Deserialize, Serialize};
use std::{fmt, time::SystemTime};
use time::{OffsetDateTime, error::Parse, format_description::well_known::Rfc3339};

/// A point in time, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// Seconds since 1970.
    pub fn unix_seconds(self) -> i64 {
        self.0.unix_timestamp()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(at: SystemTime) -> Self {
        Self(OffsetDateTime::from(at).truncate_to_second())
    }
}

impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> Self {
        at.0.into()
    }
}

impl TryFrom<String> for Timestamp {
    type Error = Parse;

    fn try_from(text: String) -> Result<Self, Parse> {
        OffsetDateTime::parse(&text, &Rfc3339).map(|at| Self(at.truncate_to_second()))
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> Self {
        at.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Fails only for years of five digits.
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_survives_its_text() {
        let at = Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_710_775_900));
        assert_eq!(at.to_string(), "2025-11-21T07:39:35Z");
        assert_eq!(Timestamp::try_from(at.to_string()).unwrap(), at);
        assert!(Timestamp::try_from("yesterday".to_owned()).is_err());
    }
}
