//! ● The newest table, and which entries were touched on the way there: so that a gateway that was away is told what it missed.

use crate::{
    change::{Change, Touched, entries},
    digest::Digest,
    feed::Position,
};
use isthmus_control_api::Table;
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// Versions that are remembered.
const STEPS: usize = 1024;
/// Touched entries of all these versions together.
const TOUCHED: usize = 100_000;

/// Remembers keys, not values: what an entry was in between is nobody's business.
#[derive(Debug)]
pub(crate) struct History {
    newest: Arc<Table>,
    position: Position,
    /// Oldest first.
    steps: VecDeque<Step>,
    touched: usize,
}

/// From one version to the next.
#[derive(Debug)]
struct Step {
    from: Digest,
    touched: Touched,
    published: Instant,
}

/// What leads to the newest table.
#[derive(Debug)]
pub(crate) struct Update {
    /// What has to be there; `None`: nothing, this is a whole table.
    pub from: Option<Digest>,
    /// What comes of it.
    pub to: Position,
    /// The entries.
    pub change: Change,
    /// When the oldest change in it was published; `None` of a whole table, or of what says the same.
    pub since: Option<Instant>,
}

impl History {
    /// One that begins with `table`, of the term `term`.
    pub(crate) fn new(table: Arc<Table>, term: u64) -> Self {
        let position = Position { term, version: table.version, digest: Digest::of(&table) };
        Self { newest: table, position, steps: VecDeque::new(), touched: 0 }
    }

    /// Takes a new table, published at `now`.
    pub(crate) fn publish(&mut self, table: Arc<Table>, now: Instant) {
        let touched = Touched::between(&self.newest, &table);
        let from = self.position.digest;
        let digest = from.after(&self.newest, &Change::to(&table, touched.clone()));
        self.position = Position { version: table.version, digest, ..self.position };
        self.newest = table;
        if touched.len() > 0 {
            self.touched += touched.len();
            self.steps.push_back(Step { from, touched, published: now });
        }
        while self.steps.len() > STEPS || self.touched > TOUCHED {
            self.touched -= self.steps.pop_front().map_or(0, |step| step.touched.len());
        }
    }

    /// The same tables belong to another term from now on.
    pub(crate) fn set_term(&mut self, term: u64) {
        self.position.term = term;
    }

    /// Which table is the newest.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The newest table.
    pub(crate) fn newest(&self) -> &Arc<Table> {
        &self.newest
    }

    /// What brings one that has `has` up to date: a delta, if what it has is remembered and that is less than the whole.
    pub(crate) fn update(&self, has: Option<Digest>) -> Update {
        has.and_then(|from| self.delta(from)).unwrap_or_else(|| Update {
            from: None,
            to: self.position,
            change: Change::whole(&self.newest),
            since: None,
        })
    }

    fn delta(&self, from: Digest) -> Option<Update> {
        let (mut touched, mut since) = (Touched::default(), None);
        if from != self.position.digest {
            // The latest of several moments at which the table said that.
            let at = self.steps.iter().rposition(|step| step.from == from)?;
            self.steps.range(at..).for_each(|step| touched.merge(&step.touched));
            since = self.steps.get(at).map(|step| step.published);
        }
        if touched.len() >= entries(&self.newest) {
            return None;
        }
        Some(Update { from: Some(from), to: self.position, change: Change::to(&self.newest, touched), since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::tests::tables;
    use isthmus_control_api::ServicePort;
    use proptest::prelude::*;

    proptest! {
        /// From wherever it comes, a gateway gets to the newest table; a delta never says more than the whole would.
        #[test]
        fn any_version_leads_to_the_newest(all in prop::collection::vec(tables(), 1..8)) {
            let now = Instant::now();
            let mut history = History::new(Arc::new(all[0].clone()), 1);
            for (version, table) in (1..).zip(&all[1..]) {
                history.publish(Arc::new(Table { version, ..table.clone() }), now);
            }
            let newest = history.newest().clone();
            prop_assert_eq!(history.position().digest, Digest::of(&newest));
            for table in &all {
                let update = history.update(Some(Digest::of(table)));
                prop_assert!(update.change.len() <= entries(&newest));
                let base = if update.from.is_some() { table } else { &Table::default() };
                prop_assert_eq!(&update.change.apply(base, newest.version), &*newest);
            }
            let update = history.update(None);
            prop_assert_eq!(&update.change.apply(&Table::default(), newest.version), &*newest);
        }
    }

    fn with_exports(version: u64, count: u64) -> Arc<Table> {
        let export = |n: u64| (ServicePort::tcp(format!("shop/s{n}").parse().unwrap(), 80), Arc::default());
        Arc::new(Table { version, exports: (0..count).map(export).collect(), ..Table::default() })
    }

    #[test]
    fn a_delta_is_as_large_as_the_change() {
        let mut history = History::new(with_exports(1, 100), 1);
        let old = history.position();
        history.publish(with_exports(2, 101), Instant::now());
        let update = history.update(Some(old.digest));
        assert_eq!((update.from, update.change.len()), (Some(old.digest), 1));
        assert!(update.since.is_some());
        let same = history.update(Some(history.position().digest));
        assert!(same.from.is_some() && same.change.len() == 0 && same.since.is_none());
    }

    #[test]
    fn what_is_too_long_ago_is_forgotten_and_a_whole_table_it_is() {
        let mut history = History::new(with_exports(1, 100), 1);
        let first = history.position().digest;
        for version in 2..=STEPS as u64 + 2 {
            history.publish(with_exports(version, 100 + version % 2), Instant::now());
        }
        assert_eq!(history.steps.len(), STEPS);
        // The table said the same again, later.
        assert!(history.update(Some(first)).from.is_some());
        history.publish(with_exports(5000, 200), Instant::now());
        history.publish(with_exports(5001, 0), Instant::now());
        assert!(history.update(Some(Digest::of(&with_exports(0, 150)))).from.is_none());
        assert!(history.touched <= TOUCHED);
    }

    #[test]
    fn more_touched_entries_than_there_is_room_for_are_forgotten_too() {
        let mut history = History::new(with_exports(1, 1), 1);
        let first = history.position().digest;
        history.publish(with_exports(2, TOUCHED as u64 + 10), Instant::now());
        assert!(history.steps.is_empty() && history.touched == 0);
        assert!(history.update(Some(first)).from.is_none());
    }
}
