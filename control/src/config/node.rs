//! YAML text as a tree whose every node knows its line and column.
//!
//! Only what a configuration needs: one document of mappings, lists and scalars. Anchors, aliases and tags are refused, so a small
//! file stays a small tree.

use super::error::{At, Position};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

/// Deeper than any key of ours.
const DEPTH: usize = 16;

/// A YAML value and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// The three forms of a YAML value.
#[derive(Debug)]
pub(super) enum Value {
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// In the file's order, duplicate keys kept: who reads it reports them.
    Map(Vec<(At<String>, Node)>),
}

/// Where and why the text is not such a document.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) found: String,
    pub(super) expected: &'static str,
}

impl Node {
    /// Parses one document. `None`: it is empty.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, SyntaxError> {
        let mut tree = Tree { open: Vec::new(), root: None };
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| SyntaxError {
                at: position(error.marker()),
                found: error.info().into(),
                expected: "YAML",
            })?;
            tree.take(event, span)?;
        }
        Ok(tree.root)
    }

    /// A tree of JSON as if somebody had written it. Nothing in it has a place.
    pub(super) fn from_json(value: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let scalar = |text: String, plain| Value::Scalar { text, plain };
        let at = Position { line: 1, column: 1 };
        let value = match value {
            Json::Null => scalar(String::new(), true),
            Json::Bool(value) => scalar(value.to_string(), true),
            Json::Number(value) => scalar(value.to_string(), true),
            Json::String(value) => scalar(value.clone(), false),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(entries) => {
                let entry = |(key, value): (&String, &Json)| (At { at, value: key.clone() }, Self::from_json(value));
                Value::Map(entries.iter().map(entry).collect())
            }
        };
        Self { at, value }
    }

    /// Whether it is YAML's null: a key with nothing behind it, or one of null's names.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What it is, for an error that says what was found.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing".into(),
            Value::Scalar { text, .. } => quoted(text),
            Value::List(items) if items.is_empty() => "an empty list".into(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}

/// `text` in quotes, cut to a length that fits a line.
pub(super) fn quoted(text: &str) -> String {
    let mut cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

/// A tree being built: the collections not yet ended, outermost first.
struct Tree {
    open: Vec<Open>,
    root: Option<Node>,
}

struct Open {
    node: Node,
    key: Option<At<String>>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let at = position(&span.start);
        let refuse = |found: &str, expected| Err(SyntaxError { at, found: found.into(), expected });
        match event {
            Event::Alias(_) => refuse("an alias", "the value itself"),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                refuse("an anchor", "a value without one")
            }
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                refuse("a tag", "a value without one")
            }
            Event::DocumentStart(_) if self.root.is_some() => refuse("a second document", "one document"),
            Event::Scalar(text, style, _, _) => self.scalar(at, text.into_owned(), style == ScalarStyle::Plain),
            Event::SequenceStart(..) => self.begin(Node { at, value: Value::List(Vec::new()) }),
            Event::MappingStart(..) => self.begin(Node { at, value: Value::Map(Vec::new()) }),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { node, .. }) = self.open.pop() {
                    self.place(node);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, at: Position, text: String, plain: bool) -> Result<(), SyntaxError> {
        if let Some(Open { node: Node { value: Value::Map(_), .. }, key: key @ None }) = self.open.last_mut() {
            *key = Some(At { at, value: text });
        } else {
            self.place(Node { at, value: Value::Scalar { text, plain } });
        }
        Ok(())
    }

    fn begin(&mut self, node: Node) -> Result<(), SyntaxError> {
        let at = node.at;
        if matches!(self.open.last(), Some(Open { node: Node { value: Value::Map(_), .. }, key: None })) {
            return Err(SyntaxError { at, found: "a collection for a key".into(), expected: "a word" });
        }
        if self.open.len() == DEPTH {
            return Err(SyntaxError { at, found: "deeper nesting".into(), expected: "at most 16 levels" });
        }
        self.open.push(Open { node, key: None });
        Ok(())
    }

    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { node: Node { value: Value::List(items), .. }, .. }) => items.push(node),
            Some(Open { node: Node { value: Value::Map(entries), .. }, key }) => {
                if let Some(key) = key.take() {
                    entries.push((key, node));
                }
            }
            // Only collections are ever open.
            Some(Open { node: Node { value: Value::Scalar { .. }, .. }, .. }) => {}
        }
    }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}
