//! Sender and receiver against each other, over a stream that loses, breaks and is made again.

use super::{samples::any_summaries, *};
use proptest::{collection, prelude::*};
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// What can happen next.
#[derive(Debug, Clone)]
enum Step {
    /// The exporter's state becomes this.
    Change(Summaries),
    /// Time passes.
    Wait(Duration),
    /// The sender says what it has to say.
    Send,
    /// The receiver takes one message.
    Deliver,
    /// The sender takes one answer.
    Answer,
    /// The stream is lost with all that is under way, and made again.
    Reconnect,
    /// The receiver loses track, as a faulty one could.
    Forget,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any_summaries().prop_map(Step::Change),
        3 => (0..12_000u64).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        6 => Just(Step::Send),
        6 => Just(Step::Deliver),
        6 => Just(Step::Answer),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Forget),
    ]
}

/// Two clusters' ends of one direction of the exchange.
struct Pair {
    now: Instant,
    truth: Arc<Summaries>,
    sender: Sender,
    receiver: Receiver,
    messages: VecDeque<Vec<u8>>,
    answers: VecDeque<Message>,
    /// Every state that was ever true: the receiver may show no other.
    history: Vec<Arc<Summaries>>,
}

fn hello() -> Hello {
    Hello { protocol: PROTOCOL, cluster: "east".parse().unwrap(), epoch: 1 }
}

impl Pair {
    fn new(truth: Summaries) -> Self {
        let (now, truth) = (Instant::now(), Arc::new(truth));
        Self {
            now,
            sender: Sender::new(hello(), truth.clone(), now),
            receiver: Receiver::new("east".parse().unwrap(), Arc::default()),
            messages: VecDeque::new(),
            answers: VecDeque::new(),
            history: vec![Arc::default(), truth.clone()],
            truth,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(truth) => {
                self.truth = Arc::new(truth);
                self.history.push(self.truth.clone());
                self.sender.update(self.truth.clone(), self.now);
            }
            Step::Wait(time) => {
                self.now += time;
                if self.sender.expired(self.now) {
                    self.reconnect();
                }
            }
            Step::Send => self.messages.extend(self.sender.poll(self.now).map(|message| message.encode())),
            Step::Deliver => {
                if let Some(bytes) = self.messages.pop_front() {
                    let reaction = self.receiver.receive(decode(&bytes).unwrap()).unwrap();
                    self.answers.extend(reaction.answer);
                    assert!(self.history.contains(self.receiver.view()), "a state that never was");
                }
            }
            Step::Answer => {
                if let Some(answer) = self.answers.pop_front() {
                    self.sender.answer(answer).unwrap();
                }
            }
            Step::Reconnect => self.reconnect(),
            Step::Forget => self.receiver.forget(),
        }
    }

    fn reconnect(&mut self) {
        self.sender = Sender::new(hello(), self.truth.clone(), self.now);
        self.receiver = Receiver::new("east".parse().unwrap(), self.receiver.view().clone());
        self.messages.clear();
        self.answers.clear();
    }

    /// Lets everything happen that can, until neither side has more to say.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.step(Step::Wait(COALESCE));
            for step in [Step::Send, Step::Send, Step::Deliver, Step::Deliver, Step::Answer] {
                self.step(step);
            }
        }
        // One heartbeat finds what the receiver lost.
        self.step(Step::Wait(HEARTBEAT));
        for _ in 0..4 {
            for step in [Step::Send, Step::Deliver, Step::Answer] {
                self.step(step);
            }
        }
    }
}

proptest! {
    #[test]
    fn the_view_becomes_the_truth(start in any_summaries(), steps in collection::vec(any_step(), 0..120)) {
        let mut pair = Pair::new(start);
        for step in steps {
            pair.step(step);
        }
        pair.settle();
        prop_assert_eq!(pair.receiver.view(), &pair.truth);
        prop_assert!(pair.sender.is_synced());
    }
}

fn summaries(ready: &[u32]) -> Summaries {
    let name = |n: usize| format!("shop/s{n}").parse().unwrap();
    let services = ready.iter().enumerate().map(|(n, &ready)| (name(n), Arc::new(samples::summary(80, ready))));
    Summaries { services: services.collect(), ..Summaries::default() }
}

