//! What the peer's frames do (docs/wire.md, "Streams" and "Errors").

use super::{Event, MAX_CREDIT, Mux, STATUS_LIMIT, Settings, Stream};
use crate::tunnel::mux::{
    frame::{self, Frame, Kind, ProtocolError},
    path::PathReport,
};

impl<T: Default> Mux<T> {
    /// Takes the next frame off a record's payload; `None` at its end.
    ///
    /// # Errors
    /// The peer broke the protocol: the connection must end.
    pub fn receive<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, ProtocolError> {
        let Some(frame) = frame::next(input)? else { return Ok(None) };
        match (frame.kind, self.peer.is_some()) {
            (Kind::Hello, false) => self.receive_hello(frame).map(Some),
            (Kind::Hello, true) => Err(ProtocolError::Order(Kind::Hello, "HELLO has been said")),
            (kind, false) => Err(ProtocolError::Order(kind, "HELLO was expected")),
            (_, true) => self.receive_frame(frame).map(Some),
        }
    }

    fn receive_frame<'i>(
        &mut self,
        Frame { kind, stream: id, payload }: Frame<'i>,
    ) -> Result<Event<'i>, ProtocolError> {
        let for_connection = matches!(kind, Kind::Ping | Kind::Pong | Kind::Goaway | Kind::Path | Kind::Limit);
        if for_connection != (id == 0) {
            return Err(ProtocolError::BadStream(kind, id));
        }
        match kind {
            Kind::Data => self.receive_data(id, payload),
            Kind::Open => self.receive_open(id, payload),
            Kind::Opened => self.receive_opened(id, payload),
            Kind::Credit => self.receive_credit(id, payload),
            Kind::Fin => self.with_stream(kind, id, |stream| {
                let first = !std::mem::replace(&mut stream.fin_received, true);
                if first { Ok(Event::Fin(id)) } else { Err(ProtocolError::BadStream(kind, id)) }
            }),
            Kind::Rst => self.with_stream(kind, id, |stream| {
                stream.reset = true;
                Ok(Event::Rst(id))
            }),
            Kind::Ping => {
                self.put(Kind::Pong, 0, &[payload]);
                Ok(Event::Nothing)
            }
            Kind::Pong => {
                let token = payload.try_into().map_or(0, u64::from_be_bytes);
                self.flush.answer(token);
                Ok(Event::Pong(token))
            }
            Kind::Goaway => {
                self.heard_goaway = true;
                self.goaway();
                Ok(Event::Goaway)
            }
            Kind::Path => Ok(Event::Path(PathReport::from_bytes(payload))),
            Kind::Limit => {
                let limit = payload.first_chunk().map_or(u32::MAX, |limit| u32::from_be_bytes(*limit));
                Ok(Event::Limit(limit))
            }
            Kind::Hello => Ok(Event::Nothing),
        }
    }

    fn receive_hello<'i>(&mut self, frame: Frame<'i>) -> Result<Event<'i>, ProtocolError> {
        if frame.stream != 0 {
            return Err(ProtocolError::BadStream(Kind::Hello, frame.stream));
        }
        let peer = Settings::from_bytes(frame.payload)?;
        self.peer = Some(peer);
        Ok(Event::Ready(peer))
    }

    fn receive_open<'i>(&mut self, id: u32, payload: &'i [u8]) -> Result<Event<'i>, ProtocolError> {
        if self.is_ours(id) || id <= self.last_peer_id || self.heard_goaway {
            return Err(ProtocolError::BadStream(Kind::Open, id));
        }
        self.last_peer_id = id;
        let Some(peer) = self.peer else { return Err(ProtocolError::Order(Kind::Open, "HELLO was expected")) };
        let refused = if self.opened_by_peer >= self.local.max_streams {
            Some(("too many streams on this tunnel", Event::Full))
        } else if !self.budget.take_for_peer(self.local.window as usize) {
            Some(("the memory budget is used up", Event::Nothing))
        } else {
            None
        };
        if let Some((why, event)) = refused {
            self.put(Kind::Opened, id, &[&[STATUS_LIMIT, 1], why.as_bytes()]);
            return Ok(event);
        }
        self.opened_by_peer += 1;
        self.insert(id, peer, T::default(), false);
        Ok(Event::Open(id, payload))
    }

    fn receive_opened<'i>(&mut self, id: u32, payload: &'i [u8]) -> Result<Event<'i>, ProtocolError> {
        if !self.is_ours(id) {
            return Err(ProtocolError::BadStream(Kind::Opened, id));
        }
        self.with_stream(Kind::Opened, id, |stream| {
            if std::mem::replace(&mut stream.answered, true) {
                return Err(ProtocolError::BadStream(Kind::Opened, id));
            }
            stream.reset = payload[0] != 0;
            Ok(Event::Opened(id, payload[0], payload[1] == 1, &payload[2..]))
        })
    }

    fn receive_data<'i>(&mut self, id: u32, payload: &'i [u8]) -> Result<Event<'i>, ProtocolError> {
        self.with_stream(Kind::Data, id, |stream| {
            if stream.fin_received {
                return Err(ProtocolError::BadStream(Kind::Data, id));
            }
            if !stream.window.receive(payload.len()) {
                return Err(ProtocolError::CreditExceeded(id));
            }
            Ok(Event::Data(id, payload))
        })
    }

    fn receive_credit<'i>(&mut self, id: u32, payload: &[u8]) -> Result<Event<'i>, ProtocolError> {
        let more = payload.try_into().map_or(0, u32::from_be_bytes) as usize;
        if more == 0 {
            return Err(ProtocolError::NoCredit(id));
        }
        self.with_stream(Kind::Credit, id, |stream| {
            stream.credit = stream.credit.saturating_add(more);
            if stream.credit > MAX_CREDIT { Err(ProtocolError::CreditOverflow(id)) } else { Ok(Event::Credit(id)) }
        })
    }

    /// Frames for a stream that is over, here or on their way, concern nobody; for one that never was they are an error.
    fn with_stream<'i>(
        &mut self,
        kind: Kind,
        id: u32,
        act: impl FnOnce(&mut Stream<T>) -> Result<Event<'i>, ProtocolError>,
    ) -> Result<Event<'i>, ProtocolError> {
        let was = if self.is_ours(id) { id < self.next_id } else { id <= self.last_peer_id };
        match self.streams.get_mut(&id) {
            Some(stream) if stream.reset => Ok(Event::Nothing),
            Some(stream) => act(stream),
            None if was => Ok(Event::Nothing),
            None => Err(ProtocolError::BadStream(kind, id)),
        }
    }
}
