//! ● The line of streams that wait for room in the outgoing buffer.

use std::collections::VecDeque;

/// Who has been told of room and found it taken stands before those who took it: otherwise whoever is first asks for more first, too,
/// and has all of it for as long as he has something to send.
#[derive(Debug, Default)]
pub(super) struct Line {
    ids: VecDeque<u32>,
    /// How many at the front went away empty.
    empty_handed: usize,
}

impl Line {
    /// A stream waits; `again`: it was called and had nothing.
    pub(super) fn join(&mut self, id: u32, again: bool) {
        if again {
            self.ids.insert(self.empty_handed.min(self.ids.len()), id);
            self.empty_handed += 1;
        } else {
            self.ids.push_back(id);
        }
    }

    /// A stream waits no more.
    pub(super) fn leave(&mut self, id: u32) {
        if let Some(at) = self.ids.iter().position(|&other| other == id) {
            self.ids.remove(at);
            self.empty_handed -= usize::from(at < self.empty_handed);
        }
    }

    /// All that wait, in order: they are to look whether there is room.
    pub(super) fn call(&mut self) -> impl Iterator<Item = u32> + '_ {
        self.empty_handed = 0;
        self.ids.drain(..)
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls all; those who are called look in this order, and the first takes everything and wants more.
    fn turn(line: &mut Line) -> u32 {
        let called: Vec<_> = line.call().collect();
        for (place, &id) in called.iter().enumerate() {
            line.join(id, place > 0);
        }
        called[0]
    }

    #[test]
    fn everybody_has_his_turn() {
        let mut line = Line::default();
        (1..=4).for_each(|id| line.join(id, false));
        let served: Vec<_> = (0..9).map(|_| turn(&mut line)).collect();
        assert_eq!(served, [1, 2, 3, 4, 1, 2, 3, 4, 1]);
        line.join(5, false);
        assert_eq!((0..5).map(|_| turn(&mut line)).collect::<Vec<_>>(), [2, 3, 4, 1, 5]);
    }

    #[test]
    fn who_leaves_is_not_called_and_takes_nobody_s_place() {
        let mut line = Line::default();
        line.join(1, false);
        line.join(2, true);
        line.join(3, true);
        line.leave(2);
        line.leave(9);
        line.join(4, true);
        assert_eq!(line.len(), 3);
        assert_eq!(line.call().collect::<Vec<_>>(), [3, 4, 1]);
        assert_eq!(line.len(), 0);
    }
}
