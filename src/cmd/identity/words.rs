//! Times and durations, read and written.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A duration like `90s`, `30m`, `24h` or `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parse = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        number.parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * seconds))
    };
    parse().ok_or_else(|| "expected a number and one of s, m, h, d, such as 24h".into())
}

/// A moment as RFC 3339 has it, in UTC.
pub(in crate::cmd) fn moment(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_else(|_| "?".into())
}

/// A span in its two largest units.
pub(in crate::cmd) fn span(length: Duration) -> String {
    let (seconds, minutes, hours) = (length.as_secs(), length.as_secs() / 60, length.as_secs() / 3600);
    match hours {
        0 if minutes == 0 => format!("{seconds}s"),
        0 => format!("{minutes}m {}s", seconds % 60),
        1..48 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{}d {}h", hours / 24, hours % 24),
    }
}

/// A path as a shell takes it.
pub(in crate::cmd) fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(duration("24h"), Ok(Duration::from_hours(24)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "h", "24", "1.5h", "-1h", "24 h", "1w", "99999999999s", "½"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [(0, "0s"), (61, "1m 1s"), (3600, "1h 0m"), (86_399, "23h 59m"), (864_000, "10d 0h")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(shell(Path::new("west/ca.pem")), "west/ca.pem");
        assert_eq!(shell(Path::new("it's here")), r"'it'\''s here'");
    }
}
