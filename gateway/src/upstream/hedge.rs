//! ● When an endpoint that does not answer gets company, and what comes of that.
//!
//! ```text
//! 0            patience             patience
//! ├─ first ───────┼─ late ─────────────┼─ late ──────▶ until connecting has had its time
//!                 └─ second ───────────┴─ late ──────▶
//!                                      └─ third ─────▶
//! ```

use std::time::Duration;

/// No endpoint is late before: a busy machine takes as long now and then.
const LEAST: Duration = Duration::from_millis(100);
/// Every endpoint is late after it, however slow it is known to be: with one more try a stream is there within a second.
const MOST: Duration = Duration::from_millis(400);
/// So many times what connecting usually takes is late.
const TIMES: u32 = 3;

/// How long an endpoint is waited for alone. `usual`: what connecting to it takes, where that is known.
pub(super) fn patience(usual: Option<Duration>) -> Duration {
    usual.map_or(LEAST, |usual| usual.saturating_mul(TIMES)).clamp(LEAST, MOST)
}

/// What came of looking for one more endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sought {
    /// It is being connected to.
    Begun,
    /// The retry budget does not allow it now.
    NoBudget,
    /// There is none that was not tried.
    Nobody,
}

/// What becomes of a race.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It goes on with what there is.
    On,
    /// It goes on, and one more is looked for after another [`patience`].
    AskAgain,
    /// It is over.
    Over,
}

/// After one more was `sought`, while `late` endpoints are late, and those are all that there are besides. `elsewhere`: whether another
/// cluster may serve the stream: rather that than wait for those that are late.
pub(super) fn then(sought: Sought, late: usize, elsewhere: bool) -> Then {
    match sought {
        Sought::Begun => Then::On,
        _ if late == 0 => Then::Over,
        Sought::NoBudget => Then::AskAgain,
        Sought::Nobody if elsewhere => Then::Over,
        Sought::Nobody => Then::On,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_endpoint_is_late_after_three_times_what_it_takes_within_bounds() {
        let late = [None, Some(1), Some(50), Some(5000)].map(|usual| patience(usual.map(Duration::from_millis)));
        assert_eq!(late.map(|late| late.as_millis()), [100, 100, 150, 400]);
        assert_eq!(patience(Some(Duration::MAX)), MOST);
    }

    proptest! {
        /// What is under way is given up only where somebody else may serve, and nobody here is left.
        #[test]
        fn nothing_is_given_up_without_need(sought in 0_usize..3, late in 0_usize..6, elsewhere: bool) {
            let sought = [Sought::Begun, Sought::NoBudget, Sought::Nobody][sought];
            let over = then(sought, late, elsewhere) == Then::Over;
            let nobody_left = sought != Sought::Begun && late == 0;
            prop_assert_eq!(over, nobody_left || sought == Sought::Nobody && elsewhere);
        }
    }
}
