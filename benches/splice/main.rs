//! How a stream between two local sockets is carried fastest: by copying it, by splice(2), or inside the kernel (sk_skb). And what each
//! way does to its bytes, its ends and the machine's memory. [0064](../../docs/decisions/0064-local-streams.md) is what came of it.
//!
//! ```text
//! client ── TCP ──▶ relay (the way that is measured) ── TCP ──▶ endpoint        all in this process, over its loopback
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command: it prints what it measures")]

mod hazards;
mod kernel;
mod load;
mod relay;

use clap::Parser;
use isthmus_benches::{procfs, stats::Spread};
use load::{CASES, Case, Figures};
use relay::Mode;
use std::{collections::BTreeMap, io, process::ExitCode, time::Duration};

/// Measures ways to carry a stream between two local sockets. `verdict` needs root.
#[derive(Debug, Parser)]
struct Args {
    /// Ways to measure.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Mode::Copy, Mode::Splice, Mode::Auto, Mode::Verdict])]
    modes: Vec<Mode>,
    /// Cases, by name; `none` for hazards alone.
    #[arg(long, value_delimiter = ',', default_values_t = CASES.map(|case| case.name.to_owned()))]
    cases: Vec<String>,
    /// Rounds of each case, at most 100.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Milliseconds of load a round, 100 to 60,000.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    milliseconds: u64,
    /// Connections that each hazard is tried on, at most 1000; 0: none.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=1000))]
    hazards: u32,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isthmus-splice: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let cases: Vec<&Case> = CASES.iter().filter(|case| args.cases.iter().any(|name| name == case.name)).collect();
    if args.hazards > 0 {
        hazards::show(&args.modes, args.hazards);
    }
    let length = Duration::from_millis(args.milliseconds);
    let mut all: BTreeMap<(usize, usize), Vec<Figures>> = BTreeMap::new();
    for round in 0..args.rounds as usize {
        for (at, case) in cases.iter().enumerate() {
            for turn in 0..args.modes.len() {
                // Another one begins in each round.
                let mode = (turn + round) % args.modes.len();
                let before = procfs::machine_seconds().0;
                let mut figures = load::run(case, args.modes[mode], length)?;
                figures.cpu = (procfs::machine_seconds().0 - before) / figures.units;
                all.entry((at, mode)).or_default().push(figures);
            }
        }
    }
    println!("\n| case | way | a second | p50, µs | p99, µs | CPU of the machine |");
    println!("|---|---|---|---|---|---|");
    for ((case, mode), figures) in &all {
        let of = |what: fn(&Figures) -> f64| spread(&figures.iter().map(what).collect::<Vec<_>>());
        let (case, mode) = (cases[*case], args.modes[*mode]);
        let (rate, cpu) = (of(|figures| figures.rate), of(|figures| figures.cpu));
        let (p50, p99) = (of(|figures| figures.p50), of(|figures| figures.p99));
        println!("| {} | {mode:?} | {rate} {} | {p50} | {p99} | {cpu} s per {} |", case.name, case.unit(), case.per());
    }
    Ok(())
}

fn spread(values: &[f64]) -> String {
    let Some(spread) = Spread::of(values) else { return "–".into() };
    let digits = if spread.median < 10.0 { 2 } else { 0 };
    format!("{:.digits$} ±{:.0}%", spread.median, spread.percent())
}
