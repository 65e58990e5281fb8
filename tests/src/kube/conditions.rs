//! Waiting for what the API server says, by watching it.

use futures_util::StreamExt;
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, hash::Hash, pin::pin, sync::Arc, time::Duration};

/// How long a condition may take. Generous, as other tests have the machine at the same time: it bounds a failing test, it
/// measures nothing.
pub(super) const BOUND: Duration = Duration::from_secs(90);

/// Watches all that `api` and `which` choose until `probe` has an answer; it is asked anew after each change.
///
/// # Panics
/// If it has none within [`BOUND`]; the message names `what` and the last reason.
pub async fn watched<K, T>(
    api: Api<K>,
    which: watcher::Config,
    what: &str,
    mut probe: impl FnMut(&[Arc<K>]) -> Result<T, String>,
) -> T
where
    K: Resource<DynamicType: Default + Clone + Eq + Hash> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let mut events = pin!(watcher(api, which).default_backoff().reflect(writer));
    let mut last = String::from("the API server has not answered");
    let answer = async {
        loop {
            match events.next().await {
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => continue,
                Some(Ok(_)) => {}
                Some(Err(e)) => {
                    last = e.to_string();
                    continue;
                }
                None => unreachable!("a watcher never ends"),
            }
            match probe(&store.state()) {
                Ok(value) => return value,
                Err(reason) => last = reason,
            }
        }
    };
    let answer = tokio::time::timeout(BOUND, answer).await;
    answer.unwrap_or_else(|_| panic!("not within {BOUND:?}: {what}: {last}"))
}

/// The same for one object by name: `probe` gets it, or nothing while it is not there.
///
/// # Panics
/// As [`watched`].
pub async fn object<K, T>(
    api: Api<K>,
    name: &str,
    what: &str,
    mut probe: impl FnMut(Option<&K>) -> Result<T, String>,
) -> T
where
    K: Resource<DynamicType: Default + Clone + Eq + Hash> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let which = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watched(api, which, what, |found| probe(found.first().map(Arc::as_ref))).await
}
