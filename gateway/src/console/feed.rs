//! ● What pages are told: everything at first, then what has changed.

use bytes::Bytes;
use std::{collections::BTreeMap, fmt::Write};

/// Rows as JSON, by name.
type Rows = BTreeMap<String, Box<str>>;

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Feed {
    head: String,
    links: Rows,
    services: Rows,
}

impl Feed {
    /// Takes how things are now, and says what is different: an event `some`, even if that is nothing. Rows that are gone are
    /// null.
    pub(super) fn take(&mut self, head: String, links: Rows, services: Rows) -> Bytes {
        let mut text = String::from("event: some\ndata: {");
        if self.head != head {
            let _ = write!(text, "\"head\":{head},");
        }
        text += "\"links\":{";
        append_changes(&mut text, &self.links, &links);
        text += "},\"services\":{";
        append_changes(&mut text, &self.services, &services);
        text += "}}\n\n";
        *self = Self { head, links, services };
        text.into()
    }

    /// Everything, as an event `all`; `None` before there is anything.
    pub(super) fn all(&self) -> Option<Bytes> {
        if self.head.is_empty() {
            return None;
        }
        let mut text = format!("event: all\ndata: {{\"head\":{},\"links\":{{", self.head);
        append_changes(&mut text, &Rows::new(), &self.links);
        text += "},\"services\":{";
        append_changes(&mut text, &Rows::new(), &self.services);
        text += "}}\n\n";
        Some(text.into())
    }
}

/// An event `detail`. `json` has no line breaks, as JSON that is not made for people has none.
pub(super) fn detail(json: &str) -> Bytes {
    format!("event: detail\ndata: {json}\n\n").into()
}

fn append_changes(text: &mut String, old: &Rows, new: &Rows) {
    let changed = new.iter().filter(|(name, row)| old.get(*name) != Some(row)).map(|(name, row)| (name, &**row));
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name, "null"));
    for (i, (name, row)) in changed.chain(gone).enumerate() {
        let comma = if i == 0 { "" } else { "," };
        // Names are of clusters and services: nothing in them is special in JSON. Writing to a string does not fail.
        let _ = write!(text, "{comma}\"{name}\":{row}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn rows(of: &BTreeMap<String, u8>) -> Rows {
        of.iter().map(|(name, n)| (name.clone(), format!("{{\"n\":{n}}}").into())).collect()
    }

    fn parse(event: &Bytes, kind: &str) -> Value {
        let text = std::str::from_utf8(event).unwrap();
        let data = text.strip_prefix(&format!("event: {kind}\ndata: ")).unwrap().strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        serde_json::from_str(data).unwrap()
    }

    /// As a page does it.
    fn apply(page: &mut Value, some: &Value) {
        if let Some(head) = some.get("head") {
            page["head"] = head.clone();
        }
        for list in ["links", "services"] {
            for (name, row) in some[list].as_object().unwrap() {
                let known = page[list].as_object_mut().unwrap();
                if row.is_null() {
                    known.remove(name)
                } else {
                    known.insert(name.clone(), row.clone())
                };
            }
        }
    }

    proptest! {
        /// A page that heard everything once and then all changes has what one has that comes now.
        #[test]
        fn changes_add_up_to_everything(
            steps in prop::collection::vec((0..3u8, prop::collection::btree_map("[a-c]", 0..3u8, 0..3), prop::collection::btree_map("[a-c]", 0..3u8, 0..3)), 1..8),
        ) {
            let (mut feed, mut page) = (Feed::default(), None::<Value>);
            for (head, links, services) in &steps {
                let some = parse(&feed.take(format!("{{\"n\":{head}}}"), rows(links), rows(services)), "some");
                let all = parse(&feed.all().unwrap(), "all");
                match &mut page {
                    None => page = Some(all),
                    Some(page) => {
                        apply(page, &some);
                        prop_assert_eq!(&*page, &all);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_new_is_short() {
        let (mut feed, links) = (Feed::default(), [("east".to_owned(), "{}".into())]);
        assert!(feed.all().is_none());
        feed.take("{}".into(), links.clone().into(), Rows::new());
        let event = feed.take("{}".into(), links.into(), Rows::new());
        assert_eq!(event, "event: some\ndata: {\"links\":{},\"services\":{}}\n\n");
    }
}
