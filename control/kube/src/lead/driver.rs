//! Takes part in the election: asks the API server, and says what became of it.

use super::{Election, Term, Turn};
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{Api, api::PostParams};
use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// For one request. Shorter than what a term lasts: a second one must have its chance.
const REQUEST: Duration = Duration::from_secs(4);

/// Who leads, as far as this replica knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// This replica's own term. It may have ended since: see [`Term::until`].
    pub term: Option<Term>,
    /// Who holds the lease; empty: nobody, or not known.
    pub holder: String,
    /// Why the lease could not be read or written, if that failed last.
    pub error: Option<String>,
}

/// Takes part until `shutdown`. Then waits until `idle`, by when nothing writes any more, and gives back what it holds.
pub async fn run(
    api: Api<Lease>,
    mut election: Election,
    to: watch::Sender<Leadership>,
    shutdown: CancellationToken,
    idle: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let looked = tokio::select! {
            () = shutdown.cancelled() => break,
            looked = look(&api, &mut election) => looked,
        };
        tell(&to, &election, looked);
        let pause = until_next(&election, Instant::now());
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    idle.cancelled().await;
    if let Some(lease) = election.release(Timestamp::now()) {
        let name = election.name().to_owned();
        match timeout(REQUEST, api.replace(&name, &PostParams::default(), &lease)).await {
            Ok(Ok(_)) => info!("gave the lease back"),
            Ok(Err(error)) => warn!(%error, "the lease could not be given back: the next one waits until it has ended"),
            Err(_) => warn!("the lease could not be given back in time: the next one waits until it has ended"),
        }
    }
}

/// One look, and what follows from it.
async fn look(api: &Api<Lease>, election: &mut Election) -> Result<(), String> {
    if let Some(renewal) = election.renewal(Timestamp::now()) {
        match write(api, election, renewal).await {
            // The lease is not as we stored it last: somebody has it, or a renewal was stored of which we never heard.
            Err(Failed::Conflict) => {}
            result => return result.map_err(String::from),
        }
    }
    let lease = limited(api.get_opt(election.name())).await?;
    let turn = election.saw(lease.as_ref(), Instant::now(), Timestamp::now());
    match write(api, election, turn).await {
        Err(Failed::Conflict) => Ok(()),
        result => result.map_err(String::from),
    }
}

async fn write(api: &Api<Lease>, election: &mut Election, turn: Turn) -> Result<(), Failed> {
    let sent = Instant::now();
    let stored = match turn {
        Turn::Wait => return Ok(()),
        Turn::Create(lease) => limited(api.create(&PostParams::default(), &lease)).await,
        Turn::Replace(lease) => limited(api.replace(election.name(), &PostParams::default(), &lease)).await,
    };
    match stored {
        Ok(lease) => {
            election.stored(lease, sent);
            Ok(())
        }
        Err(error) => {
            if matches!(error, Failed::Conflict) {
                election.refused();
            }
            Err(error)
        }
    }
}

enum Failed {
    /// Somebody else was there first.
    Conflict,
    Other(String),
}

impl From<Failed> for String {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Conflict => "another replica was faster".into(),
            Failed::Other(error) => error,
        }
    }
}

async fn limited<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    match timeout(REQUEST, request).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Err(Failed::Conflict),
        Ok(Err(error)) => Err(Failed::Other(crate::error::describe(&error))),
        Err(_) => Err(Failed::Other(format!("the API server did not answer within {} s", REQUEST.as_secs()))),
    }
}

fn tell(to: &watch::Sender<Leadership>, election: &Election, looked: Result<(), String>) {
    let (holder, error) = (election.holder().to_owned(), looked.err());
    let now = Leadership { term: election.term(), holder, error };
    let before = to.send_replace(now.clone());
    match (before.term.map(|term| term.epoch), now.term.map(|term| term.epoch)) {
        (old, Some(epoch)) if old != Some(epoch) => info!(epoch, "leading: this replica writes"),
        (Some(_), None) => info!(holder = %now.holder, "not leading any more"),
        _ => {}
    }
    if let Some(error) = now.error.filter(|error| before.error.as_ref() != Some(error)) {
        warn!(lease = election.name(), error, "the lease cannot be kept up");
    }
}

/// A little more or less for each, so that replicas do not go in step.
fn until_next(election: &Election, now: Instant) -> Duration {
    let retry = election.times().retry;
    let jitter = RandomState::new().hash_one(now) % 256;
    retry + retry.mul_f64(0.2 * jitter as f64 / 256.0)
}
