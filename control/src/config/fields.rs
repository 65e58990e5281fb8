//! Reads the keys of a mapping, by the schema, and notes everything that is wrong instead of stopping at the first.

use super::{
    error::{At, ConfigError, Position},
    node::{Node, Value, quoted},
    schema::{self, Key, LeftOut},
};
use std::{cell::RefCell, collections::HashMap, hash::Hash, str::FromStr};

/// Everything found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<ConfigError>>);

/// Why a text is not a value: nothing more to say than what was expected, or a remark beside what was found.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Option<&'static str>);

/// The entries of one mapping.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    section: &'static str,
    path: String,
    at: Position,
    entries: &'a [(At<String>, Node)],
    problems: &'a Problems,
}

/// Says which values came twice.
#[derive(Debug)]
pub(super) struct Once<K>(HashMap<K, Position>);

impl Problems {
    pub(super) fn note(&self, at: Position, field: String, found: String, expected: impl Into<String>) {
        self.0.borrow_mut().push(ConfigError { at: Some(at), field, found, expected: expected.into() });
    }

    pub(super) fn into_list(self) -> Vec<ConfigError> {
        self.0.into_inner()
    }
}

/// What `read` makes of `node` alone, which stands at `path` and has the keys of `section`. It is of no file, so that errors have no line.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn alone<T>(
    node: &Node,
    section: &'static str,
    path: &str,
    read: impl FnOnce(&Fields<'_>) -> Option<T>,
) -> Result<T, Vec<ConfigError>> {
    let problems = Problems::default();
    let read = Fields::open(node, section, path.into(), &problems).and_then(|fields| read(&fields));
    let mut errors = problems.into_list();
    errors.iter_mut().for_each(|error| error.at = None);
    match read {
        Some(read) if errors.is_empty() => Ok(read),
        _ => Err(errors),
    }
}