#[test]
fn an_empty_list_is_believed_only_from_a_snapshot() {
    let known = Arc::new(summaries(&[1, 2]));
    let mut receiver = Receiver::new("east".parse().unwrap(), known.clone());
    receiver.receive(Message::Hello(hello())).unwrap();
    assert_eq!(receiver.view(), &known, "a new stream says nothing yet");
    assert!(!receiver.is_synced());
    let reaction = receiver.receive(Message::Snapshot { version: 1, services: Summaries::default() }).unwrap();
    assert_eq!(reaction, Reaction { answer: Some(Message::Ack { version: 1 }), changed: true });
    assert!(receiver.view().services.is_empty() && receiver.is_synced());
}

#[test]
fn changes_of_a_burst_go_out_together() {
    let mut pair = Pair::new(summaries(&[1, 1, 1]));
    pair.settle();
    for ready in 2..20 {
        pair.step(Step::Change(summaries(&[1, ready, 1])));
        pair.step(Step::Wait(Duration::from_millis(2)));
        pair.step(Step::Send);
    }
    assert!(pair.messages.is_empty(), "it waits for the burst's end");
    pair.step(Step::Wait(COALESCE));
    pair.step(Step::Send);
    pair.step(Step::Send);
    let sent = decode(&pair.messages[0]).unwrap();
    assert!(matches!(&sent, Message::Delta(delta) if delta.upserts.len() == 1), "{sent:?}");
    assert_eq!(pair.messages.len(), 1);
}

#[test]
fn a_snapshot_that_is_refused_ends_the_stream() {
    let mut sender = Sender::new(hello(), Arc::default(), Instant::now());
    sender.poll(Instant::now());
    sender.poll(Instant::now());
    let refused = sender.answer(Message::Nack { version: 1, reason: "no".into() });
    assert!(matches!(refused, Err(ExchangeError::Refused(_))), "{refused:?}");
}

#[test]
fn messages_out_of_place_are_refused() {
    let receiver = || Receiver::new("east".parse().unwrap(), Arc::default());
    let greeted = || {
        let mut receiver = receiver();
        receiver.receive(Message::Hello(hello())).unwrap();
        receiver
    };
    let snapshot = Message::Snapshot { version: 1, services: Summaries::default() };
    assert!(receiver().receive(snapshot).is_err(), "before hello");
    assert!(greeted().receive(Message::Hello(hello())).is_err(), "a second hello");
    assert!(greeted().receive(Message::Ack { version: 1 }).is_err(), "an answer");
    let other = Hello { cluster: "south".parse().unwrap(), ..hello() };
    assert!(matches!(receiver().receive(Message::Hello(other)), Err(ExchangeError::WrongCluster(_))));
    let newer = Hello { protocol: PROTOCOL + 1, ..hello() };
    assert!(matches!(receiver().receive(Message::Hello(newer)), Err(ExchangeError::Protocol(3))));
    let delta = Message::Delta(Delta { from: 0, to: 1, ..Delta::default() });
    let reaction = greeted().receive(delta).unwrap();
    assert!(matches!(reaction.answer, Some(Message::Nack { version: 1, .. })), "a delta before a snapshot");
}

#[test]
fn deltas_do_not_grow_past_the_limit() {
    let mut receiver = Receiver::new("east".parse().unwrap(), Arc::default());
    receiver.receive(Message::Hello(hello())).unwrap();
    let full = summaries(&[1; crate::MAX_SERVICE_PORTS]);
    receiver.receive(Message::Snapshot { version: 1, services: full }).unwrap();
    let one = [("shop/more".parse().unwrap(), Arc::new(samples::summary(1, 1)))].into();
    let delta = Message::Delta(Delta { from: 1, to: 2, upserts: one, ..Delta::default() });
    assert!(matches!(receiver.receive(delta).unwrap().answer, Some(Message::Nack { version: 2, .. })));
    assert_eq!(receiver.view().services.len(), crate::MAX_SERVICE_PORTS);
}
