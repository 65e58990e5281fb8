//! Whose the addresses of pods are: a watch of all pods, for `sources` of the table.
//!
//! ```text
//! pods (watch) ──▶ PodIndex ● ─┐
//! the engine's Desired ────────┴──▶ Desired with the pods' sources
//! ```
//!
//! It stands beside the engine, which plans nothing anew when pods come and go. A watch that fails is tried again; what it said last stays.

mod index;

use crate::error;
use futures_util::StreamExt as _;
use index::PodIndex;
use isthmus_control::registry::Desired;
use isthmus_control_api::{Cidr, Workload};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::watcher::{Config, watcher},
};
use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tracing::{info, warn};

/// The addresses of pods; `None`: they have not been listed yet.
pub(crate) type Sources = Option<Arc<BTreeMap<Cidr, Arc<Workload>>>>;

/// What changes within this time after the first change is told together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Between two attempts: doubled each time, until one works.
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// So long the pods of before a start count while they cannot be listed: an address may be another pod's meanwhile.
const LIST_PATIENCE: Duration = Duration::from_mins(5);
/// A watch is asked for anew after so many seconds.
const WATCH_SECONDS: u32 = 60;

/// Follows all pods until nobody listens.
pub(crate) async fn follow(client: Client, to: watch::Sender<Sources>) {
    let mut events = pin!(watcher(Api::<Pod>::all(client), Config::default().timeout(WATCH_SECONDS)));
    let (mut index, mut failing) = (PodIndex::default(), None::<Duration>);
    let mut tell: Option<Instant> = None;
    while !to.is_closed() {
        let event = match tell {
            None => events.next().await,
            Some(at) => match timeout_at(at, events.next()).await {
                Ok(event) => event,
                Err(_) => {
                    tell = None;
                    publish(&index, &to);
                    continue;
                }
            },
        };
        match event {
            None => return,
            Some(Ok(event)) => {
                if failing.take().is_some() {
                    info!("pods are watched again");
                }
                if index.take(event) && tell.is_none() {
                    tell = Some(Instant::now() + TOGETHER);
                }
            }
            Some(Err(failed)) => {
                let why = error::describe_watch(&failed, "pods", None);
                if failing.is_none() {
                    warn!(%why, "cannot watch pods: whose their addresses are stays as it was known last");
                }
                let pause = failing.map_or(BACKOFF, |pause| (pause * 2).min(BACKOFF_MAX));
                failing = Some(pause);
                sleep(pause).await;
            }
        }
    }
}

fn publish(index: &PodIndex, to: &watch::Sender<Sources>) {
    let (sources, left_out) = index.sources();
    if left_out > 0 {
        warn!(
            left_out,
            most = index::MOST,
            "more pods than are told to gateways: those last by address are unknown to them"
        );
    }
    to.send_if_modified(|told| {
        let changed = told.as_deref() != Some(&sources);
        if changed {
            *told = Some(Arc::new(sources));
        }
        changed
    });
}

/// Adds the pods' sources to what is desired otherwise, until that ends. What the file says of an address counts more. Until pods have
/// been listed, those that the table has stay: a control that starts takes no pod's identity away.
pub(crate) async fn merge(
    mut desired: watch::Receiver<Arc<Desired>>,
    mut sources: watch::Receiver<Sources>,
    to: watch::Sender<Arc<Desired>>,
) {
    let mut is_loaded = false;
    let patience = sleep(LIST_PATIENCE);
    let mut patience = pin!(patience);
    let mut waits = true;
    loop {
        tokio::select! {
            () = &mut patience, if waits => {
                waits = false;
                if sources.borrow().is_none() {
                    warn!("pods could not be listed for {} s: their identities of before end", LIST_PATIENCE.as_secs());
                }
            }
            changed = desired.changed() => match changed {
                // What stands there before the first change stands for nothing.
                Ok(()) => is_loaded = true,
                Err(_) => return,
            },
            Ok(()) = sources.changed() => {}
        }
        if is_loaded {
            let of_pods = sources.borrow_and_update().clone();
            let mut desired = (**desired.borrow_and_update()).clone();
            desired.awaits_sources = waits && of_pods.is_none();
            let stated = std::mem::replace(&mut desired.sources, of_pods.as_deref().cloned().unwrap_or_default());
            desired.sources.extend(stated);
            to.send_replace(Arc::new(desired));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pods_are_beside_what_is_desired_and_the_file_counts_more() {
        let workload = |account: &str| Arc::new(Workload { account: account.parse().unwrap(), pod: None });
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let (desired, inner) = watch::channel(Arc::new(Desired::default()));
        let (pods, of_pods) = watch::channel(Sources::default());
        let (outer, mut all) = watch::channel(Arc::new(Desired::default()));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(merge(inner, of_pods, outer));
        let listed = |of: &[(&str, &str)]| -> Sources {
            Some(Arc::new(of.iter().map(|(address, account)| (cidr(address), workload(account))).collect()))
        };
        pods.send_replace(listed(&[("10.0.0.9", "shop/web")]));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!all.has_changed().unwrap(), "nothing is known yet of what is desired");
        let stated = [(cidr("10.0.0.0/8"), workload("shop/any"))].into();
        desired.send_replace(Arc::new(Desired { sources: stated, ..Desired::default() }));
        all.changed().await.unwrap();
        assert_eq!(all.borrow_and_update().sources.len(), 2);
        let stated = [(cidr("10.0.0.9"), workload("shop/stated"))].into();
        desired.send_replace(Arc::new(Desired { sources: stated, ..Desired::default() }));
        all.changed().await.unwrap();
        assert_eq!(all.borrow_and_update().sources[&cidr("10.0.0.9")].account.as_str(), "shop/stated");
        pods.send_replace(listed(&[]));
        all.changed().await.unwrap();
        assert_eq!((all.borrow().sources.len(), all.borrow().awaits_sources), (1, false));
        drop(desired);
        tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn until_pods_are_listed_there_is_more_to_come() {
        let (desired, inner) = watch::channel(Arc::new(Desired::default()));
        let (pods, of_pods) = watch::channel(Sources::default());
        let (outer, mut all) = watch::channel(Arc::new(Desired::default()));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(merge(inner, of_pods, outer));
        desired.send_replace(Arc::new(Desired::default()));
        all.changed().await.unwrap();
        assert!(all.borrow_and_update().awaits_sources);
        pods.send_replace(Some(Arc::default()));
        all.changed().await.unwrap();
        assert!(!all.borrow().awaits_sources, "a cluster without pods is one that is listed");
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_cannot_be_listed_are_not_waited_for_without_end() {
        let (desired, inner) = watch::channel(Arc::new(Desired::default()));
        let (_pods, of_pods) = watch::channel(Sources::default());
        let (outer, mut all) = watch::channel(Arc::new(Desired::default()));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(merge(inner, of_pods, outer));
        desired.send_replace(Arc::new(Desired::default()));
        all.changed().await.unwrap();
        assert!(all.borrow_and_update().awaits_sources);
        let began = Instant::now();
        all.changed().await.unwrap();
        assert!(!all.borrow().awaits_sources && began.elapsed() >= LIST_PATIENCE);
    }
}
