//! ● What the answers of one endpoint come to.

use isthmus_control_api::HealthCheck;

/// Whether an endpoint is well, as far as checks have shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CheckState {
    /// Neither so often as to be sure: streams are sent there.
    #[default]
    Unknown,
    /// It is well.
    Up,
    /// It is not, and is left out.
    Down,
}

impl CheckState {
    /// A word for status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The state, and the answers in a row that speak against it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Verdict {
    state: CheckState,
    against: u32,
}

impl Verdict {
    pub(super) fn state(self) -> CheckState {
        self.state
    }

    /// One more answer; whether the state has changed. The first good one of an endpoint that is not known says enough.
    pub(super) fn note(&mut self, well: bool, check: &HealthCheck) -> bool {
        let (other, needed) = match (self.state, well) {
            (CheckState::Up, true) | (CheckState::Down, false) => {
                self.against = 0;
                return false;
            }
            (CheckState::Unknown, true) => (CheckState::Up, 1),
            (CheckState::Down, true) => (CheckState::Up, check.healthy),
            (CheckState::Unknown | CheckState::Up, false) => (CheckState::Down, check.unhealthy),
        };
        self.against += 1;
        if self.against < needed {
            return false;
        }
        *self = Self { state: other, against: 0 };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::Probe;
    use proptest::prelude::*;
    use std::time::Duration;

    fn check(healthy: u32, unhealthy: u32) -> HealthCheck {
        let second = Duration::from_secs(1);
        HealthCheck { probe: Probe::Tcp, interval: second, timeout: second, healthy, unhealthy }
    }

    #[test]
    fn what_is_new_is_up_at_once_and_down_after_failures() {
        let mut new = Verdict::default();
        assert!(new.note(true, &check(5, 5)));
        assert_eq!(new.state(), CheckState::Up);
        let mut new = Verdict::default();
        let states = [false, false, false].map(|well| {
            new.note(well, &check(5, 3));
            new.state()
        });
        assert_eq!(states, [CheckState::Unknown, CheckState::Unknown, CheckState::Down]);
    }

    proptest! {
        /// By a naive model: the state turns when, and only when, the last answers that it takes are all against it.
        #[test]
        fn it_takes_as_many_in_a_row_as_are_asked_for(
            healthy in 1u32..5, unhealthy in 1u32..5, answers in prop::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut verdict = Verdict::default();
            let mut since = 0;
            for end in 1..=answers.len() {
                let before = verdict.state();
                let changed = verdict.note(answers[end - 1], &check(healthy, unhealthy));
                let (well, needed) = match before {
                    CheckState::Unknown if answers[end - 1] => (true, 1),
                    CheckState::Unknown | CheckState::Up => (false, unhealthy),
                    CheckState::Down => (true, healthy),
                };
                let row = answers[since..end].iter().rev().take_while(|&&answer| answer == well).count();
                prop_assert_eq!(changed, row >= needed as usize, "{:?} after {:?}", before, &answers[since..end]);
                if changed {
                    prop_assert_ne!(before, verdict.state());
                    since = end;
                }
            }
        }
    }
}
