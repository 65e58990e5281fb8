//! What a peer exports, from its messages: the receiving side of one stream. Pure.

use super::{Delta, ExchangeError, Message, PROTOCOL, Summaries};
use isthmus_control_api::ClusterName;
use std::sync::Arc;

/// The receiving side of one stream of the exchange.
#[derive(Debug)]
pub struct Receiver {
    /// The cluster that the peer's certificate names.
    peer: ClusterName,
    stage: Stage,
    view: Arc<Summaries>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Hello,
    Snapshot,
    Synced { version: u64 },
}

/// What a message leads to.
#[derive(Debug, PartialEq, Eq)]
pub struct Reaction {
    /// What to answer.
    pub answer: Option<Message>,
    /// Whether [`Receiver::view`] is another than before.
    pub changed: bool,
}

impl Receiver {
    /// The receiver of a new stream that `peer` opened. `view` is what is known of it from before: it holds until a snapshot
    /// replaces it, since a new stream says nothing yet.
    pub fn new(peer: ClusterName, view: Arc<Summaries>) -> Self {
        Self { peer, stage: Stage::Hello, view }
    }

    /// What the peer exports, as far as it is known.
    pub fn view(&self) -> &Arc<Summaries> {
        &self.view
    }

    /// Whether this stream has brought a snapshot.
    pub fn is_synced(&self) -> bool {
        matches!(self.stage, Stage::Synced { .. })
    }

    /// Loses track of the version, as only a faulty receiver does.
    #[cfg(test)]
    pub(super) fn forget(&mut self) {
        if let Stage::Synced { version } = &mut self.stage {
            *version += 1000;
        }
    }

    /// Takes the peer's next message.
    ///
    /// # Errors
    /// It is not who it must be, or this message does not belong here. The stream is to be closed; the view stays.
    pub fn receive(&mut self, message: Message) -> Result<Reaction, ExchangeError> {
        match (self.stage, message) {
            (Stage::Hello, Message::Hello(hello)) if hello.protocol != PROTOCOL => {
                Err(ExchangeError::Protocol(hello.protocol))
            }
            (Stage::Hello, Message::Hello(hello)) if hello.cluster != self.peer => {
                Err(ExchangeError::WrongCluster(hello.cluster))
            }
            (Stage::Hello, Message::Hello(_)) => {
                self.stage = Stage::Snapshot;
                Ok(Reaction { answer: None, changed: false })
            }
            (Stage::Hello, _) => Err(ExchangeError::OutOfPlace("a message before hello")),
            (_, Message::Hello(_)) => Err(ExchangeError::OutOfPlace("a second hello")),
            (_, Message::Snapshot { version, services }) => {
                Ok(if services == *self.view { self.confirm(version) } else { self.replace(version, services) })
            }
            (Stage::Synced { version }, Message::Delta(delta)) => Ok(self.apply(version, delta)),
            (Stage::Synced { version: own }, Message::Heartbeat { version }) if own == version => {
                Ok(self.confirm(version))
            }
            (_, Message::Delta(Delta { to: version, .. }) | Message::Heartbeat { version }) => {
                Ok(refuse(version, "this side has another version"))
            }
            (_, Message::Ack { .. } | Message::Nack { .. }) => {
                Err(ExchangeError::OutOfPlace("an answer, where nothing was asked"))
            }
        }
    }

    fn apply(&mut self, own: u64, delta: Delta) -> Reaction {
        if delta.from != own {
            return refuse(delta.to, "this side has another version");
        }
        let mut view = (*self.view).clone();
        for service in &delta.removed {
            view.services.remove(service);
        }
        view.services.extend(delta.upserts);
        view.lacking = delta.lacking;
        if !view.fits() {
            return refuse(delta.to, "more than can be said");
        }
        self.replace(delta.to, view)
    }

    fn replace(&mut self, version: u64, view: Summaries) -> Reaction {
        self.view = Arc::new(view);
        Reaction { changed: true, ..self.confirm(version) }
    }

    fn confirm(&mut self, version: u64) -> Reaction {
        self.stage = Stage::Synced { version };
        Reaction { answer: Some(Message::Ack { version }), changed: false }
    }
}

fn refuse(version: u64, reason: &str) -> Reaction {
    Reaction { answer: Some(Message::Nack { version, reason: reason.into() }), changed: false }
}
