//! ● What a connection loses while it does not fill its path.
//!
//! Who fills a path fills its queue, and what that drops is his own doing: it says nothing of the path, on which another transport would
//! lose as much. BBR does so whenever it looks for what the path carries. So packets of a second in which much was sent and round trips
//! were clearly longer than the least are not counted, nor those of the second after it, in which losses are found
//! (docs/decisions/0072-losses-of-ones-own.md).

use super::{Packets, anew};
use std::time::Duration;

/// Who sends fewer packets in a second fills no path, and may not know its round trip well.
const MUCH: u64 = 50;
/// What was left out of so many looks in a row says how the path is after all: all is counted, until nothing waits any more.
const MOST: u32 = 15;

/// What is counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clear {
    seen: Packets,
    kept: Packets,
    was_full: bool,
    /// Looks in a row that were not counted, or that would not have been.
    left_out: u32,
}

impl Clear {
    /// Looks at a connection that has sent and lost so much by now, at its round trip and the shortest one. Once a second.
    pub(super) fn look(&mut self, packets: Packets, rtt: Duration, least_rtt: Duration) {
        let seen = std::mem::replace(&mut self.seen, packets);
        let (sent, lost) = (packets.sent.saturating_sub(seen.sent), packets.lost.saturating_sub(seen.lost));
        let is_full = sent >= MUCH && anew::is_full(rtt, least_rtt);
        let was_full = std::mem::replace(&mut self.was_full, is_full);
        self.left_out = if is_full || was_full { self.left_out.saturating_add(1) } else { 0 };
        if self.left_out == 0 || self.left_out > MOST {
            self.kept = self.kept + Packets { sent, lost };
        }
    }

    /// What was sent and lost while the path was not filled.
    pub(super) const fn packets(&self) -> Packets {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these seconds are counted, on a path of 80 ms: in each so many packets are sent, and the round trip is as long in its
    /// end.
    fn counted(seconds: impl IntoIterator<Item = (u64, u64)>) -> u64 {
        let (mut clear, mut packets, mut counted) = (Clear::default(), Packets::default(), 0);
        for (sent, rtt) in seconds {
            packets = packets + Packets { sent, lost: sent / 10 };
            let before = clear.packets();
            clear.look(packets, Duration::from_millis(rtt), Duration::from_millis(80));
            let more = clear.packets().sent - before.sent;
            assert!([0, sent].contains(&more) && clear.packets().lost - before.lost == more / 10);
            counted += u64::from(more > 0);
        }
        counted
    }

    fn much<const N: usize>(rtts: [u64; N]) -> u64 {
        counted(rtts.map(|rtt| (1000, rtt)))
    }

    #[test]
    fn what_is_lost_by_filling_the_path_is_not_the_paths() {
        assert_eq!(much([80, 85, 95, 80]), 4);
        assert_eq!(much([80, 180, 180, 80, 80, 80]), 3, "nor what is found a second later");
        assert_eq!(much([180]), 0);
    }

    #[test]
    fn who_sends_little_fills_nothing() {
        assert_eq!(counted([(40, 180); 100]), 100);
        // The round trip of a transfer is known for long after it, and says nothing.
        assert_eq!(counted([&[(10, 200); 60][..], &[(1000, 180), (1000, 80), (1000, 80)]].concat()), 61);
    }

    #[test]
    fn a_path_that_is_always_full_is_counted_in_the_end() {
        assert_eq!(much([180; 40]), 25);
        assert_eq!(counted([(1000, 180), (1000, 80)].repeat(20)), 25, "one that is full again and again, too");
        assert_eq!(counted([vec![(1000, 180); 14], vec![(1000, 80); 3], vec![(1000, 180); 14]].concat()), 2);
    }
}
