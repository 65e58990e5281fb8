//! `isthmus demo`: two clusters on this machine, one service, real traffic, and what happens when things break.
//!
//! ```text
//!   west, pods 10.0.0.0/24              WAN              east, pods 10.0.0.0/24
//!  client ── bridge ── gateway ── router, no route ── gateway ── bridge ── nginx
//!  10.0.0.2          198.51.100.2     to any pod    203.0.113.2      └──── nginx
//! ```
//!
//! With `--wan`, the router is an emulator instead ([`isthmus_wan`]).
//!
//! [`scenario`] is what happens, [`breaking`] the second half of it; [`stage`] is where, in namespaces or on loopback addresses; [`clusters`], [`nginx`], [`wrk`] and
//! [`prober`] are who; [`samples`] and [`report`] are what it comes to. Whatever is started is in the [`process::Crew`], and every
//! file in the [`scratch::Scratch`], so that ending both leaves nothing behind, at whatever point that happens.

mod breaking;
mod clusters;
mod error;
mod layout;
mod narrator;
mod nginx;
mod place;
mod preflight;
mod prober;
mod process;
mod relay;
mod report;
mod samples;
mod scenario;
mod scratch;
mod stage;
mod wrk;

use super::Failure;
use crate::{output::Output, paint::Paint};
use error::{Doing, Error};
use isthmus_wan::{Impairments, Wan};
use narrator::Narrator;
use preflight::Tools;
use process::Crew;
use report::Report;
use scenario::Scenario;
use scratch::Scratch;
use std::{io::stdout, sync::Arc};
use tokio::signal::unix::{Signal, SignalKind, signal};

const TITLE: &str = "Two clusters with the same pod addresses, no route between them, and one service for both.";
const TITLE_LOOPBACK: &str = "Two clusters on loopback addresses, and one service for both.";

/// Arguments of `isthmus demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long each measurement takes
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Do without root: on loopback addresses, with a relay between the gateways that can be cut
    #[arg(long)]
    loopback: bool,

    /// Put an emulated WAN between the clusters, as 50ms,1% (a round trip, loss); more words: 100mbit, jitter=5ms, reorder=1%,
    /// mtu=1400, noudp
    #[arg(long, value_name = "SPEC", conflicts_with = "loopback")]
    wan: Option<Impairments>,

    #[command(flatten)]
    output: Output,
}

/// Runs it: the story goes to stderr, the result to stdout.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    preflight::check_root(args.loopback)?;
    let tools = Tools::find(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = runtime.block_on(play_and_clean(args, &tools))?;
    report.paint = Paint::of(&stdout());
    args.output.print(&report)?;
    if report.ok { Ok(()) } else { Err(Failure::failed(report.verdict())) }
}

/// Plays the scenario until it ends, fails or is interrupted, and removes everything in each case.
async fn play_and_clean(args: &Args, tools: &Tools) -> Result<Report, Failure> {
    let mut interrupts = Interrupts::new()?;
    let tell = Narrator::new();
    tell.title(if args.loopback { TITLE_LOOPBACK } else { TITLE });
    let orphans = scratch::sweep();
    if orphans > 0 {
        tell.step("sweep", format_args!("removed the files of {orphans} killed run(s)"));
    }
    let scratch = Scratch::new()?;
    let (mut crew, mut wan) = (Crew::default(), None);
    let scenario = Scenario { args, tools, crew: &mut crew, wan: &mut wan, scratch: scratch.path(), tell: &tell };
    let outcome = tokio::select! {
        interrupt = interrupts.next() => Err(interrupt),
        outcome = scenario.play() => outcome,
    };
    let cleaned = clean(crew, wan, scratch, &tell).await;
    match outcome {
        Ok(report) => cleaned.map(|()| report).map_err(Failure::from),
        Err(ref error @ Error::Interrupted { number, .. }) => Err(Failure::interrupted(error.to_string(), number)),
        Err(error) => Err(error.into()),
    }
}

async fn clean(mut crew: Crew, wan: Option<Arc<Wan>>, scratch: Scratch, tell: &Narrator) -> Result<(), Error> {
    tell.step("clean", "ending all; a gateway waits up to 5 s for streams whose peer it has lost");
    for name in crew.stop().await {
        tell.step("clean", format_args!("{name} did not end on SIGTERM and was killed"));
    }
    drop(wan);
    scratch.remove()?;
    tell.step("clean", "no process, namespace, address or file is left\n");
    Ok(())
}

/// The signals that end the demonstration early.
struct Interrupts {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Error> {
        let on = |kind| signal(kind).doing("handle signals");
        Ok(Self {
            int: on(SignalKind::interrupt())?,
            term: on(SignalKind::terminate())?,
            hup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Error {
        let (name, number) = tokio::select! {
            _ = self.int.recv() => ("SIGINT", 2),
            _ = self.term.recv() => ("SIGTERM", 15),
            _ = self.hup.recv() => ("SIGHUP", 1),
        };
        Error::Interrupted { name, number }
    }
}
