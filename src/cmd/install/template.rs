//! ● As much of Helm's template language as our chart uses, so that chart and command render the same files: values, `if`, `range`, `toJson`
//! and `add`. Anything else is refused: the chart's templates are written so that this is enough.

use serde_json::Value;
use std::fmt::Write as _;

/// What a template refers to: `$.Values.…`, `$.Release.Namespace`.
pub(super) struct Context<'a> {
    pub(super) root: &'a Value,
}

/// A template that is not one. Users see it only if ours are wrong: a test renders them all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: found {found:?}, expected {expected}")]
pub(super) struct BadTemplate {
    line: usize,
    found: String,
    expected: &'static str,
}

/// A piece of a template.
#[derive(Debug)]
enum Piece<'t> {
    Text(&'t str),
    /// What is between the braces, and the line that it is in.
    Action(&'t str, usize),
}

impl Context<'_> {
    /// Renders `template`.
    ///
    /// # Errors
    /// The first thing in it that is not known here.
    pub(super) fn render(&self, template: &str) -> Result<String, BadTemplate> {
        let pieces = pieces(template)?;
        let (mut out, mut rest) = (String::new(), pieces.as_slice());
        match self.block(&mut rest, None, Some(&mut out))? {
            Some(end) => Err(bad(end, "no end without if or range")),
            None => Ok(out),
        }
    }

    /// Renders up to the `end` or `else` of the block that it is in, which it returns. Without `out` it only skips.
    fn block<'t>(
        &self,
        rest: &mut &[Piece<'t>],
        item: Option<&Value>,
        mut out: Option<&mut String>,
    ) -> Result<Option<(&'t str, usize)>, BadTemplate> {
        while let Some((piece, after)) = rest.split_first() {
            *rest = after;
            let (action, line) = match *piece {
                Piece::Text(text) => {
                    if let Some(out) = out.as_mut() {
                        out.push_str(text);
                    }
                    continue;
                }
                Piece::Action(action, line) => (action, line),
            };
            let (word, argument) = action.split_once(' ').unwrap_or((action, ""));
            match word {
                "end" | "else" => return Ok(Some((action, line))),
                "if" => {
                    let holds = out.is_some() && self.holds(argument, item, line)?;
                    let closing = self.block(rest, item, out.as_deref_mut().filter(|_| holds))?;
                    if closing.is_some_and(|(word, _)| word == "else") {
                        self.closed(rest, item, out.as_deref_mut().filter(|_| !holds), line)?;
                    } else if closing.is_none() {
                        return Err(bad((action, line), "an end for it"));
                    }
                }
                "range" => {
                    let items = match out {
                        Some(_) => self.value(argument, item, line)?.as_array().cloned().unwrap_or_default(),
                        None => Vec::new(),
                    };
                    let body = *rest;
                    for item in &items {
                        *rest = body;
                        self.closed(rest, Some(item), out.as_deref_mut(), line)?;
                    }
                    if items.is_empty() {
                        self.closed(rest, item, None, line)?;
                    }
                }
                _ => {
                    if let Some(out) = out.as_mut() {
                        out.push_str(&self.text(action, item, line)?);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The same for a block that only `end` ends.
    fn closed(
        &self,
        rest: &mut &[Piece<'_>],
        item: Option<&Value>,
        out: Option<&mut String>,
        line: usize,
    ) -> Result<(), BadTemplate> {
        match self.block(rest, item, out)? {
            Some(("end", _)) => Ok(()),
            _ => Err(bad(("if or range", line), "an end for it")),
        }
    }

    fn holds(&self, condition: &str, item: Option<&Value>, line: usize) -> Result<bool, BadTemplate> {
        match condition.strip_prefix("not ") {
            Some(condition) => Ok(!is_true(self.value(condition, item, line)?)),
            None => Ok(is_true(self.value(condition, item, line)?)),
        }
    }

    fn text(&self, action: &str, item: Option<&Value>, line: usize) -> Result<String, BadTemplate> {
        if let Some(path) = action.strip_prefix("toJson ") {
            return Ok(self.value(path, item, line)?.to_string());
        }
        if let Some(sum) = action.strip_prefix("add ") {
            let mut total = 0;
            for term in sum.split_whitespace() {
                let number = match term.parse() {
                    Ok(number) => Some(number),
                    Err(_) => self.value(term, item, line)?.as_i64(),
                };
                total += number.ok_or_else(|| bad((term, line), "a whole number"))?;
            }
            return Ok(total.to_string());
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = match self.value(action, item, line)? {
            Value::String(value) => write!(text, "{value}"),
            value @ (Value::Number(_) | Value::Bool(_)) => write!(text, "{value}"),
            _ => return Err(bad((action, line), "a text, a number, true or false")),
        };
        Ok(text)
    }

    fn value<'v>(&'v self, path: &str, item: Option<&'v Value>, line: usize) -> Result<&'v Value, BadTemplate> {
        if path == "." {
            return item.ok_or_else(|| bad((path, line), "a range around it"));
        }
        let names = path.strip_prefix("$.").ok_or_else(|| bad((path, line), "a path that begins with $."))?;
        let found = names.split('.').try_fold(self.root, |value, name| value.get(name));
        found.ok_or_else(|| bad((path, line), "a value that there is"))
    }
}

/// As templates have it: what is empty is not.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(value) => !value.is_empty(),
        Value::Array(value) => !value.is_empty(),
        Value::Object(value) => !value.is_empty(),
    }
}

/// Takes a template apart. A dash inside the braces takes away the white space on its side.
fn pieces(template: &str) -> Result<Vec<Piece<'_>>, BadTemplate> {
    let (mut pieces, mut rest, mut line) = (Vec::new(), template, 1);
    while let Some((text, after)) = rest.split_once("{{") {
        line += text.matches('\n').count();
        let (action, next) = after.split_once("}}").ok_or_else(|| bad((after, line), "}} after {{"))?;
        let (action, text) = match action.strip_prefix('-') {
            Some(action) => (action, text.trim_end()),
            None => (action, text),
        };
        let (action, next) = match action.strip_suffix('-') {
            Some(action) => (action, next.trim_start()),
            None => (action, next),
        };
        pieces.extend([Piece::Text(text), Piece::Action(action.trim(), line)]);
        rest = next;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

fn bad((found, line): (&str, usize), expected: &'static str) -> BadTemplate {
    BadTemplate { line, found: found.chars().take(40).collect(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str) -> Result<String, String> {
        let root = json!({"Values": {
            "name": "west", "count": 2, "on": true, "off": false, "empty": {}, "none": [], "list": ["a", "b"],
            "map": {"b": 1, "a": "x"}
        }});
        Context { root: &root }.render(template).map_err(|e| e.to_string())
    }

    #[test]
    fn values_stand_where_they_are_named() {
        assert_eq!(render("a: {{ $.Values.name }}\n").unwrap(), "a: west\n");
        assert_eq!(render("{{ $.Values.count }}-{{ add $.Values.count 15 }} {{ $.Values.on }}").unwrap(), "2-17 true");
        assert_eq!(render("{{ toJson $.Values.map }}").unwrap(), r#"{"a":"x","b":1}"#);
    }

    #[test]
    fn blocks_are_there_or_not_and_a_dash_takes_the_line_away() {
        let block = |condition: &str| {
            render(&format!("a\n{{{{- if {condition} }}}}\nb\n{{{{- else }}}}\nc\n{{{{- end }}}}\nd"))
        };
        for (condition, line) in [
            ("$.Values.on", "b"),
            ("not $.Values.on", "c"),
            ("$.Values.off", "c"),
            ("$.Values.empty", "c"),
            ("$.Values.none", "c"),
            ("$.Values.count", "b"),
            ("$.Values.name", "b"),
        ] {
            assert_eq!(block(condition).unwrap(), format!("a\n{line}\nd"), "{condition}");
        }
        assert_eq!(
            render("x{{ range $.Values.list }} {{ . }}/{{ $.Values.name }}{{ end }}!").unwrap(),
            "x a/west b/west!"
        );
        assert_eq!(render("x{{ range $.Values.none }} {{ . }}{{ end }}!").unwrap(), "x!");
        let nested = "{{ if $.Values.off }}{{ range $.Values.list }}{{ if $.Values.on }}a{{ end }}{{ end }}{{ end }}b";
        assert_eq!(render(nested).unwrap(), "b", "what is left out is not looked at");
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line() {
        for (template, error) in [
            ("\n{{ $.Values.nothing }}", "line 2: found \"$.Values.nothing\", expected a value that there is"),
            ("{{ include \"x\" }}", "expected a path that begins with $."),
            ("{{ if $.Values.on }}", "expected an end for it"),
            ("{{ range $.Values.list }}", "expected an end for it"),
            ("{{ end }}", "expected no end without if or range"),
            ("{{ $.Values.list }}", "expected a text, a number, true or false"),
            ("{{ . }}", "expected a range around it"),
            ("{{ $.Values.name", "expected }} after {{"),
            ("{{ add $.Values.name 1 }}", "expected a whole number"),
        ] {
            let found = render(template).unwrap_err();
            assert!(found.contains(error), "{template}: {found}");
        }
    }
}
