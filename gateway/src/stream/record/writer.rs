//! The writer's thread: takes what has come, writes it in one go, and waits for more.

use super::{AccessLog, Letter, Record, line};
use crate::metrics::CoreMetrics;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

/// Lines are gathered up to so many bytes.
const BATCH: usize = 64 * 1024;
/// How often it is checked whether the file is still where it was.
const CHECK: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    Stdout,
    File { path: PathBuf, file: File, checked: Instant },
}

impl Sink {
    pub(super) fn open(log: &AccessLog) -> io::Result<Self> {
        match log {
            AccessLog::Stdout => Ok(Self::Stdout),
            AccessLog::File(path) => {
                Ok(Self::File { path: path.clone(), file: append_to(path)?, checked: Instant::now() })
            }
        }
    }

    fn write(&mut self, lines: &[u8], now: Instant) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::File { path, file, checked } => {
                if now.saturating_duration_since(*checked) >= CHECK {
                    *checked = now;
                    // Moved away by whoever rotates logs, mostly.
                    if !is_at(file, path) {
                        *file = append_to(path)?;
                    }
                }
                file.write_all(lines)
            }
        }
    }
}

/// Writes records until the end is told, or nobody can send any more.
pub(super) fn write_all(letters: &Receiver<Letter>, mut sink: Sink, counters: &CoreMetrics) {
    let mut lines = Vec::new();
    let (mut failing, mut ended) = (false, false);
    while !ended {
        let Ok(Letter::Record(record)) = letters.recv() else { return };
        let mut count = gather(&record, &mut lines);
        while lines.len() < BATCH && !ended {
            match letters.try_recv() {
                Ok(Letter::Record(record)) => count += gather(&record, &mut lines),
                Ok(Letter::End) => ended = true,
                Err(_) => break,
            }
        }
        let result = sink.write(&lines, Instant::now());
        lines.clear();
        if let Err(error) = &result {
            counters.access_records_dropped.add(count);
            // Once, until it works again: a full disk fails every time.
            if !failing {
                tracing::error!(%error, "cannot write access records; they are dropped and counted");
            }
        }
        failing = result.is_err();
    }
}

fn gather(record: &Record, lines: &mut Vec<u8>) -> u64 {
    let begin = lines.len();
    match line::append(record, lines) {
        Ok(()) => 1,
        Err(_) => {
            // Numbers and texts always have a JSON form; half a line must not stay in any case.
            lines.truncate(begin);
            0
        }
    }
}

/// Readable by the owner and its group only: records name clients.
fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let mut sink = Sink::open(&AccessLog::File(path.clone())).unwrap();
        let now = Instant::now();
        sink.write(b"one\n", now).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        sink.write(b"two\n", now + CHECK * 2).unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }
}
