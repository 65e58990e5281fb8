//! Watches of the API server: a task a kind, whose events go to one place.
//!
//! A watch that fails is tried again, for ever and with growing pauses: what it said last stays. One that fails because the API server
//! does not have the kind, or does not let us see it, says so with what mends it, and is tried again all the same.

mod trim;

use crate::{
    error,
    index::{Change, Watched},
    optional::OptionalKind,
};
use futures_util::StreamExt as _;
use kube::{
    Api, Client, Resource,
    api::DynamicObject,
    runtime::watcher::{self, Config, Event, watcher},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, pin::pin, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use trim::{shrink, trim};

/// Events that wait to be taken. Then the watches wait.
const EVENTS: usize = 1024;
/// Between two attempts: doubled each time, until one works.
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A watch that failed, was tried again and has not failed within this works: nothing need have changed.
const SETTLED: Duration = Duration::from_secs(3);
/// A watch is asked for anew after so many seconds: a connection that died silently is noticed soon after.
const WATCH_SECONDS: u32 = 60;

/// What the watches say.
#[derive(Debug)]
pub enum News {
    /// Something changed.
    Change(Box<Change>),
    /// Whether the watch of a kind works; else why not.
    State(Watched, Result<(), String>),
}

/// What is to be watched.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Where our gateway's pods are.
    pub namespace: String,
    /// The label selector that picks them.
    pub gateways: String,
    /// The kinds of other systems.
    pub optional: Vec<OptionalKind>,
}

/// Watches everything, until the tasks end with their owner.
pub fn all(client: &Client, scope: &Scope, tasks: &mut JoinSet<()>) -> mpsc::Receiver<News> {
    let (to, news) = mpsc::channel(EVENTS);
    macro_rules! watch {
        ($($watched:ident),*) => {$(
            tasks.spawn(follow(Api::all(client.clone()), Config::default(), Watched::$watched, Change::$watched, to.clone()));
        )*};
    }
    watch!(Services, Exports, Imports, Namespaces, Nodes, Links, Properties);
    let wrap = |event: Event<_>| Change::Slices(event.modify(shrink));
    tasks.spawn(follow(Api::all(client.clone()), Config::default(), Watched::Slices, wrap, to.clone()));
    let pods = Api::namespaced(client.clone(), &scope.namespace);
    let config = Config::default().labels(&scope.gateways);
    tasks.spawn(follow(pods, config, Watched::Gateways, Change::Gateways, to.clone()));
    for &kind in &scope.optional {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
        let wrap = move |event| Change::Optional(kind, event);
        tasks.spawn(follow(api, Config::default(), Watched::Optional(kind), wrap, to.clone()));
    }
    news
}

/// Follows one kind until nobody listens.
async fn follow<K>(
    api: Api<K>,
    config: Config,
    watched: Watched,
    wrap: impl Fn(Event<K>) -> Change,
    to: mpsc::Sender<News>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut stream = pin!(watcher(api, config.timeout(WATCH_SECONDS)));
    let mut failing: Option<Duration> = None;
    loop {
        let next = match failing {
            None => stream.next().await,
            Some(_) => match timeout(SETTLED, stream.next()).await {
                Ok(next) => next,
                Err(_) => {
                    failing = None;
                    if to.send(News::State(watched, Ok(()))).await.is_err() {
                        return;
                    }
                    continue;
                }
            },
        };
        let news = match next {
            None => return,
            // It is about to list: that says nothing of whether it can.
            Some(Ok(Event::Init)) => News::Change(Box::new(wrap(Event::Init))),
            Some(Ok(event)) => {
                if failing.take().is_some() && to.send(News::State(watched, Ok(()))).await.is_err() {
                    return;
                }
                News::Change(Box::new(wrap(event.modify(|object| trim(object, watched)))))
            }
            Some(Err(error)) => {
                let pause = failing.map_or(BACKOFF, |pause| (pause * 2).min(BACKOFF_MAX));
                failing = Some(pause);
                if let (Watched::Optional(kind), true) = (watched, error::is_absent(&error)) {
                    let absent = News::Change(Box::new(Change::Absent(kind)));
                    if to.send(absent).await.is_err() {
                        return;
                    }
                }
                let why = describe(&error, watched);
                if to.send(News::State(watched, Err(why))).await.is_err() {
                    return;
                }
                sleep(pause).await;
                continue;
            }
        };
        if to.send(news).await.is_err() {
            return;
        }
    }
}

fn describe(error: &watcher::Error, watched: Watched) -> String {
    error::describe_watch(error, watched.name(), watched.definition())
}