impl<'a> Fields<'a> {
    /// The entries of `node`, which stands at `path` and has the keys of `section`. Unknown and repeated keys are noted.
    pub(super) fn open(node: &'a Node, section: &'static str, path: String, problems: &'a Problems) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            problems.note(node.at, path, node.describe(), "a mapping");
            return None;
        };
        let fields = Self { section, path, at: node.at, entries, problems };
        let mut once = Once::new();
        for (key, _) in entries {
            if !schema::section(section).any(|known| known.name == key.value) {
                fields.unknown(key);
            } else if let Some(first) = once.seen_before(key.value.as_str(), key.at) {
                let found = format!("the key a second time (first on line {})", first.line);
                problems.note(key.at, fields.path_of(&key.value), found, "each key once");
            }
        }
        Some(fields)
    }

    /// The value of a scalar key; its default where it is left out; `None` where it has none, or where it is wrong (and noted).
    pub(super) fn value<T>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, Refused>) -> Option<T> {
        let key = self.key(name);
        let Some(node) = self.node(name) else {
            return match key.left_out {
                LeftOut::Text(text) => parse(text).ok(),
                LeftOut::Rule(_) => None,
                LeftOut::Required => {
                    self.missing(name);
                    None
                }
            };
        };
        self.scalar(node, self.path_of(name), key.takes, parse)
    }

    /// The items of a list key; none where it is left out and may be. Too many and too few are noted.
    pub(super) fn items(&self, name: &'static str, count: std::ops::RangeInclusive<usize>) -> &'a [Node] {
        let Some(node) = self.node(name) else {
            if self.key(name).left_out == LeftOut::Required {
                self.missing(name);
            }
            return &[];
        };
        match &node.value {
            Value::List(items) if count.contains(&items.len()) => items,
            Value::List(items) if !items.is_empty() => {
                self.refuse(node.at, name, format!("a list of {}", items.len()));
                &[]
            }
            _ => {
                self.refuse(node.at, name, node.describe());
                &[]
            }
        }
    }

    /// The items of a list of scalars.
    pub(super) fn scalars<T>(
        &self,
        name: &'static str,
        count: std::ops::RangeInclusive<usize>,
        takes: &str,
        parse: impl Fn(&str) -> Result<T, Refused>,
    ) -> Vec<At<T>> {
        let items = self.items(name, count).iter().enumerate();
        items
            .filter_map(|(index, node)| {
                let value = self.scalar(node, format!("{}[{index}]", self.path_of(name)), takes, &parse)?;
                Some(At { at: node.at, value })
            })
            .collect()
    }

    /// The mappings of a list key, whose keys are those of `section`.
    pub(super) fn mappings(
        &self,
        name: &'static str,
        section: &'static str,
        count: std::ops::RangeInclusive<usize>,
    ) -> impl Iterator<Item = Fields<'a>> {
        let (path, problems) = (self.path_of(name), self.problems);
        let items = self.items(name, count).iter().enumerate();
        items.filter_map(move |(index, node)| Fields::open(node, section, format!("{path}[{index}]"), problems))
    }

    /// An item of a list, which is a mapping whose keys are those of `section`.
    pub(super) fn mapping_in(
        &self,
        name: &'static str,
        (index, node): (usize, &'a Node),
        section: &'static str,
    ) -> Option<Fields<'a>> {
        Fields::open(node, section, format!("{}[{index}]", self.path_of(name)), self.problems)
    }

    /// An item of a list, which is a scalar.
    pub(super) fn scalar_in<T>(
        &self,
        name: &'static str,
        (index, node): (usize, &'a Node),
        takes: &str,
        parse: impl Fn(&str) -> Result<T, Refused>,
    ) -> Option<T> {
        self.scalar(node, format!("{}[{index}]", self.path_of(name)), takes, parse)
    }

    /// The mapping under a key; an empty one where the key is left out.
    pub(super) fn mapping_or_empty(&self, name: &'static str) -> Option<Fields<'a>> {
        self.mapping_of(name, name)
    }

    /// The mapping under a key, whose keys are those of `section`; an empty one where the key is left out.
    pub(super) fn mapping_of(&self, name: &'static str, section: &'static str) -> Option<Fields<'a>> {
        let (path, problems) = (self.path_of(name), self.problems);
        match self.node(name) {
            Some(node) => Fields::open(node, section, path, problems),
            None => Some(Fields { section, path, at: self.at, entries: &[], problems }),
        }
    }

    /// A mapping in which every key is left out.
    pub(super) fn empty(&self, name: &str, section: &'static str) -> Fields<'a> {
        Fields { section, path: self.path_of(name), at: self.at_of(name), entries: &[], problems: self.problems }
    }

    /// Whether a mapping stands under the key.
    pub(super) fn has_mapping(&self, name: &str) -> bool {
        matches!(self.node(name), Some(Node { value: Value::Map(_), .. }))
    }

    /// Notes that what stands at `at` for `name` is wrong.
    pub(super) fn refuse(&self, at: Position, name: &'static str, found: String) {
        self.problems.note(at, self.path_of(name), found, self.key(name).takes);
    }

    /// What a key takes.
    pub(super) fn takes(&self, name: &'static str) -> &'static str {
        self.key(name).takes
    }

    /// Notes that the mapping as a whole is wrong.
    pub(super) fn whole(&self, found: String, expected: &str) {
        self.problems.note(self.at, self.path.clone(), found, expected);
    }

    /// Notes that the value of `name` is wrong, for a reason beyond its own form.
    pub(super) fn conflict(&self, name: &str, found: String, expected: &str) {
        self.problems.note(self.at_of(name), self.path_of(name), found, expected);
    }

    /// Notes that what stands at `at` is wrong, under a path that is no key's own (an item of a list).
    pub(super) fn note(&self, at: Position, name: &str, found: String, expected: &str) {
        self.problems.note(at, self.path_of(name), found, expected);
    }

    /// Where the value of `name` stands, or where the mapping does.
    pub(super) fn at_of(&self, name: &str) -> Position {
        self.node(name).map_or(self.at, |node| node.at)
    }

    /// Whether the key is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// Whether a list stands under the key, and something is in it.
    pub(super) fn has_items(&self, name: &str) -> bool {
        matches!(self.node(name), Some(Node { value: Value::List(items), .. }) if !items.is_empty())
    }

    /// The whole path of one of the keys.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }

    fn scalar<T>(
        &self,
        node: &Node,
        path: String,
        takes: &str,
        parse: impl Fn(&str) -> Result<T, Refused>,
    ) -> Option<T> {
        let text = match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => text,
            _ => {
                self.problems.note(node.at, path, node.describe(), takes);
                return None;
            }
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(Refused(remark)) => {
                let remark = remark.map(|remark| format!(" ({remark})")).unwrap_or_default();
                self.problems.note(node.at, path, node.describe() + &remark, takes);
                None
            }
        }
    }

    fn node(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(key, _)| key.value == name).map(|(_, node)| node)
    }

    fn key(&self, name: &'static str) -> Key {
        let undeclared =
            Key { section: self.section, name, takes: "", left_out: LeftOut::Rule(""), example: "", about: "" };
        let known = schema::section(self.section).find(|key| key.name == name).copied();
        debug_assert!(known.is_some(), "{}.{name} is not in the schema", self.section);
        known.unwrap_or(undeclared)
    }

    /// Notes that a key is not there, unless a misspelt one, noted already, is it.
    fn missing(&self, name: &'static str) {
        if !self.entries.iter().any(|(key, _)| self.hint(&key.value) == Some(name)) {
            self.refuse(self.at, name, "nothing".into());
        }
    }

    fn unknown(&self, key: &At<String>) {
        let names = || schema::section(self.section).map(|known| known.name).collect::<Vec<_>>().join(", ");
        let expected = self.hint(&key.value).map_or_else(|| format!("one of {}", names()), |name| format!("{name:?}"));
        let path = self.path_of(&key.value.chars().take(60).collect::<String>());
        self.problems.note(key.at, path, "an unknown key".into(), expected);
    }

    /// The key that an unknown one was probably meant to be.
    fn hint(&self, found: &str) -> Option<&'static str> {
        // No key is this long, and the distance costs the product of the lengths.
        if found.len() > 40 {
            return None;
        }
        let distance = |known: &str| strsim::osa_distance(&found.to_lowercase(), &known.to_lowercase());
        let nearest = schema::section(self.section).map(|known| known.name).min_by_key(|known| distance(known))?;
        (distance(nearest) <= 1 + nearest.len() / 4).then_some(nearest)
    }
}

impl<K: Hash + Eq> Once<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Where the same value stood before, if it did.
    pub(super) fn seen_before(&mut self, value: K, at: Position) -> Option<Position> {
        use std::collections::hash_map::Entry;
        match self.0.entry(value) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(new) => {
                new.insert(at);
                None
            }
        }
    }
}

/// What was found, where a value is there a second time.
pub(super) fn again(value: impl std::fmt::Display, first: Position) -> String {
    format!("{} a second time (first on line {})", quoted(&value.to_string()), first.line)
}

/// Parses what parses itself.
pub(super) fn parsed<T: FromStr>(text: &str) -> Result<T, Refused> {
    text.parse().map_err(|_| Refused(None))
}
