//! docs/crds.md: the keys of our custom resources, from their definitions.

use crate::root;
use serde_json::Value;
use std::fmt::Write as _;

/// Of the definitions in deploy/crds, those that are ours.
const OURS: [&str; 3] = ["clusterlinks", "servicepolicies", "accesspolicies"];

const HEADER: &str = "\
# Custom resources

<!-- Made from deploy/crds: `UPDATE_DOCS=1 cargo test -p isthmus-tests --test guides custom_resources`. -->

Keys of the kinds that are ours, as the API server checks them. What they do is in [kubernetes.md](kubernetes.md), [policy.md](policy.md), [balancing.md](balancing.md), [health.md](health.md) and [limits.md](limits.md).
The other kinds, ServiceExport, ServiceImport and ClusterProperty, are those of the Multi-Cluster Services API and its ids: [deploy/crds](../deploy/crds/README.md) says which versions.
";

#[test]
fn the_reference_of_custom_resources_is_up_to_date() {
    let path = root().join("docs/crds.md");
    let text = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == text,
        "docs/crds.md is stale: run UPDATE_DOCS=1 cargo test -p isthmus-tests --test guides custom_resources"
    );
}

fn reference() -> String {
    let mut text = HEADER.to_owned();
    for plural in OURS {
        let path = root().join(format!("deploy/crds/isthmus.io_{plural}.yaml"));
        let yaml = std::fs::read_to_string(&path).unwrap();
        let definition: Value = serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (names, version) = (&definition["spec"]["names"], &definition["spec"]["versions"][0]);
        let schema = &version["schema"]["openAPIV3Schema"];
        let of = |key: &str| names[key].as_str().unwrap_or_default().to_owned();
        let scope = definition["spec"]["scope"].as_str().unwrap_or_default().to_lowercase();
        writeln!(text, "\n## {}\n", of("kind")).unwrap();
        writeln!(text, "`isthmus.io/{}`, {scope}. {}\n", version["name"].as_str().unwrap_or_default(), words(schema))
            .unwrap();
        text.push_str("| key | takes | left out | |\n|---|---|---|---|\n");
        for part in ["spec", "status"] {
            rows(part, &schema["properties"][part], &mut text);
        }
    }
    text
}

/// A row for each key below `at`.
fn rows(at: &str, schema: &Value, text: &mut String) {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    for (key, of) in properties {
        let key_at = format!("{at}.{key}");
        let left_out = match &of["default"] {
            Value::Null if required.contains(&key.as_str()) => "**must be there**".to_owned(),
            Value::Null => String::new(),
            default => format!("`{}`", default.to_string().trim_matches('"')),
        };
        writeln!(text, "| `{key_at}` | {} | {left_out} | {} |", kind(of), words(of)).unwrap();
        rows(&key_at, of, text);
        rows(&format!("{key_at}[]"), &of["items"], text);
    }
}

/// What a key takes.
fn kind(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    let bounds = |least: &str, most: &str| match (&schema[least], &schema[most]) {
        (Value::Null, Value::Null) => String::new(),
        (least, Value::Null) => format!(", {least} at least"),
        (Value::Null, most) => format!(", at most {most}"),
        (least, most) => format!(", {least} to {most}"),
    };
    match schema["type"].as_str() {
        Some("array") => format!("list of {}{}", kind(&schema["items"]), bounds("minItems", "maxItems")),
        Some("integer") => format!("number{}", bounds("minimum", "maximum")),
        Some("object") => "mapping".to_owned(),
        Some(other) => other.to_owned(),
        None if schema["x-kubernetes-int-or-string"] == true => "number or string".to_owned(),
        None => String::new(),
    }
}

fn words(schema: &Value) -> String {
    let words = schema["description"].as_str().unwrap_or_default();
    words.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
