//! Waits until the running gateway has the link up, or has closed it, as its admin address tells.

use crate::cmd::admin::{self as fetch, FetchError};
use isthmus_control_api::ClusterName;
use isthmus_gateway::status::{LinkStatus, LinkWord, Status};
use serde::Serialize;
use std::{fmt, net::SocketAddr, time::Duration};
use tokio::time::{Instant, sleep};

/// How long a link may take to come up. Where one was before, a gateway that dials in vain may wait for fifteen seconds before it tries
/// again.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long tunnels may take to close: a store that can watch nothing looks every half second, and tunnels drain after that.
const CLOSING: Duration = Duration::from_secs(15);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of the link.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum Outcome {
    /// It carries streams.
    Up {
        /// `tls`, `h2`.
        transport: Option<String>,
        /// Who dialled.
        direction: Option<String>,
    },
    /// It does not, yet.
    Down {
        /// What the gateway says of it.
        message: String,
    },
    /// The gateway could not be asked.
    Unknown {
        /// Why not.
        message: String,
    },
}

/// Asks until the link with `peer` is up, or has had its time.
pub(super) async fn wait(admin: SocketAddr, peer: &ClusterName) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = match ask(admin).await.map(|status| link(status, peer)) {
            Ok(Some(link)) if link.state == LinkWord::Up => {
                return Outcome::Up { transport: link.transport, direction: link.direction };
            }
            Ok(Some(link)) => Outcome::Down { message: link.message.unwrap_or_else(|| link.state.as_str().into()) },
            Ok(None) => Outcome::Down { message: "the gateway has not taken the link up".into() },
            Err(error) => return Outcome::Unknown { message: error.to_string() },
        };
        if Instant::now() >= deadline {
            return found;
        }
        sleep(PAUSE).await;
    }
}

/// What has become of the tunnels with a cluster that was unlinked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "tunnels")]
pub(in crate::cmd) enum Gone {
    /// There are none, and none can come up.
    Closed,
    /// There are some, still, or there can be new ones.
    Open,
    /// Nothing listens at the admin address: no gateway runs, and there are none.
    NoGateway,
    /// The gateway could not be asked.
    Unknown {
        /// Why not.
        message: String,
    },
}

/// Asks until no tunnel with `peer` is left, or they have had their time to end.
pub(in crate::cmd) async fn gone(admin: SocketAddr, peer: &ClusterName) -> Gone {
    let deadline = Instant::now() + CLOSING;
    loop {
        match ask(admin).await {
            Ok(status) => {
                let trusted = status.identity.trusts.iter().any(|cluster| cluster == peer.as_str());
                if has_let_go(link(status, peer).map(|link| link.state), trusted) {
                    return Gone::Closed;
                }
            }
            Err(NoAnswer::Fetch(FetchError::NobodyThere(_))) => return Gone::NoGateway,
            Err(error) => return Gone::Unknown { message: error.to_string() },
        }
        if Instant::now() >= deadline {
            return Gone::Open;
        }
        sleep(PAUSE).await;
    }
}

/// Whether the gateway has let go of a cluster: of what it says of the link, and whether it trusts it. Where there is no tunnel just now,
/// one can come up as long as there are both.
fn has_let_go(link: Option<LinkWord>, trusted: bool) -> bool {
    match link {
        None => true,
        Some(LinkWord::Up | LinkWord::Unresponsive | LinkWord::Draining) => false,
        Some(LinkWord::Dialling | LinkWord::Down | LinkWord::Waiting) => !trusted,
    }
}

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0} answered no status: {1}")]
    NoStatus(SocketAddr, serde_json::Error),
}

async fn ask(admin: SocketAddr) -> Result<Status, NoAnswer> {
    let answer = fetch::get(&admin.to_string(), "/status").await?;
    serde_json::from_slice(&answer).map_err(|e| NoAnswer::NoStatus(admin, e))
}

fn link(status: Status, peer: &ClusterName) -> Option<LinkStatus> {
    status.links.into_iter().find(|link| link.cluster == peer.as_str())
}

impl Outcome {
    /// What is not well, and what to do.
    pub(super) fn problem(&self, peer: &ClusterName, config: &str) -> Option<String> {
        match self {
            Self::Up { .. } => None,
            Self::Down { message } => Some(format!(
                "the link with {peer} is made, but not up yet: {message}: see `isthmus status` on both sides"
            )),
            Self::Unknown { message } => Some(format!(
                "the link with {peer} is made, but this gateway cannot be asked about it: {message}: start it if it does not run \
                 (isthmus run --config {config})"
            )),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { transport, direction } => {
                let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "?".into());
                write!(f, "  the link is up: {}, {}", word(transport), word(direction))
            }
            Self::Down { .. } | Self::Unknown { .. } => write!(f, "  the link is not up yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_merely_down_is_not_gone() {
        assert!(has_let_go(None, true), "no link, no tunnel");
        for state in [LinkWord::Dialling, LinkWord::Down, LinkWord::Waiting] {
            assert!(has_let_go(Some(state), false) && !has_let_go(Some(state), true), "{state:?}");
        }
        for state in [LinkWord::Up, LinkWord::Unresponsive, LinkWord::Draining] {
            assert!(!has_let_go(Some(state), false), "{state:?}");
        }
    }
}
