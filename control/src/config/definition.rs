//! ● The keys of policies as CustomResourceDefinitions: what the API server refuses at once.
//!
//! The files in deploy/crds/ are made of this: `UPDATE_DOCS=1 cargo test -p isthmus-control definition` rewrites them.

use super::schema::{Key, LeftOut, keys, section};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// A kind whose `spec` has the keys of a section.
struct Definition {
    kind: &'static str,
    plural: &'static str,
    short: &'static str,
    section: &'static str,
    /// Keys that are no part of the spec.
    left_out: &'static [&'static str],
    /// Keys that the spec need not have although the section must.
    optional: &'static [&'static str],
    about: &'static str,
}

const SERVICE_POLICY: Definition = Definition {
    kind: "ServicePolicy",
    plural: "servicepolicies",
    short: "svcpol",
    section: "policy",
    left_out: &[],
    optional: &[],
    about: "How the streams of the service of the same name are served in this cluster, at the endpoints and at the client's side.",
};

const ACCESS_POLICY: Definition = Definition {
    kind: "AccessPolicy",
    plural: "accesspolicies",
    short: "accpol",
    section: "accessPolicies[]",
    left_out: &["name"],
    optional: &["services"],
    about: "Who may use services of this namespace that this cluster exports. A service is named without its namespace; without `services` it is all of them.",
};

impl Definition {
    /// The whole file.
    fn file(&self) -> String {
        let Self { kind, plural, short, about, .. } = self;
        let singular = kind.to_lowercase();
        let mut spec = of_section(self.section, self.left_out);
        if let Some(required) = spec.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| !self.optional.iter().any(|optional| name == optional));
        }
        let mut text = format!(
            "# {about}\n# Made from control/src/config/schema.rs: `UPDATE_DOCS=1 cargo test -p isthmus-control definition`.\n\
             apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: {plural}.isthmus.io\n  labels:\n    \
             # Grows with each change: who installs it never goes back to an older one.\n    isthmus.io/crd-schema-revision: \"1\"\n\
             spec:\n  group: isthmus.io\n  scope: Namespaced\n  names:\n    kind: {kind}\n    listKind: {kind}List\n    plural: {plural}\n    \
             singular: {singular}\n    shortNames: [{short}]\n    categories: [isthmus]\n  versions:\n    - name: v1alpha1\n      served: true\n      \
             storage: true\n      subresources:\n        status: {{}}\n      additionalPrinterColumns:\n        \
             - {{name: Accepted, type: string, jsonPath: '.status.conditions[?(@.type==\"Accepted\")].status'}}\n        \
             - {{name: Message, type: string, jsonPath: '.status.conditions[?(@.type==\"Accepted\")].message'}}\n        \
             - {{name: Age, type: date, jsonPath: .metadata.creationTimestamp}}\n      schema:\n        openAPIV3Schema:\n"
        );
        let schema = json!({
            "type": "object",
            "description": about,
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": spec,
                "status": status(),
            },
        });
        write(&mut text, &schema, 10);
        text
    }
}

fn status() -> Value {
    let text = || json!({"type": "string"});
    let condition = json!({
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": text(), "status": {"type": "string", "enum": ["True", "False", "Unknown"]}, "reason": text(), "message": text(),
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
    });
    let conditions = json!({
        "type": "array", "items": condition, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
    });
    json!({"type": "object", "properties": {"conditions": conditions}})
}

fn of_section(name: &str, left_out: &[&str]) -> Value {
    let keys = || section(name).filter(|key| !left_out.contains(&key.name));
    let properties: Map<String, Value> = keys().map(|key| (key.name.to_owned(), of_key(name, key))).collect();
    let required: Vec<_> = keys().filter(|key| key.left_out == LeftOut::Required).map(|key| key.name).collect();
    // What is unknown is kept, so that control sees and refuses it: without it a rule would be for more than was meant.
    let mut schema = json!({"type": "object", "properties": properties, "x-kubernetes-preserve-unknown-fields": true});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn of_key(parent: &str, key: &Key) -> Value {
    let mut schema = form(parent, key);
    schema["description"] = json!(format!("{} Takes {}.", key.about, key.takes));
    schema
}

fn form(parent: &str, key: &Key) -> Value {
    if let Some(section) = subsection(parent, key.name) {
        return of_section(section, &[]);
    }
    if let Some(section) = subsection(parent, &format!("{}[]", key.name)) {
        return json!({"type": "array", "items": of_section(section, &[])});
    }
    if key.takes.starts_with("a list") {
        return json!({"type": "array", "items": {"x-kubernetes-int-or-string": true}});
    }
    match &*words(key.takes) {
        [] if key.takes.contains("number") => json!({"x-kubernetes-int-or-string": true}),
        [] => json!({"type": "string"}),
        ["true", "false"] => json!({"type": "boolean"}),
        words => json!({"type": "string", "enum": words}),
    }
}

/// The words of which a key takes one, as `a, b or c`; none, if it takes something else.
fn words(takes: &str) -> Vec<&str> {
    let words: Vec<_> = takes.split(", ").flat_map(|part| part.split(" or ")).collect();
    let is_word = |word: &&str| word.bytes().all(|b| b.is_ascii_alphanumeric());
    if words.len() > 1 && words.iter().all(is_word) { words } else { Vec::new() }
}

/// The section of the mapping under a key. A section may be that of several keys, as `a.b, c`.
fn subsection(parent: &str, name: &str) -> Option<&'static str> {
    let is_it = |section: &&str| {
        let rest = section.strip_prefix(parent).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(|rest| rest.split(", ").any(|one| one == name))
    };
    keys().map(|key| key.section).find(is_it)
}

/// Writes a mapping as YAML, indented by so many spaces.
fn write(text: &mut String, schema: &Value, indent: usize) {
    for (key, value) in schema.as_object().into_iter().flatten() {
        // What is a mapping of mappings has a line for each; what is small has one.
        let inner = value.as_object().is_some_and(|of| of.values().any(|value| value.is_object() || value.is_array()));
        // A String takes all that is written to it.
        let _ = match inner {
            true => writeln!(text, "{:indent$}{key}:", ""),
            false => writeln!(text, "{:indent$}{key}: {value}", ""),
        };
        if inner {
            write(text, value, indent + 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `UPDATE_DOCS=1 cargo test -p isthmus-control definition` rewrites them.
    #[test]
    fn the_definitions_are_what_the_schema_says() {
        for definition in [SERVICE_POLICY, ACCESS_POLICY] {
            let path = format!("../deploy/crds/isthmus.io_{}.yaml", definition.plural);
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            if std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::write(&path, definition.file()).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), definition.file(), "run it again with UPDATE_DOCS=1");
        }
    }

    #[test]
    fn words_are_told_from_phrases() {
        assert_eq!(words("local, remote or none"), ["local", "remote", "none"]);
        assert_eq!(words("true or false"), ["true", "false"]);
        assert!(words("a duration from 100ms to 1h, as 500ms, 30s or 5m").is_empty() && words("a mapping").is_empty());
    }
}
