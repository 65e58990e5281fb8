//! `isthmus top`: links, services and streams of a running gateway, live.

mod counters;
mod state;
mod view;

use super::{Failure, admin::Admin, linking};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};
use state::{Act, State, Tab};
use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Arguments of `isthmus top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Keys:
  1 2 3, Tab       links, services, streams
  Up Down, k j     a line up or down
  PgUp PgDn        a page up or down
  space, p         stop and go on
  q, Esc, Ctrl-C   end

Exit codes:
  0  it was ended by a key
  1  the gateway could not be asked at the start, or there is no terminal
  2  the command line is wrong")]
pub(crate) struct Args {
    /// Seconds between two looks
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
    #[command(flatten)]
    admin: Admin,
}

/// Shows it until a key ends it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() {
        let instead = "`isthmus status --output json` and /metrics are for scripts";
        return Err(Failure::failed(format!("stdout: found no terminal, expected one: {instead}")));
    }
    let runtime = linking::runtime()?;
    let mut state = State::new(args.admin.address.clone());
    // What is wrong at the start is told as by any command.
    let (status, metrics) = runtime.block_on(fetch(&args.admin))?;
    state.take(&status, &metrics, Instant::now())?;
    let mut terminal = ratatui::try_init()?;
    let outcome = show(&mut terminal, &mut state, args, &runtime);
    ratatui::restore();
    outcome
}

fn show(terminal: &mut DefaultTerminal, state: &mut State, args: &Args, runtime: &Runtime) -> Result<(), Failure> {
    let interval = Duration::from_secs(args.interval);
    let mut next = Instant::now() + interval;
    loop {
        terminal.draw(|frame| view::draw(frame, state))?;
        if event::poll(next.saturating_duration_since(Instant::now()))? {
            if let Some(act) = act(&event::read()?)
                && !state.act(act)
            {
                return Ok(());
            }
            continue;
        }
        next = Instant::now() + interval;
        if state.is_stopped() {
            continue;
        }
        match runtime.block_on(fetch(&args.admin)) {
            // Something else may have taken its place.
            Ok((status, metrics)) => {
                if let Err(failure) = state.take(&status, &metrics, Instant::now()) {
                    state.miss(failure.message());
                }
            }
            Err(failure) => state.miss(failure.message()),
        }
    }
}

async fn fetch(admin: &Admin) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    Ok((admin.get("/status").await?.to_vec(), admin.get("/metrics").await?.to_vec()))
}

/// What a key asks for.
fn act(event: &Event) -> Option<Act> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Act::End,
        KeyCode::Char('q') | KeyCode::Esc => Act::End,
        KeyCode::Char('1') => Act::Show(Tab::Links),
        KeyCode::Char('2') => Act::Show(Tab::Services),
        KeyCode::Char('3') => Act::Show(Tab::Streams),
        KeyCode::Tab => Act::Next,
        KeyCode::Up | KeyCode::Char('k') => Act::Move(-1),
        KeyCode::Down | KeyCode::Char('j') => Act::Move(1),
        KeyCode::PageUp => Act::Move(-20),
        KeyCode::PageDown => Act::Move(20),
        KeyCode::Char(' ' | 'p') => Act::Stop,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
