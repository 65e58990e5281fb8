//! What control says of a registry of Kubernetes, for people.

use serde_json::Value;
use std::fmt;

/// No more lines of a list than this; JSON has the others.
const LISTED: usize = 5;

/// Writes it, if there is such a registry.
pub(super) fn write(control: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(registry) = control.get("registry").filter(|registry| registry.is_object()) else { return Ok(()) };
    let is = |value: &Value| value.as_bool().unwrap_or(false);
    let leader = &registry["leader"];
    let holder = leader["holder"].as_str().filter(|holder| !holder.is_empty());
    let synced = if is(&registry["synced"]) { "synced" } else { "not synced: the table is the last good one" };
    let leads = match (is(&leader["leading"]), holder) {
        (true, _) => "this replica writes".to_owned(),
        (false, Some(holder)) => format!("{holder} writes"),
        (false, None) => "nobody writes".to_owned(),
    };
    writeln!(f, "registry Kubernetes, {synced}, {leads}")?;
    let watches = registry["watches"].as_object().into_iter().flatten();
    for (kind, watch) in watches {
        if let Some(error) = watch["error"].as_str() {
            writeln!(f, "  {kind}: {error}")?;
        }
    }
    if let Some(error) = leader["error"].as_str() {
        writeln!(f, "  lease: {error}")?;
    }
    for list in ["failures", "problems"] {
        let lines: Vec<_> = registry[list].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for line in lines.iter().take(LISTED) {
            writeln!(f, "  {line}")?;
        }
        if lines.len() > LISTED {
            writeln!(f, "  and {} more {list}", lines.len() - LISTED)?;
        }
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
    fn what_is_wrong_is_said_and_nothing_of_another_registry() {
        assert_eq!(shown(&Value::Null) + &shown(&json!({"config": "west.yaml"})), "");
        let registry = json!({
            "synced": false,
            "watches": {"nodes": {"error": null}, "serviceexports": {"error": "the API server has no serviceexports"}},
            "leader": {"leading": false, "holder": "west-0_1", "error": "no answer"},
            "failures": ["a", "b", "c", "d", "e", "f", "g"], "problems": ["p"],
        });
        let expected = "registry Kubernetes, not synced: the table is the last good one, west-0_1 writes\n  \
            serviceexports: the API server has no serviceexports\n  lease: no answer\n  \
            a\n  b\n  c\n  d\n  e\n  and 2 more failures\n  p\n";
        assert_eq!(shown(&json!({"registry": registry})), expected);
        let good = json!({"registry": {"synced": true, "leader": {"leading": true}}});
        assert_eq!(shown(&good), "registry Kubernetes, synced, this replica writes\n");
    }
}
