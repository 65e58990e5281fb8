//! Keeps the newest table on disk, off the runtime's thread, never more than twice a second, and less often where writing it takes long: what a
//! hundred peers say takes some tenths of a second to write.

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
const TIMES: u32 = 4;
/// But no longer than this: what is kept says who may do what, and whoever is killed starts by what was kept last.
const LONGEST: Duration = Duration::from_secs(5);

/// What is to be kept: shared with who published it until it is written.
#[derive(Debug, Clone, Default)]
pub struct Newest {
    /// The term in which the table was made; 0: nothing was said yet, and what was kept before stays.
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
        if term == 0 {
            continue;
        }
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
    use tokio::task::JoinSet;

    #[test]
    fn it_writes_for_a_fifth_of_the_time_and_every_few_seconds_however_long_that_takes() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(1)), ms(500));
        assert_eq!(pause(ms(200)), ms(800));
        assert_eq!(pause(Duration::from_mins(5)), Duration::from_secs(5));
    }

    /// A control that ends before its registry has said anything leaves what was kept, and one that has said something keeps the last of it.
    #[tokio::test(start_paused = true)]
    async fn what_was_kept_stays_until_something_was_said_and_the_last_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().to_owned());
        let before = Kept { term: 7, ..Kept::default() };
        store.save(&before).unwrap();
        let said = |term| Newest { term, ..Newest::default() };

        let (to, newest) = watch::channel(Newest::default());
        drop(to);
        keep(store.clone(), newest, CancellationToken::new()).await;
        assert_eq!(store.load().unwrap(), Some(before));

        let (to, newest) = watch::channel(said(8));
        let stop = CancellationToken::new();
        let mut keeping = JoinSet::new();
        keeping.spawn(keep(store.clone(), newest, stop.clone()));
        for term in 9..40 {
            note(&to, said(term));
            sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        drop(to);
        keeping.join_all().await;
        assert_eq!(store.load().unwrap().map(|kept| kept.term), Some(39));
    }
}
