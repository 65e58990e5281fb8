use super::*;
use crate::{change::tests::tables, history::History};
use isthmus_control_api::Table;
use proptest::prelude::*;
use std::{sync::Arc, time::Instant};

fn sent(update: &Update) -> Vec<wire::Part> {
    let sent = |part: &wire::Part| wire::Part::decode(&*part.encode_to_vec()).unwrap();
    parts(update).iter().map(sent).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(one in tables(), other in tables()) {
        let mut history = History::new(Arc::new(one.clone()), 1);
        history.publish(Arc::new(Table { version: 1, ..other }), Instant::now());
        for has in [None, Some(Digest::of(&one))] {
            let update = history.update(has);
            let [part] = sent(&update).try_into().unwrap();
            prop_assert!(part.last);
            prop_assert_eq!(read_part(part).unwrap(), (update.from, update.to, update.change));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(part) = wire::Part::decode(&*bytes) {
            let _ = read_part(part);
        }
    }
}

#[test]
fn a_large_table_goes_in_parts() {
    let export = |n: u32| {
        let endpoints = (1..=20).map(|port| Endpoint::at(([10, 0, 0, 1], port).into())).collect();
        (
            ServicePort::tcp(format!("shop/s{n}").parse().unwrap(), 80),
            Arc::new(Export { endpoints, ..Export::default() }),
        )
    };
    let table = Table { exports: (0..10_000).map(export).collect(), ..Table::default() };
    let parts = sent(&History::new(Arc::new(table.clone()), 1).update(None));
    assert!(parts.len() > 4 && parts.iter().all(|part| part.encoded_len() <= PART + (1 << 10)));
    assert!(parts.iter().rev().skip(1).all(|part| !part.last) && parts.last().unwrap().last);
    let mut change = Change::default();
    parts.into_iter().for_each(|part| change.extend(read_part(part).unwrap().2));
    assert_eq!(change.apply(&Table::default(), 0), table);
}
