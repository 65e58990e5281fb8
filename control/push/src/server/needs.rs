//! ● The term that it takes for gateways to take what is made here.
//!
//! Gateways take nothing that is older than what they have. Where tables of a later term are about, and nobody here knows of that term
//! any more (the Lease was deleted, say), they would take nothing for ever.

use crate::Position;

/// What a gateway that has `has` needs, if that is more than what there is: `newest` made in the term `leads`; `None`: another control
/// leads.
pub(super) fn term(has: &Position, leads: Option<u64>, newest: &Position) -> Option<u64> {
    let is_ours = leads.is_some_and(|leads| {
        let is_known = has.version < newest.version || has.version == newest.version && has.digest == newest.digest;
        has.term < leads || has.term == leads && is_known
    });
    if is_ours { None } else { has.term.checked_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use isthmus_control_api::{ServicePort, Table};
    use std::sync::Arc;

    fn at(term: u64, version: u64) -> Position {
        Position { term, version, digest: Digest::default() }
    }

    #[test]
    fn tables_of_before_need_nothing() {
        for has in [at(4, 100), at(5, 6), at(5, 7)] {
            assert_eq!(term(&has, Some(5), &at(5, 7)), None, "{has}");
        }
    }

    #[test]
    fn a_later_table_needs_a_later_term() {
        assert_eq!(term(&at(6, 1), Some(5), &at(5, 7)), Some(7));
        assert_eq!(term(&at(5, 8), Some(5), &at(5, 7)), Some(6), "two leaders have had the same term");
        let exports = [(ServicePort::tcp("shop/api".parse().unwrap(), 80), Arc::default())].into();
        let digest = Digest::of(&Table { exports, ..Table::default() });
        assert_eq!(term(&Position { digest, ..at(5, 7) }, Some(5), &at(5, 7)), Some(6), "the same name, another table");
    }

    #[test]
    fn who_stands_by_takes_the_next_term_and_needs_no_more_than_that() {
        assert_eq!(term(&at(5, 7), None, &at(0, 7)), Some(6));
        assert_eq!(term(&at(u64::MAX, 7), None, &at(0, 7)), None);
    }
}
