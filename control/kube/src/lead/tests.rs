use super::*;
use proptest::prelude::*;

/// The API server's one Lease: a write with an old version is refused.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn write(&mut self, turn: Turn) -> Option<Lease> {
        let (lease, is_current) = match turn {
            Turn::Wait => return None,
            Turn::Create(lease) => (lease, self.lease.is_none()),
            Turn::Replace(lease) => {
                let known = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
                let is_current = lease.metadata.resource_version == known;
                (lease, is_current)
            }
        };
        if !is_current {
            return None;
        }
        let mut lease = *lease;
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Some(lease)
    }
}

fn stamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Looks and does what follows, all at `now`; whether it leads then.
fn look(election: &mut Election, server: &mut Server, now: Instant, stamp: Timestamp) -> bool {
    let turn = election.saw(server.lease.as_ref(), now, stamp);
    let writes = turn != Turn::Wait;
    match server.write(turn) {
        Some(stored) => election.stored(stored, now),
        None if writes => election.refused(),
        None => {}
    }
    election.term().is_some_and(|term| now < term.until)
}

fn replica(identity: &str) -> Election {
    Election::new("isthmus", identity, Times::default())
}

#[test]
fn the_first_takes_it_and_the_second_waits_for_as_long_as_it_lasts() {
    let (start, mut server) = (Instant::now(), Server::default());
    let (mut a, mut b) = (replica("a"), replica("b"));
    assert!(look(&mut a, &mut server, start, stamp(0)));
    assert_eq!(a.term().unwrap().epoch, 1);
    // b sees it late, and counts from then, whatever the stamps in it say.
    assert!(!look(&mut b, &mut server, start + secs(14), stamp(1_000_000)));
    assert!(!look(&mut b, &mut server, start + secs(28), stamp(1_000_000)));
    assert!(look(&mut b, &mut server, start + secs(29), stamp(1_000_000)));
    assert_eq!(b.term().unwrap().epoch, 2);
    // a, back from wherever it was, knows at the first look.
    assert!(!look(&mut a, &mut server, start + secs(30), stamp(0)));
    assert_eq!(a.term(), None);
}

#[test]
fn a_renewal_counts_from_when_it_was_sent() {
    let (start, mut server) = (Instant::now(), Server::default());
    let mut a = replica("a");
    look(&mut a, &mut server, start, stamp(0));
    let stored = server.write(a.renewal(stamp(1)).unwrap()).unwrap();
    a.stored(stored, start + secs(2));
    assert_eq!(a.term(), Some(Term { epoch: 1, until: start + secs(12) }));
}

#[test]
fn who_gave_up_goes_on_where_nobody_has_taken_it() {
    let (start, mut server) = (Instant::now(), Server::default());
    let mut a = replica("a");
    look(&mut a, &mut server, start, stamp(0));
    let later = start + secs(60);
    assert!(a.term().unwrap().until < later);
    assert!(look(&mut a, &mut server, later, stamp(60)));
    assert_eq!(a.term().unwrap().epoch, 1, "nobody wrote in between");
}

#[test]
fn what_is_given_back_is_free_at_once_and_the_epoch_grows() {
    let (start, mut server) = (Instant::now(), Server::default());
    let (mut a, mut b) = (replica("a"), replica("b"));
    look(&mut a, &mut server, start, stamp(0));
    assert!(!look(&mut b, &mut server, start, stamp(0)));
    let released = a.release(stamp(1)).unwrap();
    server.write(Turn::Replace(Box::new(released))).unwrap();
    assert!(look(&mut b, &mut server, start, stamp(1)));
    assert_eq!(b.term().unwrap().epoch, 2);
}

#[test]
fn a_lease_that_somebody_removed_goes_on_from_the_epochs_that_are_known() {
    let (start, mut server) = (Instant::now(), Server::default());
    let (mut a, mut b) = (replica("a"), replica("b"));
    look(&mut a, &mut server, start, stamp(0));
    look(&mut b, &mut server, start, stamp(0));
    assert!(look(&mut b, &mut server, start + secs(15), stamp(0)));
    server.lease = None;
    assert!(!a.saw(server.lease.as_ref(), start + secs(16), stamp(0)).eq(&Turn::Wait));
    assert!(look(&mut b, &mut server, start + secs(16), stamp(0)));
    assert_eq!(b.term().unwrap().epoch, 3);
}

/// What may happen to one of three replicas.
#[derive(Debug, Clone)]
struct Move {
    who: usize,
    /// How long until it begins, in milliseconds.
    after: u64,
    /// How long its write is on its way before it is stored.
    takes: u64,
}

proptest! {
    /// Whatever is delayed and whoever stalls: two replicas never both believe that they may write.
    #[test]
    fn there_is_never_a_second_writer(moves in prop::collection::vec(
        (0usize..3, 0u64..6000, 0u64..12_000).prop_map(|(who, after, takes)| Move { who, after, takes }), 1..120))
    {
        let (mut now, mut server) = (Instant::now(), Server::default());
        let mut replicas: Vec<_> = ["a", "b", "c"].map(replica).into_iter().collect();
        let mut epochs = std::collections::BTreeMap::new();
        for Move { who, after, takes } in moves {
            now += Duration::from_millis(after);
            // Each replica's stamps are of a clock of its own.
            let turn = replicas[who].saw(server.lease.as_ref(), now, stamp(who as i64 * 1_000_000));
            let sent = now;
            now += Duration::from_millis(takes);
            let writes = turn != Turn::Wait;
            match server.write(turn) {
                Some(stored) => replicas[who].stored(stored, sent),
                None if writes => replicas[who].refused(),
                None => {}
            }
            let leading: Vec<_> = (0..3).filter(|&n| replicas[n].term().is_some_and(|term| now < term.until)).collect();
            prop_assert!(leading.len() <= 1, "{leading:?} at once");
            for n in leading {
                let epoch = replicas[n].term().unwrap().epoch;
                prop_assert_eq!(*epochs.entry(epoch).or_insert(n), n, "an epoch is one replica's");
            }
        }
    }
}
