//! Logs of the commands that keep running: to stderr, as lines for people or as JSON.

use crate::cmd::Failure;
use std::{ffi::OsStr, io::IsTerminal};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Which events are wanted.
const VARIABLE: &str = "ISTHMUS_LOG";
/// Those that are if the variable says nothing.
const DEFAULT: &str = "info";

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends events of `info` and above to stderr, or those that the variable `ISTHMUS_LOG` selects (`debug`, `info,isthmus_certs=trace`).
/// Call it once.
///
/// # Errors
/// The variable is set to something else.
pub(crate) fn init(format: LogFormat) -> Result<(), Failure> {
    let targets = targets(std::env::var_os(VARIABLE).as_deref())?;
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(targets);
    match format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
    Ok(())
}

fn targets(variable: Option<&OsStr>) -> Result<Targets, Failure> {
    let text = match variable {
        None => DEFAULT.into(),
        Some(text) if text.is_empty() => DEFAULT.into(),
        Some(text) => text.to_string_lossy(),
    };
    text.parse().map_err(|error| {
        Failure::usage(format!(
            "{VARIABLE}: {text:?}: {error}; expected a level (error, warn, info, debug, trace, off), or modules and \
             their levels, as info,isthmus_certs=trace"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    fn wanted(variable: Option<&str>) -> [bool; 3] {
        let targets = targets(variable.map(OsStr::new)).unwrap();
        [("isthmus", Level::INFO), ("isthmus", Level::DEBUG), ("isthmus_certs::ca", Level::TRACE)]
            .map(|(target, level)| targets.would_enable(target, &level))
    }

    #[test]
    fn the_variable_selects_events() {
        for nothing in [None, Some("")] {
            assert_eq!(wanted(nothing), [true, false, false]);
        }
        assert_eq!(wanted(Some("debug")), [true, true, false]);
        assert_eq!(wanted(Some("info,isthmus_certs=trace")), [true, false, true]);
        assert_eq!(wanted(Some("off")), [false, false, false]);
    }

    #[test]
    fn a_variable_that_says_nonsense_is_refused_with_what_was_expected() {
        let refused = targets(Some(OsStr::new("isthmus=loud"))).unwrap_err();
        let refused = refused.message();
        for part in ["ISTHMUS_LOG", "isthmus=loud", "expected a level"] {
            assert!(refused.contains(part), "{part:?} is not in {refused:?}");
        }
    }
}
