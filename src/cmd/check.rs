//! `isthmus check`: √ or × for everything that has to be so, with the fix of what is not.
//!
//! ```text
//! files, ports, names ─▶ before ─┐
//! /status ─▶ gateway ●, links ● ─┼─▶ lines ● ─▶ table, JSON or YAML
//! /probe  ─▶ links ●, services ● ┘
//! ```

mod before;
mod cluster;
mod fix;
mod gateway;
mod line;
mod links;
mod probes;
#[cfg(test)]
mod samples;
mod services;
mod sources;
mod trust;

use super::{
    Failure,
    admin::{self, FetchError, here},
    kubernetes::Cluster,
};
use crate::{output::Output, paint::Paint, progress};
use isthmus_control_api::{ClusterName, ServiceName};
use isthmus_gateway::status::Status;
use line::{Line, Lines, Report};
use std::{path::PathBuf, time::SystemTime};

/// Arguments of `isthmus check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A running gateway is asked how it fares, and opens streams: one on every tunnel, on which 32 KiB go there and back, and one for each \
imported service and cluster, which is closed once an endpoint has taken it. Endpoints of exported services are connected to. Nothing is \
sent to either. At most 32 services are tried so; --service names another. With --context or \
--kubeconfig a cluster of Kubernetes is checked from outside instead: the API server, what is installed, and whether it runs.

Exit codes:
  0  nothing failed
  1  nothing could be checked
  2  the command line is wrong
  3  something failed: each × has its fix")]
pub(crate) struct Args {
    /// The configuration: it, the identity, ports and names are checked, too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check only what has to be so before the gateway starts, or before `isthmus install`
    #[arg(long)]
    before: bool,
    /// The gateway's admin address; otherwise what `admin:` of the configuration says, or 127.0.0.1:15020
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "before")]
    admin: Option<String>,
    /// Check this link only
    #[arg(long, value_name = "CLUSTER", conflicts_with_all = ["before", "config"])]
    link: Option<ClusterName>,
    /// Check this service only
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["before", "config", "link"])]
    service: Option<ServiceName>,
    #[command(flatten)]
    at: Cluster,
    #[command(flatten)]
    output: Output,
}

/// Checks, prints, judges.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = super::linking::runtime()?;
    let lines = runtime.block_on(progress::told("checking", look(args)));
    // A lookup of a name may hang in its thread.
    runtime.shutdown_background();
    let report = Report::new(lines?, Paint::of(&std::io::stdout()));
    args.output.print(&report)?;
    report.problem().map_or(Ok(()), |problem| Err(Failure::unwell(problem)))
}

async fn look(args: &Args) -> Result<Vec<Line>, Failure> {
    if args.at.is_named() {
        return Ok(cluster::lines(&args.at, args.before).await);
    }
    if args.before && args.config.is_none() {
        let expected = "--config FILE for a gateway, --context or --kubeconfig for a cluster of Kubernetes";
        return Err(Failure::usage(format!("--before: found nothing to check, expected {expected}")));
    }
    let file = args.config.as_deref().map(before::File::read);
    let config = file.as_ref().and_then(before::File::config);
    let admin = args.admin.clone().or_else(|| config.map(|config| here(config.admin).to_string()));
    let admin = admin.unwrap_or_else(|| "127.0.0.1:15020".to_owned());
    let status = if args.before { None } else { Some(status(&admin).await) };
    let mut lines = Vec::new();
    if let Some(file) = &file {
        lines.extend(before::lines(file, matches!(status, Some(Ok(_))), SystemTime::now()).await);
    }
    match status {
        None => {}
        Some(Ok(status)) => lines.extend(running(args, &admin, &status).await),
        Some(Err(error)) => match &file {
            // What else it is about cannot be found out then.
            None => return Err(Failure::from(error).with(WITHOUT_GATEWAY)),
            Some(file) => lines.extend(unanswered(file, &admin, &error)),
        },
    }
    Ok(lines)
}

/// What can be checked where no gateway answers.
const WITHOUT_GATEWAY: &str = "without one, `isthmus check --config FILE` checks what it needs, and `--context NAME` a cluster of \
                               Kubernetes";

/// A line about a gateway that does not answer.
fn unanswered(file: &before::File, admin: &str, error: &Unanswered) -> Vec<Line> {
    let mut gateway = Lines::about(format!("gateway at {admin}"));
    let (found, fix) = match error {
        Unanswered::Fetch(FetchError::NobodyThere(_)) if file.config().is_some() => {
            ("nothing listens there".to_owned(), format!("start it: {}", file.start()))
        }
        Unanswered::Fetch(FetchError::NobodyThere(_)) => (
            "nothing listens there".to_owned(),
            format!("put right what is said of the file above, then {}", file.start()),
        ),
        error => (
            error.to_string(),
            format!("see that `admin` of its configuration is {admin}, and its log; then start it again"),
        ),
    };
    gateway.failed("gateway.answers", "it answers", found, fix);
    gateway.into_vec()
}

/// Lines about a gateway that answers.
async fn running(args: &Args, admin: &str, status: &Status) -> Vec<Line> {
    let (link, service) = (args.link.as_ref().map(ClusterName::as_str), args.service.as_ref().map(ToString::to_string));
    let (every, now) = (link.is_none() && service.is_none(), SystemTime::now());
    let mut lines = if every { gateway::lines(status, admin, now) } else { Vec::new() };
    if service.is_none() {
        let probed = if is_control(status) { Err(ELSEWHERE.to_owned()) } else { probes::links(admin).await };
        lines.extend(links::lines(status, probed.as_ref().map_err(String::as_str), link, now));
        if let (true, Some(link)) = (lines.is_empty(), link) {
            let mut unknown = Lines::about(format!("link {link}"));
            let fix = format!("link it: `isthmus invite` here, `isthmus join TOKEN` at {link}");
            unknown.failed("link.tunnel", "a tunnel is up", format!("{} has no link with {link}", status.cluster), fix);
            lines.extend(unknown.into_vec());
        }
    }
    if link.is_none() {
        let probed = match is_control(status) {
            true => services::Probed::not(status, ELSEWHERE),
            false => probes::services(admin, status, service.as_deref()).await,
        };
        let found = services::lines(status, &probed, service.as_deref());
        if let (true, Some(service)) = (found.is_empty(), &service) {
            let mut unknown = Lines::about(format!("service {service}"));
            let found = format!("{} neither imports nor exports {service}", status.cluster);
            let fix = format!("import {service} here (imports), and export it where it is served");
            unknown.failed("service.known", "it is known here", found, fix);
            lines.extend(unknown.into_vec());
        }
        lines.extend(found);
    }
    lines
}

/// Why a control opens no streams.
const ELSEWHERE: &str = "this is a control: its gateways' own `isthmus check` opens streams";

/// Whether it has gateways instead of being one.
fn is_control(status: &Status) -> bool {
    status.control["push"].is_object()
}

/// The status of the gateway whose admin address this is.
async fn status(admin: &str) -> Result<Status, Unanswered> {
    let json = admin::get(admin, "/status").await?;
    serde_json::from_slice(&json).map_err(|error| Unanswered::Unknown(admin.to_owned(), error))
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0} answered something else than a status: {1} (is it a gateway of this version?)")]
    Unknown(String, serde_json::Error),
}
