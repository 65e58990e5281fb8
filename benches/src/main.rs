//! `make bench`: runs the load harness and shows what it measured.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command: it prints what it measures")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use isthmus_benches::args::{Args, Suite};
use isthmus_benches::certs::Certs;
use isthmus_benches::env::{Env, Tools};
use isthmus_benches::error::{Error, Result};
use isthmus_benches::ground::Ground;
use isthmus_benches::leg::{Kind, Leg};
use isthmus_benches::machine::{self, Machine};
use isthmus_benches::schedule::{Plan, Run, Stage};
use isthmus_benches::setup::Setup;
use isthmus_benches::target::{SLOW_TARGETS, TARGETS, Target, WAN_TARGETS};
use isthmus_benches::{failover, many_ports, report, schedule, slow, storm, wrk};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Dice of the WAN: the same in every run.
const SEED: u64 = 1;

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
    let legs = args.wan();
    if legs.is_some() || args.suite == Some(Suite::Storm) {
        machine::may_make_networks()?;
    }
    let cpus = machine::pin(args.cpus)?;
    let tools = Tools::find(&args.all_setups(), args.isthmus.clone(), args.envoy.clone())?;
    let env = Env::new(tools, cpus, interrupted)?;
    wrk::prepare(env.dir())?;
    if args.suite == Some(Suite::Storm) {
        let table = storm::run(&env, args.rounds.unwrap_or(3), args.seconds.unwrap_or(5))?;
        println!("{}\n{table}", report::heading(&Machine::describe(&env)));
        return Ok(true);
    }
    if args.suite == Some(Suite::Ports) {
        let table = many_ports::run(&env, args.rounds.unwrap_or(3), args.seconds.unwrap_or(5))?;
        println!("{}\n{table}", report::heading(&Machine::describe(&env)));
        return Ok(true);
    }
    let certs = Certs::make(&env)?;
    let machine = Machine::describe(&env);
    println!("{}", report::heading(&machine));
    let mut done = true;
    if let Some(plan) = args.loopback() {
        let ground = if args.apart { apart(&plan)? } else { Ground::loopback() };
        let stage = Stage { env: &env, certs: &certs, ground: &ground };
        let run = schedule::run(&plan, &stage, &mut std::io::stdout())?;
        show(&run, &TARGETS, Setup::IsthmusTls);
        report::write(args, &machine, &plan, &run)?.iter().for_each(|path| println!("wrote {}", path.display()));
        done &= run.samples.failures().is_empty();
    }
    if let Some(plan) = args.slow() {
        let stage = Stage { env: &env, certs: &certs, ground: &Ground::loopback() };
        let run = slow::run(&plan, &stage, &mut std::io::stdout())?;
        show(&run, &SLOW_TARGETS, Setup::IsthmusTls);
    }
    let (legs, rounds) = legs.unwrap_or_default();
    for leg in legs {
        println!("\n{}", leg.title);
        let plan = args.plan_of(leg, rounds);
        let run = over_wan(leg, &plan, &certs, &env)?;
        show(&run, &WAN_TARGETS, Setup::IsthmusAuto);
        let wrote = report::write_leg(args, &machine, leg, &plan, &run)?;
        wrote.iter().for_each(|path| println!("wrote {}", path.display()));
        done &= run.samples.failures().is_empty();
    }
    Ok(done)
}

fn apart(plan: &Plan) -> Result<Ground> {
    if let Some(setup) = plan.setups.iter().find(|setup| !setup.runs_apart()) {
        return Err(Error::Load(format!(
            "--apart: found the setup {}, expected direct and isthmus-tls or its like",
            setup.key()
        )));
    }
    machine::may_make_networks()?;
    Ground::apart()
}

fn over_wan(leg: &Leg, plan: &Plan, certs: &Certs, env: &Env) -> Result<Run> {
    let well = leg.impairments()?;
    let ground = Ground::over(well, leg.paths(), SEED)?;
    let (stage, out) = (Stage { env, certs, ground: &ground }, &mut std::io::stdout());
    match leg.kind {
        Kind::Loads(_) => schedule::run(plan, &stage, out),
        Kind::Faults(fault) => failover::run(fault, well, plan, &stage, out),
    }
}

fn show(run: &Run, targets: &[Target], ours: Setup) {
    println!("\n{}", report::table::render(&run.samples, ours));
    println!("{}", report::table::targets(targets, &run.samples));
}
