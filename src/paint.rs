//! Colour, where it is wanted.

use std::{env, io::IsTerminal};

/// Adds colours, or leaves the text as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours for a terminal, unless `NO_COLOR` or `TERM=dumb` asks for none.
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { on: stream.is_terminal() && !refused && !dumb }
    }

    /// For headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// For what matters less.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// For what is going on.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// For what is well.
    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("1;32", text)
    }

    /// For what is not.
    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_get_no_colours() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Paint::of(&file).red("x"), "x");
        assert_eq!(Paint { on: true }.red("x"), "\x1b[1;31mx\x1b[0m");
    }
}
