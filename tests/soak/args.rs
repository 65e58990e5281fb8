//! The command line.

use std::{fmt, str::FromStr};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// Seconds of load, 10 to 86,400.
    pub(crate) seconds: u64,
    /// Clients at once, 1 to 512.
    pub(crate) clients: u64,
    /// Of the dice: the same one gives each client the same streams, though not at the same times.
    pub(crate) seed: u64,
}

impl Args {
    /// Of the words behind the program's name.
    ///
    /// # Errors
    /// What is wrong, and what was expected.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut args = Self { seconds: 600, clients: 32, seed: 1 };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let value = words.next();
            match word.as_str() {
                "--seconds" => args.seconds = number(&word, value, 10, 86_400)?,
                "--clients" => args.clients = number(&word, value, 1, 512)?,
                "--seed" => args.seed = number(&word, value, 0, u64::MAX / 2)?,
                _ => return Err(format!("found {word}, expected --seconds N, --clients N or --seed N")),
            }
        }
        Ok(args)
    }
}

fn number(name: &str, value: Option<String>, least: u64, most: u64) -> Result<u64, String> {
    let value = value.unwrap_or_default();
    let found = u64::from_str(&value).ok().filter(|found| (least..=most).contains(found));
    found.ok_or_else(|| format!("{name}: found '{value}', expected a number from {least} to {most}"))
}

impl fmt::Display for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, clients, seed } = self;
        write!(f, "{seconds} s, {clients} clients, seed {seed}")
    }
}
