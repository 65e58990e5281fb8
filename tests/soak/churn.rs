//! What operators do meanwhile: files change, endpoints are restarted.

use crate::{
    dice::Dice,
    stage::Stage,
    table::{Sample, Table},
    tally::Tally,
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// Between two of these.
const PAUSE: Duration = Duration::from_secs(2);
/// Looks at everything, however long it takes.
const LOOKS: u32 = 10;

/// Goes on until then, and looks at what gateways take now and again.
pub(crate) fn run(stage: &mut Stage<'_>, tally: &Tally, seed: u64, until: Instant, table: &mut Table) {
    let (mut dice, begun) = (Dice::new(seed), Instant::now());
    let whole = until.saturating_duration_since(begun);
    let mut looks = 1;
    while Instant::now() < until {
        match dice.between(0, 4) {
            0 => stage.reload_west(dice.between(0, 2) == 0),
            1 => stage.reload_east(usize::try_from(dice.between(2, 4)).unwrap_or(2)),
            _ => stage.restart(usize::try_from(dice.between(0, 3)).unwrap_or(0), tally),
        }
        table.churned();
        if begun.elapsed() >= whole * looks / LOOKS && looks < LOOKS {
            table.add(Sample::take(stage, ""));
            let streams: u64 = tally.kinds().values().map(|kind| kind.streams).sum();
            println!("{} s: {streams} streams", begun.elapsed().as_secs());
            looks += 1;
        }
        sleep(PAUSE.min(until.saturating_duration_since(Instant::now())));
    }
}
