//! ● Shares that are kept to the stream: smooth weighted round robin.
//!
//! With each stream everybody is credited its share, whoever has most credit takes the stream, and pays for all. After any number of
//! streams nobody is more than one or two from its share.

use super::client::{Client, Seat};

/// Whose turn it is. The state of one core for one import.
#[derive(Debug, Default, Clone)]
pub struct Rotation {
    turns: Vec<Turn>,
    round: u64,
}

#[derive(Debug, Clone)]
struct Turn {
    seat: Seat,
    credit: i64,
    /// When it was there last.
    round: u64,
}

impl Rotation {
    /// Which of `shares` has the next stream; `None` if none has a share. Where it begins depends on `random`: cores are not to begin
    /// alike.
    pub fn next<T>(&mut self, shares: impl Iterator<Item = (T, Seat, u64)>, random: u64) -> Option<T> {
        self.round += 1;
        let (mut total, mut count, mut best) = (0, 0, None);
        for (item, seat, share) in shares.filter(|(_, _, share)| *share > 0) {
            let share = i64::try_from(share).unwrap_or(i64::MAX >> 16).min(i64::MAX >> 16);
            let index = self.index_of(seat, share, random);
            let turn = &mut self.turns[index];
            (turn.round, turn.credit) = (self.round, turn.credit.saturating_add(share));
            (total, count) = (total + share, count + 1);
            if best.as_ref().is_none_or(|(_, most, _)| turn.credit > *most) {
                best = Some((index, turn.credit, item));
            }
        }
        let (index, _, item) = best?;
        self.turns[index].credit -= total;
        if self.turns.len() > count {
            let round = self.round;
            self.turns.retain(|turn| turn.round == round);
        }
        Some(item)
    }

    fn index_of(&mut self, seat: Seat, share: i64, random: u64) -> usize {
        self.turns.iter().position(|turn| turn.seat == seat).unwrap_or_else(|| {
            let credit = (Client::any(random).score(seat) % share.unsigned_abs()).cast_signed();
            self.turns.push(Turn { seat, credit, round: self.round });
            self.turns.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the shares are, and wherever it begins.
        #[test]
        fn nobody_is_far_from_its_share(shares in proptest::collection::vec(0_u64..200, 1..8), random: u64, streams in 1_u64..3000) {
            let seats: Vec<_> = (0..shares.len()).map(|i| Seat::of_name(&format!("c{i}"))).collect();
            let (mut rotation, mut counts) = (Rotation::default(), vec![0_u64; shares.len()]);
            let total: u64 = shares.iter().sum();
            for _ in 0..streams {
                let all = shares.iter().enumerate().map(|(i, &share)| (i, seats[i], share));
                match rotation.next(all, random) {
                    Some(index) => counts[index] += 1,
                    None => prop_assert_eq!(total, 0),
                }
            }
            for (&count, &share) in counts.iter().zip(&shares) {
                let due = streams * share / total.max(1);
                prop_assert!(count.abs_diff(due) <= 2 + shares.len() as u64, "{:?} of {:?}", counts, shares);
            }
        }
    }

    #[test]
    fn who_is_gone_is_forgotten_and_the_others_share() {
        let mut rotation = Rotation::default();
        let seats = ["a", "b", "c"].map(Seat::of_name);
        for _ in 0..10 {
            rotation.next(seats.iter().map(|&seat| ((), seat, 5)), 1);
        }
        let mut counts = [0_u32; 2];
        for _ in 0..100 {
            counts[rotation.next([(0, seats[0], 3), (1, seats[1], 1)].into_iter(), 1).unwrap()] += 1;
        }
        assert!(counts[0].abs_diff(75) <= 3, "{counts:?}");
        assert_eq!(rotation.turns.len(), 2);
    }
}
