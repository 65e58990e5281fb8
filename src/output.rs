//! What a command prints: a text for people, or JSON or YAML for scripts, from the same value.

use serde::Serialize;
use std::{
    fmt,
    io::{self, Write},
};

/// `--output`: flatten it into a subcommand's arguments.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Output {
    /// How to print the result
    #[arg(long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

/// The forms of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A text for people
    #[default]
    Table,
    /// One JSON object for scripts
    Json,
    /// The same as YAML
    Yaml,
}

impl Output {
    /// Prints `value` as JSON, as YAML, or as its `Display`.
    ///
    /// # Errors
    /// stdout cannot be written. A reader that has left early (`| head`) is no error.
    pub(crate) fn print<T: Serialize + fmt::Display>(self, value: &T) -> io::Result<()> {
        let text = match self.format {
            Format::Table => value.to_string(),
            Format::Json => serde_json::to_string_pretty(value)?,
            Format::Yaml => serde_saphyr::to_string(value).map_err(io::Error::other)?,
        };
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.trim_end().as_bytes()).and_then(|()| stdout.write_all(b"\n")) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// So many of something: `1 tunnel`, `2 tunnels`.
pub(crate) fn count(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// Rows under headings, each column as wide as its widest cell.
#[derive(Debug, Clone)]
pub(crate) struct Grid<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Grid<N> {
    /// A table of these headings.
    pub(crate) fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned)] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Grid<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let mut grid = Grid::new(["CLUSTER", "STATE"]);
        grid.row(["a-long-name".into(), "up".into()]);
        assert_eq!(grid.to_string(), "CLUSTER      STATE\na-long-name  up\n");
    }
}
