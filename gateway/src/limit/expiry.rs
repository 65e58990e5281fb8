//! When a stream has taken too long.

mod watch;

use isthmus_control_api::Timeouts;
use std::{cell::Cell, fmt, future::poll_fn, pin::Pin, rc::Rc, task::Poll, time::Instant};
use watch::{Look, Next, Watch};

/// What a stream has moved so far, for whoever looks now and then.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// From the client towards the endpoint.
    pub(crate) up: Cell<u64>,
    /// From the endpoint towards the client.
    pub(crate) down: Cell<u64>,
    /// Whether a rate holds it now.
    is_held: Cell<bool>,
    /// Whether one has held it since the last look.
    was_held: Cell<bool>,
}

impl Activity {
    /// A rate holds the stream from now on, or does not.
    pub(crate) fn hold(&self, is_held: bool) {
        self.is_held.set(is_held);
        self.was_held.set(self.was_held.get() || is_held);
    }

    fn look(&self) -> Look {
        let held = self.was_held.replace(false) || self.is_held.get();
        Look { up: self.up.get(), down: self.down.get(), held }
    }
}

/// Which time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    FirstByte,
    Idle,
    MaxAge,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstByte => "no first byte",
            Self::Idle => "idle",
            Self::MaxAge => "too old",
        })
    }
}

/// Waits until a stream has taken too long.
pub(crate) type Expiry = Pin<Box<dyn Future<Output = Expired>>>;

/// Waits until a stream has done something, or has taken too long.
///
/// # Errors
/// The latter.
pub(crate) async fn until<T>(
    expiry: &mut Option<Expiry>,
    mut doing: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Expired> {
    poll_fn(|cx| {
        if let Poll::Ready(done) = doing.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        match expiry {
            Some(expiry) => expiry.as_mut().poll(cx).map(Err),
            None => Poll::Pending,
        }
    })
    .await
}

/// The end of a stream by its timeouts, and where it is to note what it moves; `None` if it has none.
pub(crate) fn of(timeouts: &Timeouts) -> Option<(Expiry, Rc<Activity>)> {
    let now = Instant::now();
    let mut watch = Watch::new(timeouts, now)?;
    let activity = Rc::new(Activity::default());
    let seen = activity.clone();
    let expiry = async move {
        loop {
            match watch.look(Instant::now(), seen.look()) {
                Next::LookAt(at) => tokio::time::sleep_until(at.into()).await,
                Next::Over(expired) => return expired,
            }
        }
    };
    Some((Box::pin(expiry), activity))
}
