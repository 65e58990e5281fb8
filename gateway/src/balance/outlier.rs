//! ● How many endpoints may be ejected at once.
//!
//! Ejecting sends a bad endpoint's share to the others. When many fail together, the likelier cause is this gateway's own network
//! or overload, and fewer endpoints would make it worse: half of them stay in whatever they do, and one always.

/// How many of `endpoints` may be ejected at the same time: half, rounded up, but never all.
pub fn most_ejected(endpoints: usize) -> usize {
    endpoints.div_ceil(2).min(endpoints.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::most_ejected;

    #[test]
    fn half_rounded_up_but_never_all() {
        assert_eq!([0, 1, 2, 3, 4, 5, 100].map(most_ejected), [0, 0, 1, 2, 2, 3, 50]);
    }
}
