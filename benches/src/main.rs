//! `make bench`: runs the load harness and shows what it measured.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command: it prints what it measures")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use isthmus_benches::args::Args;
use isthmus_benches::env::{Env, Tools};
use isthmus_benches::error::{Error, Result};
use isthmus_benches::machine::{self, Machine};
use isthmus_benches::{report, schedule, wrk};
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> ExitCode {
    match bench(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Error::Interrupted) => {
            eprintln!("interrupted; everything was taken down");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every block was done.
fn bench(args: &Args) -> Result<bool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(Error::io("catching signals"))?;
    }
    machine::raise_file_limit()?;
    let cpus = machine::pin(args.cpus)?;
    let tools = Tools::find(&args.setups(), args.isthmus.clone(), args.envoy.clone())?;
    let env = Env::new(tools, cpus, interrupted)?;
    wrk::prepare(env.dir())?;
    let machine = Machine::describe(&env);
    println!("{}", report::heading(&machine));
    let run = schedule::run(args, &env, &mut std::io::stdout())?;
    println!("\n{}", report::table::render(&run.samples));
    println!("{}", report::table::targets(&run.samples));
    report::write(args, &machine, &run)?.iter().for_each(|path| println!("wrote {}", path.display()));
    Ok(run.samples.failures().is_empty())
}
