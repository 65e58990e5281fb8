//! Replays the fuzz corpus on stable Rust: what a fuzzer once found stays found. fuzz/explore explores.

use isthmus_control::{Config, exchange::decode};
use std::path::Path;

/// Calls `check` with every file of a target's corpus. An empty corpus is a mistake of the checkout.
fn replay(target: &str, check: impl Fn(&str, &[u8])) -> std::io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        check(&entry.file_name().to_string_lossy(), &std::fs::read(entry.path())?);
        count += 1;
    }
    assert!(count > 0);
    Ok(())
}

/// Named by hand, an input's name says what comes of it. Those that an exploration found have other names, and only must not panic.
fn check(name: &str, is_ok: bool, error: Option<&str>) {
    let expected = name.starts_with("good-") || is_ok && !name.starts_with("bad-");
    assert_eq!(is_ok, expected, "{name}: {error:?}");
}

#[test]
fn configurations() -> std::io::Result<()> {
    replay("config", |name, bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let parsed = Config::parse(text, Path::new("corpus.yaml"));
        check(name, parsed.is_ok(), parsed.err().map(|e| e.to_string()).as_deref());
    })
}

#[test]
fn exchange_frames() -> std::io::Result<()> {
    replay("exchange", |name, bytes| {
        let decoded = decode(bytes);
        check(name, decoded.is_ok(), decoded.as_ref().err().map(ToString::to_string).as_deref());
        if let Ok(message) = decoded {
            assert_eq!(decode(&message.encode()), Ok(message), "{name}");
        }
    })
}
