//! Waiting for a condition, with a bound that says what did not come true.

use std::time::{Duration, Instant};

/// How long a condition may take. Generous: it bounds a failing test, it measures nothing.
pub const BOUND: Duration = Duration::from_secs(30);

/// How often it is looked at.
pub const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` until it has an answer.
///
/// # Panics
/// If it has none within [`BOUND`]; the message names `what` and the last reason.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(reason) => assert!(Instant::now() < deadline, "not within {BOUND:?}: {what}: {reason}"),
        }
        std::thread::sleep(PAUSE);
    }
}
