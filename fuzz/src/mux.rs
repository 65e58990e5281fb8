//! The multiplexer: against a peer that sends anything, and two of them against a model.

mod hostile;
mod pair;

pub use hostile::hostile;
pub use pair::pair;

use isthmus_gateway::tunnel::{
    mux::{Budget, Introduction, Mux, Role, Settings},
    open as wire,
};
use std::sync::Arc;

/// OPEN's payload: what is read is written as it was read.
pub fn open(input: &[u8]) {
    if let Ok(request) = wire::decode(input) {
        assert_eq!(wire::decode(&wire::encode(&request)).as_ref(), Ok(&request));
    }
}

/// Small enough that every bound is met.
const WINDOW: u32 = 20_000;
const BUDGET: usize = 130_000;

fn side(role: Role) -> (Mux<()>, Arc<Budget>) {
    let budget = Arc::new(Budget::new(BUDGET));
    let settings = Settings { window: WINDOW, max_streams: 4, cores: 2, about: Introduction::UNKNOWN };
    (Mux::new(role, settings, budget.clone()), budget)
}

/// Takes the records that wait to be sealed: their payloads.
fn records(mux: &mut Mux<()>) -> Vec<Vec<u8>> {
    use isthmus_gateway::tunnel::tls::record::{HEADER, TAIL};
    let out = mux.out();
    out.close();
    let (mut at, mut payloads) = (0, Vec::new());
    while let Some((record, _)) = out.closed_record(at) {
        at += record.len();
        payloads.push(record[HEADER..record.len() - TAIL].to_vec());
    }
    out.clear();
    payloads
}
