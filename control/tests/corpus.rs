//! Replays the fuzz corpus on stable Rust: what a fuzzer once found stays found. fuzz/ explores.

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

#[test]
fn configurations() -> std::io::Result<()> {
    replay("config", |name, bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let parsed = Config::parse(text, Path::new("corpus.yaml"));
        assert_eq!(parsed.is_ok(), name.starts_with("good-"), "{name}: {:?}", parsed.err().map(|e| e.to_string()));
    })
}

#[test]
fn exchange_frames() -> std::io::Result<()> {
    replay("exchange", |name, bytes| {
        let decoded = decode(bytes);
        assert_eq!(decoded.is_ok(), name.starts_with("good-"), "{name}: {decoded:?}");
        if let Ok(message) = decoded {
            assert_eq!(decode(&message.encode()), Ok(message), "{name}");
        }
    })
}
