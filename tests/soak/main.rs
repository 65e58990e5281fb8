//! `make soak`: two clusters with the local hop on, under everything that clients, endpoints and operators do, for as long as asked.
//!
//! ```text
//! clients ──▶ west ══ tunnel ══ east ──▶ endpoints        each stream compared, byte by byte or by digest, and its end
//!         └─▶ west ────────────────────▶ endpoints here   while files are reloaded and endpoints are restarted
//! ```
//!
//! It ends with a table, and fails on any wrong byte, wrong end, reset of a stream whose endpoint was not restarted, stream that stands still,
//! or anything that stays behind: what gateways have more of in the end than at the start.
//!
//! usage: `soak [--seconds N] [--clients N] [--seed N]`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command: it prints what it has found")]

mod args;
mod churn;
mod client;
mod dice;
mod judge;
mod restarts;
mod server;
mod stage;
mod table;
mod talk;
mod tally;

use args::Args;
use stage::Stage;
use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use table::{Sample, Table};
use tally::Tally;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("soak: {error}");
            return ExitCode::from(2);
        }
    };
    let faults = run(&args);
    for fault in &faults {
        println!("× {fault}");
    }
    if faults.is_empty() {
        println!("√ every byte and every end was right, and nothing stayed behind");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// What was wrong.
fn run(args: &Args) -> Vec<String> {
    let topology = stage::topology();
    let mut stage = Stage::start(&topology);
    println!("soak: {args}");
    stage.warm_up(args.clients);
    stage.reload_all();
    let mut table = Table::new(Sample::at_rest(&stage, "start"));
    let (tally, until) = (Arc::<Tally>::default(), Instant::now() + Duration::from_secs(args.seconds));
    let mut clients = stage.clients(args.clients, args.seed, until, &tally);
    churn::run(&mut stage, &tally, args.seed, until, &mut table);
    let ended = topology.block_on(async {
        let mut ended = Ok(());
        while let Some(client) = clients.join_next().await {
            ended = ended.and(client.map_err(|error| format!("a client panicked: {error}")));
        }
        ended
    });
    stage.reload_all();
    let grown = table.end(&stage);
    table.print(&tally);
    let mut faults = tally.faults();
    faults.extend(ended.err());
    faults.extend(stage.distrusted());
    faults.extend(grown);
    if !faults.is_empty() {
        stage.tell();
    }
    faults
}
