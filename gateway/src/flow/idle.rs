//! ● When a flow is over: nobody says so, it falls silent.

use std::time::{Duration, Instant};

/// How long a flow of one question and its answer lives on. Resolvers ask each question from a port of its own.
const ANSWERED: Duration = Duration::from_secs(10);
/// How much longer than the client's side the endpoint's waits for a silent flow: it is for that side to end it, which loses nothing.
const LONGER: Duration = Duration::from_secs(5);
/// How long a silent flow lives on in a gateway that drains: an answer that is under way still gets through.
const DRAINING: Duration = Duration::from_secs(2);

/// What has moved in a flow, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    timeout: Duration,
    longer: Duration,
    last: Instant,
    up: u64,
    down: u64,
}

impl Idle {
    /// A flow that begins with its first datagram from the client.
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, longer: Duration::ZERO, last: now, up: 0, down: 0 }
    }

    /// As [`Self::new`], at the endpoint's side of a tunnel.
    pub(crate) fn at_endpoint(timeout: Duration, now: Instant) -> Self {
        Self { longer: LONGER, ..Self::new(timeout, now) }
    }

    /// A datagram from the client.
    pub(crate) fn up(&mut self, now: Instant) {
        (self.up, self.last) = (self.up + 1, now);
    }

    /// A datagram from the endpoint.
    pub(crate) fn down(&mut self, now: Instant) {
        (self.down, self.last) = (self.down + 1, now);
    }

    /// Whether the endpoint has said anything.
    pub(crate) fn was_answered(&self) -> bool {
        self.down > 0
    }

    /// When the flow is over if nothing more moves.
    pub(crate) fn deadline(&self, draining: bool) -> Instant {
        let answered = self.up == 1 && self.down > 0;
        let silence = if answered { ANSWERED.min(self.timeout) } else { self.timeout } + self.longer;
        self.last + if draining { DRAINING.min(silence) } else { silence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_flow_ends_a_timeout_after_its_last_datagram_either_way() {
        let now = Instant::now();
        let mut idle = Idle::new(MINUTE, now);
        assert_eq!(idle.deadline(false), now + MINUTE);
        idle.up(now + MINUTE / 2);
        assert_eq!(idle.deadline(false), now + MINUTE + MINUTE / 2);
        idle.up(now + MINUTE);
        idle.down(now + 2 * MINUTE);
        assert_eq!(idle.deadline(false), now + 3 * MINUTE);
    }

    #[test]
    fn one_question_and_its_answer_do_not_stay_long() {
        let now = Instant::now();
        let mut idle = Idle::new(MINUTE, now);
        idle.up(now);
        assert_eq!(idle.deadline(false), now + MINUTE, "the answer may take its time");
        idle.down(now);
        assert_eq!(idle.deadline(false), now + ANSWERED);
        idle.up(now);
        assert_eq!(idle.deadline(false), now + MINUTE, "a conversation");
        let mut short = Idle::new(Duration::from_secs(1), now);
        short.up(now);
        short.down(now);
        assert_eq!(short.deadline(false), now + Duration::from_secs(1));
    }

    #[test]
    fn the_endpoints_side_outlasts_the_clients() {
        let now = Instant::now();
        let mut sides = [Idle::new(MINUTE, now), Idle::at_endpoint(MINUTE, now)];
        let moves: [fn(&mut Idle, Instant); 4] = [Idle::up, Idle::down, Idle::up, Idle::down];
        for moves in moves {
            sides.iter_mut().for_each(|side| moves(side, now));
            assert_eq!(sides[1].deadline(false), sides[0].deadline(false) + LONGER);
        }
    }

    #[test]
    fn a_drain_does_not_wait_for_the_silent() {
        let now = Instant::now();
        for idle in [Idle::new(MINUTE, now), Idle::at_endpoint(MINUTE, now)] {
            assert_eq!(idle.deadline(true), now + DRAINING);
        }
    }
}
