//! Keeps the newest table on disk, off the runtime's thread, never more than twice a second and never for more than a tenth of the time:
//! what a hundred peers say is tens of megabytes.

use crate::{
    exchange::Summaries,
    store::{Kept, Store},
};
use isthmus_control_api::{ClusterName, Table};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Between two writes, at least; and so many times as long as the last one took.
const PACE: Duration = Duration::from_millis(500);
const TIMES: u32 = 9;
/// But no longer than this.
const LONGEST: Duration = Duration::from_secs(30);

/// What is to be kept: shared with who published it until it is written.
#[derive(Debug, Clone, Default)]
pub struct Newest {
    /// The term in which the table was made.
    pub term: u64,
    /// The table.
    pub table: Arc<Table>,
    /// What each linked cluster last said that it exports.
    pub peers: BTreeMap<ClusterName, Arc<Summaries>>,
}

/// Says what is newest, if it is not what was said before.
pub fn note(to: &watch::Sender<Newest>, next: Newest) {
    to.send_if_modified(|newest| {
        let same = newest.term == next.term && newest.table.version == next.table.version;
        let differs = !same || newest.peers != next.peers;
        *newest = next;
        differs
    });
}

/// Writes what is newest whenever it changes, until its sender is gone and the last is written. Does not dawdle after `shutdown`.
pub async fn keep(store: Store, mut newest: watch::Receiver<Newest>, shutdown: CancellationToken) {
    let mut failing = false;
    newest.mark_changed();
    while newest.changed().await.is_ok() {
        let Newest { term, table, peers } = newest.borrow_and_update().clone();
        let (store, began) = (store.clone(), Instant::now());
        let write = move || store.save(&Kept { term, table: (*table).clone(), peers });
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => failing = false,
            Ok(Err(error)) if !failing => {
                warn!(%error, "the table cannot be kept for the next start");
                failing = true;
            }
            _ => {}
        }
        tokio::select! {
            () = sleep(pause(began.elapsed())) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// After a write that took so long.
fn pause(took: Duration) -> Duration {
    took.saturating_mul(TIMES).clamp(PACE, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_for_a_tenth_of_the_time_at_most_and_does_not_dawdle_for_ever() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(1)), ms(500));
        assert_eq!(pause(ms(200)), ms(1800));
        assert_eq!(pause(Duration::from_mins(5)), Duration::from_secs(30));
    }
}
