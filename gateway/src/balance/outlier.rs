//! ● How many endpoints may be ejected at once, and which are much slower than the others.
//!
//! Ejecting sends a bad endpoint's share to the others. When many fail together, the likelier cause is this gateway's own network
//! or overload, and fewer endpoints would make it worse: half of them stay in whatever they do, if nothing else is said, and one always.

/// Differences below it, in seconds, are no reason to leave an endpoint out.
const LEAST: f64 = 0.010;
/// How many times in a row an endpoint has to be found slow.
const TIMES: u8 = 3;

/// How many of `endpoints` may be ejected at the same time: so many percent, rounded up, but never all.
pub fn most_ejected(endpoints: usize, percent: u32) -> usize {
    let percent = usize::try_from(percent.min(100)).unwrap_or(100);
    (endpoints.saturating_mul(percent)).div_ceil(100).min(endpoints.saturating_sub(1))
}

/// How often in a row an endpoint was found slow.
#[derive(Debug, Default, Clone, Copy)]
pub struct Slowness(u8);

impl Slowness {
    /// One more look: whether it has been slow for long enough, and is to be left out. Then it begins again.
    pub fn look(&mut self, seconds: f64, bound: f64) -> bool {
        self.0 = if seconds > bound { self.0 + 1 } else { 0 };
        let enough = self.0 >= TIMES;
        if enough {
            self.0 = 0;
        }
        enough
    }
}

/// Above how many seconds an endpoint is much slower than the others, whose `seconds` these are, in any order; `None` while there are
/// too few to say. It sorts them.
pub fn bound(seconds: &mut [f64], slower_than: u32) -> Option<f64> {
    if seconds.len() < 3 {
        return None;
    }
    let middle = seconds.len() / 2;
    let (_, median, _) = seconds.select_nth_unstable_by(middle, f64::total_cmp);
    Some((*median * f64::from(slower_than)).max(*median + LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_rounded_up_but_never_all() {
        assert_eq!([0, 1, 2, 3, 4, 5, 100].map(|n| most_ejected(n, 50)), [0, 0, 1, 2, 2, 3, 50]);
        assert_eq!([0, 1, 2, 10].map(|n| most_ejected(n, 100)), [0, 0, 1, 9]);
        assert_eq!([1, 2, 10].map(|n| most_ejected(n, 0)), [0, 0, 0]);
    }

    #[test]
    fn slow_is_what_takes_several_times_the_median_and_more_than_noise() {
        assert_eq!(bound(&mut [0.1, 0.005], 10), None);
        assert_eq!(bound(&mut [0.1, 0.005, 0.005], 10), Some(0.05));
        assert_eq!(bound(&mut [0.001, 0.0, 0.0], 10), Some(LEAST));
        let mut slowness = Slowness::default();
        assert_eq!(
            [0.1, 0.1, 0.01, 0.1, 0.1, 0.1, 0.1].map(|s| slowness.look(s, 0.05)),
            [false, false, false, false, false, true, false]
        );
    }
}
