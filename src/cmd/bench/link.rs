//! `isthmus bench --link`: what the tunnels to a linked cluster carry, and what that does to round trips. The gateway measures.

mod report;

use super::Args;
use crate::cmd::{
    Failure,
    admin::{self, FetchError},
};
use hyper::StatusCode;
use isthmus_control_api::ClusterName;
use isthmus_gateway::status::measure::{LinkMeasure, MOST_MEBIBYTES, MOST_SECONDS, Way};
pub(super) use report::Report;

/// MiB where nothing is said.
const MEBIBYTES: u64 = 1000;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum Direction {
    /// From the linked cluster to this one
    #[default]
    Down,
    /// To the linked cluster
    Up,
}

/// Has the gateway measure.
pub(super) async fn measure(args: &Args, cluster: &ClusterName) -> Result<Report, Failure> {
    let mebibytes = args.mebibytes.unwrap_or(MEBIBYTES);
    for (what, found, most) in [("seconds", args.seconds, MOST_SECONDS), ("mebibytes", mebibytes, MOST_MEBIBYTES)] {
        if found > most {
            return Err(Failure::usage(format!("--{what} {found}: a link is measured with {most} at most")));
        }
    }
    let way = match args.direction {
        Direction::Down => Way::Down,
        Direction::Up => Way::Up,
    };
    let (seconds, streams) = (args.seconds, args.streams);
    let path = format!("/measure/{cluster}?direction={way}&seconds={seconds}&streams={streams}&mebibytes={mebibytes}");
    let json = admin::probe(&args.admin.address, &path).await.map_err(refused)?;
    Ok(Report::new(seconds, &serde_json::from_slice::<LinkMeasure>(&json)?))
}

/// What the gateway says is all that there is to say.
fn refused(error: FetchError) -> Failure {
    match error {
        FetchError::Refused(admin, StatusCode::NOT_FOUND, _) => {
            let message =
                format!("the gateway at {admin} is older than this command, and measures no links: upgrade it");
            Failure::failed(message)
        }
        FetchError::Refused(_, _, line) => Failure::failed(line),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_gateway_is_told_from_one_that_refuses() {
        let answered = |status, line: &str| refused(FetchError::Refused("127.0.0.1:15020".into(), status, line.into()));
        let failure = answered(StatusCode::NOT_FOUND, "found: /livez");
        assert!(failure.message().contains("127.0.0.1:15020 is older"), "{failure:?}");
        let failure = answered(StatusCode::BAD_GATEWAY, "east refuses to be measured: off");
        assert_eq!((failure.message(), failure.code()), ("east refuses to be measured: off", 1));
    }
}
