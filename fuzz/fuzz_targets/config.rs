//! Any text: a configuration, or errors with places, never a panic.
#![no_main]

use isthmus_control::Config;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Config::parse(text, Path::new("fuzz.yaml"));
    }
});
