//! Rust's types out of `programs/shared.h`: structures of fixed-size fields, and enumerations of numbers from 0.

use std::fmt::Write;

/// The header as Rust's source.
///
/// # Errors
/// A line is none of those that the header may have.
pub(crate) fn rust(header: &str) -> Result<String, String> {
    let mut source = String::new();
    let mut place = Place::Outside;
    let mut about: Vec<&str> = Vec::new();
    for (number, line) in (1..).zip(header.lines()) {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("//") {
            about.push(comment.trim());
            continue;
        }
        if line.is_empty() {
            about.clear();
            continue;
        }
        let said = about.drain(..).fold(String::new(), |said, line| said + "/// " + line + "\n");
        let made = item(line, &mut place).ok_or_else(|| format!("programs/shared.h:{number}: {line:?}"))?;
        source += &(said + &made);
    }
    Ok(source)
}

enum Place {
    Outside,
    Struct,
    /// And the number of the next name.
    Enum(u32),
}

fn item(line: &str, place: &mut Place) -> Option<String> {
    if line == "};" {
        let end = if matches!(place, Place::Struct) { "}\n" } else { "" };
        *place = Place::Outside;
        return Some(end.into());
    }
    match place {
        Place::Outside => match line.strip_suffix(" {")?.split_once(' ')? {
            ("struct", name) => {
                *place = Place::Struct;
                Some(format!(
                    "#[repr(C)]\n#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]\npub(crate) struct {} {{\n",
                    camel(name)
                ))
            }
            ("enum", _) => {
                *place = Place::Enum(0);
                Some(String::new())
            }
            _ => None,
        },
        Place::Struct => field(line),
        Place::Enum(next) => {
            let made = format!("pub(crate) const {}: u32 = {next};\n", line.strip_suffix(',')?);
            *next += 1;
            Some(made)
        }
    }
}

fn field(line: &str) -> Option<String> {
    let line = line.strip_suffix(';')?;
    let (kind, name) = line.rsplit_once(' ')?;
    let kind = match kind {
        "__u16" => "u16".into(),
        "__u32" => "u32".into(),
        "__u64" => "u64".into(),
        _ => camel(kind.strip_prefix("struct ")?),
    };
    let mut field = String::new();
    match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((name, length)) => writeln!(field, "pub(crate) {name}: [{kind}; {length}],"),
        None => writeln!(field, "pub(crate) {name}: {kind},"),
    }
    .ok()?;
    Some(field)
}

fn camel(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}
