//! Waits until the running gateway has the link up, as its admin address tells.

use crate::cmd::status::fetch::{self, FetchError};
use isthmus_control_api::ClusterName;
use isthmus_gateway::status::{LinkStatus, LinkWord, Status};
use serde::Serialize;
use std::{fmt, net::SocketAddr, time::Duration};
use tokio::time::{Instant, sleep};

/// How long a link may take to come up: some attempts to dial.
const PATIENCE: Duration = Duration::from_secs(15);
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
        let found = match ask(admin, peer).await {
            Ok(Some(link)) if link.state == LinkWord::Up => {
                return Outcome::Up { transport: link.transport, direction: link.direction };
            }
            Ok(Some(link)) => Outcome::Down { message: link.message.unwrap_or_else(|| link.state.as_str().into()) },
            Ok(None) => Outcome::Down { message: "the gateway has not taken the link up".into() },
            Err(message) => return Outcome::Unknown { message },
        };
        if Instant::now() >= deadline {
            return found;
        }
        sleep(PAUSE).await;
    }
}

async fn ask(admin: SocketAddr, peer: &ClusterName) -> Result<Option<LinkStatus>, String> {
    let answer = fetch::get(&admin.to_string(), "/status").await.map_err(|error: FetchError| error.to_string())?;
    let status: Status = serde_json::from_slice(&answer).map_err(|e| format!("{admin} answered no status: {e}"))?;
    Ok(status.links.into_iter().find(|link| link.cluster == peer.as_str()))
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
