//! What control says of its configuration file, for people: nothing, where all of it is in use.

use serde_json::Value;
use std::fmt;

/// Writes what of the file was refused and why, and which keys wait for the next start.
pub(super) fn write(control: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let file = control["config"].as_str().unwrap_or("the configuration file");
    if let Some(error) = control["lastReloadError"].as_str() {
        writeln!(f, "not all of {file} is in force, what was good before goes on in its place:")?;
        error.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
    }
    let waiting: Vec<_> = control["needsRestart"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !waiting.is_empty() {
        writeln!(f, "changes of {file} that take effect at the next start: {}", waiting.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(control: &Value) -> String {
        fmt::from_fn(|f| write(control, f)).to_string()
    }

    #[test]
    fn what_is_in_use_needs_no_words() {
        let good = json!({"config": "west.yaml", "lastReloadError": null, "needsRestart": []});
        assert_eq!(shown(&Value::Null) + &shown(&good), "");
    }

    #[test]
    fn what_was_refused_and_what_waits_is_said() {
        let refused = json!({"config": "west.yaml", "lastReloadError": "west.yaml:6:25: a\nwest.yaml:7:1: b"});
        let expected = "not all of west.yaml is in force, what was good before goes on in its place:\n  west.yaml:6:25: a\n  west.yaml:7:1: b\n";
        assert_eq!(shown(&refused), expected);
        let waits = json!({"config": "west.yaml", "lastReloadError": null, "needsRestart": ["cores", "drain"]});
        let expected = "changes of west.yaml that take effect at the next start: cores, drain\n";
        assert_eq!(shown(&waits), expected);
    }
}
