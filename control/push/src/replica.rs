//! ● A gateway's copy of the table: what it takes, and what it does not.

use crate::{
    change::Change,
    convert::{self, Malformed},
    digest::Digest,
    feed::Position,
    wire,
};
use isthmus_control_api::Table;
use prost::Message as _;
use std::sync::Arc;

/// Entries that one update may have; a table has at most 10,000 imports, 10,000 exports, 256 links, 50,000 sources and 1,000
/// policies.
const ENTRIES: usize = 100_000;
/// Endpoints that one update may have, all together.
const ENDPOINTS: usize = 1_000_000;

/// The table that a gateway has from control.
#[derive(Debug)]
pub struct Replica {
    table: Arc<Table>,
    position: Position,
    /// Of an update that is not whole yet.
    arrived: Option<Arrived>,
}

#[derive(Debug)]
struct Arrived {
    from: Option<Digest>,
    to: Position,
    change: Change,
    endpoints: usize,
}

/// Why an update is not taken. The table stays what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It comes from a control whose term is over, or leads back.
    #[error("found {found}, expected nothing before {has}, which this gateway has: another control is newer")]
    Fenced {
        /// What came.
        found: String,
        /// What is here.
        has: String,
    },
    /// It does not begin with what is here, or does not lead to what it says: the whole table is needed.
    #[error("{0}")]
    NeedsAll(&'static str),
    /// This gateway cannot serve this table.
    #[error("{0}")]
    Rejected(String),
    /// It is against the rules of the protocol.
    #[error("{0}")]
    Malformed(String),
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.to_string())
    }
}

impl Replica {
    /// Begins with a table of that term, which is kept from before; the empty one of term 0 if none is.
    pub fn new(table: Arc<Table>, term: u64) -> Self {
        let position = Position { term, version: table.version, digest: Digest::of(&table) };
        Self { table, position, arrived: None }
    }

    /// The table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Which one it is; `None` if there never was one.
    pub fn position(&self) -> Option<Position> {
        (self.position.age() > (0, 0)).then_some(self.position)
    }

    /// Forgets what has arrived of an update: its stream has ended.
    pub fn begin(&mut self) {
        self.arrived = None;
    }

    /// Takes a part of an update. `Some` once it is whole: the table has changed then, or at least its position. `fits` says why this
    /// gateway cannot serve a table, if so.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub(crate) fn take(
        &mut self,
        part: wire::Part,
        fits: impl FnOnce(&Table) -> Result<(), String>,
    ) -> Result<Option<Position>, (Position, Refusal)> {
        let last = part.last;
        let read = convert::read_part(part);
        let (from, to, change) = read.map_err(|malformed| (self.position, malformed.into()))?;
        let taken = self.add(from, to, change).and_then(|()| if last { self.finish(fits).map(Some) } else { Ok(None) });
        taken.map_err(|refusal| {
            self.arrived = None;
            (to, refusal)
        })
    }

    /// The same of a part's bytes.
    ///
    /// # Errors
    /// See [`Refusal`]; bytes that are no part are [`Refusal::Malformed`].
    pub fn take_bytes(&mut self, part: &[u8]) -> Result<Option<Position>, Refusal> {
        let part = wire::Part::decode(part).map_err(|error| Refusal::Malformed(error.to_string()))?;
        self.take(part, |_| Ok(())).map_err(|(_, refusal)| refusal)
    }

    fn add(&mut self, from: Option<Digest>, to: Position, change: Change) -> Result<(), Refusal> {
        self.fence(&to)?;
        let arrived = self.arrived.get_or_insert_with(|| Arrived { from, to, change: Change::default(), endpoints: 0 });
        if (arrived.from, arrived.to) != (from, to) {
            return Err(Refusal::Malformed("a part of another update than the one before".into()));
        }
        arrived.endpoints += change.exports.values().flatten().map(|export| export.endpoints.len()).sum::<usize>();
        arrived.change.extend(change);
        if arrived.change.len() > ENTRIES || arrived.endpoints > ENDPOINTS {
            let expected = format!("at most {ENTRIES} entries and {ENDPOINTS} endpoints");
            return Err(Refusal::Rejected(format!("found a larger table, expected {expected}")));
        }
        Ok(())
    }

    /// A control of an earlier term has nothing to say, and none takes back what it has said.
    fn fence(&self, to: &Position) -> Result<(), Refusal> {
        let (age, own) = (to.age(), self.position.age());
        // Two controls in one term, which must not be.
        let forged = age == own && to.digest != self.position.digest;
        if age < own || forged {
            return Err(Refusal::Fenced { found: to.to_string(), has: self.position.to_string() });
        }
        Ok(())
    }

    fn finish(&mut self, fits: impl FnOnce(&Table) -> Result<(), String>) -> Result<Position, Refusal> {
        let Some(Arrived { from, to, change, .. }) = self.arrived.take() else {
            return Err(Refusal::Malformed("the end of no update".into()));
        };
        let empty = Table::default();
        let (before, digest) = match from {
            Some(from) if from == self.position.digest => (&*self.table, from),
            Some(_) => return Err(Refusal::NeedsAll("the delta begins with another table than the one here")),
            None => (&empty, Digest::of(&empty)),
        };
        if digest.after(before, &change) != to.digest {
            return Err(Refusal::NeedsAll("the update does not lead to the table that it says"));
        }
        let table = change.apply(before, to.version);
        fits(&table).map_err(Refusal::Rejected)?;
        self.table = Arc::new(table);
        self.position = to;
        Ok(to)
    }
}

#[cfg(test)]
mod tests;
