//! What policies and limits say of a service, as a text for people.

use super::render::or_dash;
use crate::output::Grid;
use isthmus_gateway::status::trace::{PortDecision, Taken};
use std::fmt;

pub(super) fn write_decisions(decisions: &[PortDecision], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if decisions.is_empty() {
        return Ok(());
    }
    let mut grid = Grid::new(["PORT", "DECISION", "BY", "DRY-RUN"]);
    for PortDecision { name, allowed, by, otherwise } in decisions {
        let decision = if *allowed { "allowed" } else { "denied" };
        grid.row([name.clone(), decision.to_owned(), or_dash(by.clone()), or_dash(otherwise.clone())]);
    }
    write!(f, "\naccess policies\n{grid}")
}

pub(super) fn write_taken(taken: &[Taken], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if taken.is_empty() {
        return Ok(());
    }
    let mut grid = Grid::new(["PORT", "SIDE", "STREAMS", "PENDING", "RETRYING"]);
    for Taken { name, side, streams, pending, retrying } in taken {
        grid.row([name.clone(), side.clone(), streams.to_string(), pending.to_string(), retrying.to_string()]);
    }
    write!(f, "\nlimits\n{grid}")
}
