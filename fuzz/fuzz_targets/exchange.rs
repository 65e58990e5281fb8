//! Any bytes: a message, or an error. What is a message comes back from its own bytes.
#![no_main]

use isthmus_control::exchange::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode(bytes) {
        assert_eq!(decode(&message.encode()), Ok(message));
    }
});
