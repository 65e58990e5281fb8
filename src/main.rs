//! The command `isthmus`: parse, dispatch, say what went wrong.

mod args;
mod cmd;
#[cfg(test)]
mod documented;
mod exit;
mod log;
mod output;
mod paint;
mod progress;

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = args::parse().and_then(|args| cmd::dispatch(args.command));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
