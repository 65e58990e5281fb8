//! Whether an output is the stated one.

/// Whether `output` is what `stated` says: line by line, where a line `...` is any number of lines and `…` within a line any text.
/// How many spaces are between words, and empty lines, do not count.
pub(super) fn shows(output: &str, stated: &str) -> bool {
    let [output, stated] = [output, stated].map(lines);
    sequence(&output, &stated, |pattern| pattern == "...", |line, pattern| glob(line, pattern))
}

fn lines(text: &str) -> Vec<String> {
    let squeezed = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    squeezed.filter(|line| !line.is_empty()).collect()
}

fn glob(line: &str, pattern: &str) -> bool {
    let [line, pattern] = [line, pattern].map(|text| text.chars().collect::<Vec<_>>());
    sequence(&line, &pattern, |c| *c == '…', |found, stated| found == stated)
}

/// Whether `found` matches `stated`, in which whatever `is_any` matches any number of elements. The latest of these is the only one
/// that has ever to be looked at again.
fn sequence<T>(found: &[T], stated: &[T], is_any: impl Fn(&T) -> bool, same: impl Fn(&T, &T) -> bool) -> bool {
    let (mut at, mut pattern) = (0, 0);
    let mut latest = None;
    while at < found.len() {
        if stated.get(pattern).is_some_and(&is_any) {
            latest = Some((at, pattern));
            pattern += 1;
        } else if stated.get(pattern).is_some_and(|stated| same(&found[at], stated)) {
            (at, pattern) = (at + 1, pattern + 1);
        } else if let Some((from, any)) = latest {
            latest = Some((from + 1, any));
            (at, pattern) = (from + 1, any + 1);
        } else {
            return false;
        }
    }
    stated[pattern..].iter().all(is_any)
}

#[cfg(test)]
mod tests {
    use super::shows;

    #[test]
    fn spaces_and_empty_lines_do_not_count() {
        assert!(shows("a   b\n\n c\n", "a b\nc"));
        assert!(!shows("a b\nc\n", "a\nb c"));
        assert!(shows("", "\n"));
    }

    #[test]
    fn what_is_not_stated_must_not_be_there() {
        assert!(!shows("a\nb\n", "a"));
        assert!(!shows("a\n", "a\nb"));
        assert!(!shows("", "a"));
        assert!(!shows("a longer line\n", "a longer"));
    }

    #[test]
    fn three_dots_are_any_lines() {
        for output in ["first\nlast", "first\na\nb\nlast", "first\nlast\nlast"] {
            assert!(shows(output, "first\n...\nlast"), "{output}");
        }
        assert!(!shows("first\na", "first\n...\nlast"));
        assert!(shows("a\nb\nc\nb\nd", "...\nb\n...\nd\n..."));
        assert!(!shows("a\nd\nb", "...\nb\n...\nd\n..."));
    }

    #[test]
    fn an_ellipsis_is_any_text_of_a_line() {
        assert!(shows("tls, dialled, 0.3 ms", "tls, dialled, … ms"));
        assert!(shows("ab ab abc", "…abc"));
        assert!(shows("east up tls", "east … tls…"));
        assert!(!shows("one\ntwo", "one … two"));
        assert!(!shows("tls, dialled, 0.3 s", "tls, dialled, … ms"));
    }
}
