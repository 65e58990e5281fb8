//! ● What gateways must not have more of in the end than at the start, both at rest and with the same files.

use std::collections::BTreeMap;

/// What a gateway has: how much of what.
pub(crate) type Taken = BTreeMap<String, u64>;

/// Resident memory.
pub(crate) const MEMORY: &str = "KiB of memory";
/// Memory that is granted as credit, or that buffers hold.
pub(crate) const GRANTED: &str = "KiB of granted memory";
/// What it has written to its log.
pub(crate) const LOG: &str = "KiB of log";
/// Its other files.
pub(crate) const DISK: &str = "KiB of files";
/// Threads that look at files and names, which come where there is something to do, and go when there was nothing for ten seconds.
pub(crate) const POOL: &str = "threads of pools";
/// Of the map `doors`.
pub(crate) const DOORS: &str = "entries of doors";

/// How much more there may be of it. `churned`: so often a file was changed, or an endpoint restarted.
fn may_grow(what: &str, churned: u64) -> u64 {
    match what {
        // What the allocator does not give back of what the load took at its highest.
        MEMORY => 32 << 10,
        // The window of a tunnel's own stream of exports grows with what it has seen of the path.
        GRANTED => 1 << 10,
        // A few lines for each, of which the longest have some hundred bytes.
        LOG => 64 + churned,
        DISK => 1 << 10,
        // A file that is looked at, one that is written and something of the cores', at the moment of the last look.
        POOL => 3,
        // Listeners of services that are left out of the local hop have none, at either look.
        DOORS => 2,
        _ => 0,
    }
}

/// What a gateway has more of at the end.
pub(crate) fn grown(gateway: &str, start: &Taken, end: &Taken, churned: u64) -> Vec<String> {
    let before = |what| start.get(what).copied().unwrap_or(0);
    let grown = end.iter().filter(|(what, now)| **now > before(*what) + may_grow(what, churned));
    grown.map(|(what, now)| format!("{gateway} has {now} {what}, {} at the start", before(what))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(more: &[(&str, u64)]) -> Taken {
        let usual = [("streams", 0), ("TCP listeners", 8), ("entries of ends", 0), (MEMORY, 40 << 10), (LOG, 10)];
        usual.iter().chain(more).map(|(what, number)| ((*what).to_owned(), *number)).collect()
    }

    fn after(more: &[(&str, u64)]) -> Vec<String> {
        grown("west", &taken(&[]), &taken(more), 10)
    }

    #[test]
    fn whoever_has_what_he_had_or_less_has_not_grown() {
        for more in [&[][..], &[("TCP listeners", 7)], &[(MEMORY, 72 << 10), (LOG, 84), (DOORS, 2), (POOL, 3)]] {
            assert_eq!(after(more), Vec::<String>::new(), "{more:?}");
        }
    }

    #[test]
    fn whatever_has_grown_is_named() {
        assert_eq!(after(&[("TCP listeners", 9)]), ["west has 9 TCP listeners, 8 at the start"]);
        assert_eq!(after(&[("other sockets", 1)]), ["west has 1 other sockets, 0 at the start"]);
        for (what, number) in [
            ("streams", 1),
            ("entries of ends", 1),
            ("threads", 1),
            (POOL, 4),
            (MEMORY, (72 << 10) + 1),
            (LOG, 85),
            (DOORS, 3),
            (DISK, 1025),
        ] {
            let found = after(&[(what, number)]);
            assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
        }
        assert_eq!(after(&[("streams", 1), ("entries of ends", 2)]).len(), 2);
    }
}
