//! Two sides against a model, and one side against peers that break the protocol.

mod model;
mod violations;

use super::*;
use crate::tunnel::tls::record::{HEADER, TAIL};
use std::{sync::Arc, time::Duration};

const RTT: Duration = Duration::from_millis(1);

/// One side, with a budget of its own.
fn side(role: Role, settings: Settings, limit: usize) -> (Mux<()>, Arc<Budget>) {
    let budget = Arc::new(Budget::new(limit));
    (Mux::new(role, settings, budget.clone()), budget)
}

/// Takes the payloads of the records that wait to be sealed.
fn records<T: Default>(mux: &mut Mux<T>) -> Vec<Vec<u8>> {
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
