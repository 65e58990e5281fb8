//! ● What a connection loses while nothing waits on its path.
//!
//! Who fills a path fills its queue, and what that drops is his own doing: it says nothing of the path, on which another transport would
//! lose as much. BBR does so whenever it looks for what the path carries. So packets of a second in which round trips were clearly longer
//! than the least are not counted, nor those of the second after it, in which losses are found
//! (docs/decisions/0072-losses-of-ones-own.md).

use super::{Packets, anew};
use std::time::Duration;

/// A path that has been full for so many looks is like that: it is counted again.
const MOST: u32 = 30;

/// What is counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clear {
    seen: Packets,
    kept: Packets,
    /// The shortest round trip.
    least: Option<Duration>,
    /// Looks in a row at which the path was full.
    full: u32,
}

impl Clear {
    /// Looks at a connection that has sent and lost so much by now. Once a second.
    pub(super) fn look(&mut self, packets: Packets, rtt: Duration) {
        let (least, was_full) = (*self.least.insert(self.least.map_or(rtt, |least| least.min(rtt))), self.full);
        self.full = if anew::is_full(rtt, least) { was_full.saturating_add(1) } else { 0 };
        let seen = std::mem::replace(&mut self.seen, packets);
        if (was_full == 0 && self.full == 0) || self.full > MOST {
            self.kept.sent += packets.sent.saturating_sub(seen.sent);
            self.kept.lost += packets.lost.saturating_sub(seen.lost);
        }
    }

    /// What was sent and lost while nothing waited.
    pub(super) const fn packets(&self) -> Packets {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a thousand packets a second, ten are lost; the round trips at the end of each second, in milliseconds, on a path of 80.
    fn kept(rtts: impl IntoIterator<Item = u64>) -> u64 {
        let (mut clear, mut packets) = (Clear::default(), Packets::default());
        clear.look(packets, Duration::from_millis(80));
        for rtt in rtts {
            packets = packets + Packets { sent: 1000, lost: 10 };
            clear.look(packets, Duration::from_millis(rtt));
        }
        let kept = clear.packets();
        assert_eq!(kept.lost * 100, kept.sent);
        kept.sent / 1000
    }

    #[test]
    fn what_is_lost_while_something_waits_is_not_the_paths() {
        assert_eq!(kept([80, 85, 95, 80]), 4);
        assert_eq!(kept([80, 180, 180, 80, 80, 80]), 3, "nor what is found a second later");
        assert_eq!(kept([180]), 0);
    }

    #[test]
    fn a_path_that_is_always_full_is_counted_in_the_end() {
        assert_eq!(kept([180; 30]), 0);
        assert_eq!(kept([180; 40]), 10);
        assert_eq!(kept([[180; 30], [80; 30]].concat()), 29);
    }
}
