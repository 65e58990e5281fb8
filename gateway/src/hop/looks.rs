//! ● When it is looked whether a connection of the local hop is to be taken out of it, as it moves bulk by TCP: one that is still in the kernel's
//! maps pays for that, and gains nothing.

use std::cell::Cell;

/// Bytes that a connection moves between two looks. A look is two system calls.
const OFTEN: u64 = 1 << 20;
/// Where something is unread still, it is looked again after so much, and each time after twice as much: the other end may never have everything
/// read …
const SOON: u64 = 64 * 1024;
/// … up to this.
const SELDOM: u64 = 16 << 20;

/// One connection's looks.
#[derive(Debug)]
pub(super) struct Looks {
    /// Bytes until the next one.
    left: Cell<u64>,
    /// And from that one to another, where something is unread.
    again: Cell<u64>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { left: Cell::new(OFTEN), again: Cell::new(SOON) }
    }
}

impl Looks {
    /// So many bytes were read or written; whether to look now. Then one of the others is called.
    pub(super) fn moved(&self, bytes: usize) -> bool {
        self.left.set(self.left.get().saturating_sub(bytes as u64));
        self.left.get() == 0
    }

    /// It stays as it is for now.
    pub(super) fn stays(&self) {
        self.left.set(OFTEN);
    }

    /// Something is unread.
    pub(super) fn not_yet(&self) {
        self.left.set(self.again.get());
        self.again.set(SELDOM.min(2 * self.again.get()));
    }

    /// There is nothing to look for any more.
    pub(super) fn over(&self) {
        self.left.set(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(looks: &Looks, bytes: u64, then: impl Fn(&Looks)) -> usize {
        let times = bytes / 4096;
        (0..times).filter(|_| looks.moved(4096)).inspect(|_| then(looks)).count()
    }

    #[test]
    fn one_that_stays_is_looked_at_now_and_then() {
        assert_eq!(looks(&Looks::default(), OFTEN - 4096, Looks::stays), 0);
        assert_eq!(looks(&Looks::default(), 50 * OFTEN, Looks::stays), 50);
    }

    #[test]
    fn one_that_is_to_go_soon_and_then_ever_more_seldom() {
        let one = Looks::default();
        assert_eq!(looks(&one, OFTEN + 3 * SOON, Looks::not_yet), 3);
        let (first, second) = (looks(&one, 64 * OFTEN, Looks::not_yet), looks(&one, 64 * OFTEN, Looks::not_yet));
        assert!(first > second && (3..6).contains(&second), "{first} {second}");
    }

    #[test]
    fn one_that_is_out_never() {
        let one = Looks::default();
        assert_eq!(looks(&one, OFTEN, Looks::over), 1);
        assert_eq!(looks(&one, 100 * OFTEN, Looks::over), 0);
    }
}
