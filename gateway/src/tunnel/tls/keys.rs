//! Both directions' keys of one connection, their updates, and the messages that may follow a handshake.

use super::{
    layout::RecordBuffer,
    record::{ContentType, RecordError, RecordKey},
};
use rustls::{ExtractedSecrets, client::ClientConnectionData, kernel::KernelConnection, server::ServerConnectionData};

/// Records after which a sending key is replaced: half of what RFC 8446 section 5.5 allows AES-GCM (2^24.5).
const UPDATE_AFTER: u64 = 1 << 23;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// The key schedule behind the keys, which rustls keeps.
pub(super) enum Schedule {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

/// The keys of a connection after its handshake.
pub struct TrafficKeys {
    seal: RecordKey,
    open: RecordKey,
    schedule: Schedule,
    update_after: u64,
    update_asked: bool,
    update_queued: bool,
}

/// What a record held.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'r> {
    /// Bytes of the application.
    Data(&'r mut [u8]),
    /// A message of TLS itself; it has been dealt with.
    Handled,
    /// `close_notify`: nothing will follow.
    Closed,
}

/// Why a TLS connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// See [`RecordError`].
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The peer ended it with an alert.
    #[error("the peer sent the TLS alert {code} ({name})", code = .0, name = alert_name(*.0))]
    Alert(u8),
    /// A message that may not come after the handshake.
    #[error("a TLS handshake message out of place")]
    Unexpected,
    /// The key schedule failed.
    #[error("TLS keys: {0}")]
    Keys(#[from] rustls::Error),
}

impl TrafficKeys {
    pub(super) fn new(secrets: &ExtractedSecrets, schedule: Schedule) -> Result<Self, RecordError> {
        Ok(Self {
            seal: RecordKey::new(secrets.tx.0, &secrets.tx.1)?,
            open: RecordKey::new(secrets.rx.0, &secrets.rx.1)?,
            schedule,
            update_after: UPDATE_AFTER,
            update_asked: false,
            update_queued: false,
        })
    }

    /// Replaces the sending key after so many records instead: for tests of the update itself.
    #[must_use]
    pub fn updating_after(mut self, records: u64) -> Self {
        self.update_after = records;
        self
    }

    /// Seals a record without following what it says: for tests of what a peer may say.
    #[cfg(test)]
    pub(super) fn seal_raw(&mut self, content: ContentType, payload: &[u8]) -> Vec<u8> {
        let mut buffer = RecordBuffer::default();
        buffer.push(content, payload);
        let Some((record, _)) = buffer.closed_record(0) else { return Vec::new() };
        self.seal.seal(record, content).map(|()| record.to_vec()).unwrap_or_default()
    }

    /// Opens one whole record in place.
    ///
    /// # Errors
    /// The connection must end.
    pub fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<Opened<'r>, TlsError> {
        match self.open.open(record)? {
            (ContentType::Data, payload) => Ok(Opened::Data(payload)),
            (ContentType::Alert, &mut [_, 0]) => Ok(Opened::Closed),
            (ContentType::Alert, &mut [_, alert]) => Err(TlsError::Alert(alert)),
            (ContentType::Alert, _) => Err(RecordError::Malformed.into()),
            (ContentType::Handshake, messages) => self.handle(messages).map(|()| Opened::Handled),
        }
    }

    /// Seals every record of `buffer` from `from` on, until at least `target` bytes are sealed or all are; where it stopped.
    ///
    /// # Errors
    /// The connection must end.
    pub fn seal(&mut self, buffer: &mut RecordBuffer, from: usize, target: usize) -> Result<usize, TlsError> {
        let mut at = from;
        while at < from + target {
            let Some((record, content)) = buffer.closed_record(at) else { break };
            at += record.len();
            let updates = content == ContentType::Handshake;
            self.seal.seal(record, content)?;
            if updates {
                self.seal = self.next_seal_key()?;
                self.update_queued = false;
            }
        }
        Ok(at)
    }

    /// Queues a KeyUpdate where one is due; to be called before sealing what `buffer` holds.
    pub fn queue_update(&mut self, buffer: &mut RecordBuffer) {
        let due = self.update_asked || self.seal.used() >= self.update_after;
        if due && !self.update_queued {
            self.update_asked = false;
            self.update_queued = true;
            // KeyUpdate, length 1, update_not_requested.
            buffer.push(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 0]);
        }
    }

    /// Messages after the handshake (RFC 8446, section 4.6). None may span records here: ours never do, and nobody's tickets do.
    fn handle(&mut self, mut messages: &[u8]) -> Result<(), TlsError> {
        if messages.is_empty() {
            return Err(TlsError::Unexpected);
        }
        while let [kind, a, b, c, rest @ ..] = messages {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let (body, rest) = rest.split_at_checked(length).ok_or(TlsError::Unexpected)?;
            match (*kind, body, rest) {
                // Sessions are never resumed: tunnels are few and long. Only servers give tickets.
                (NEW_SESSION_TICKET, ..) if matches!(self.schedule, Schedule::Client(_)) => {}
                // Section 5.1: no message may follow one that changes the keys in its record.
                (KEY_UPDATE, [asked @ 0..=1], []) => {
                    self.update_asked |= *asked == 1;
                    self.open = self.next_open_key()?;
                }
                _ => return Err(TlsError::Unexpected),
            }
            messages = rest;
        }
        if messages.is_empty() { Ok(()) } else { Err(TlsError::Unexpected) }
    }

    fn next_seal_key(&mut self) -> Result<RecordKey, TlsError> {
        let (sequence, secrets) = match &mut self.schedule {
            Schedule::Client(schedule) => schedule.update_tx_secret()?,
            Schedule::Server(schedule) => schedule.update_tx_secret()?,
        };
        Ok(RecordKey::new(sequence, &secrets)?)
    }

    fn next_open_key(&mut self) -> Result<RecordKey, TlsError> {
        let (sequence, secrets) = match &mut self.schedule {
            Schedule::Client(schedule) => schedule.update_rx_secret()?,
            Schedule::Server(schedule) => schedule.update_rx_secret()?,
        };
        Ok(RecordKey::new(sequence, &secrets)?)
    }
}

impl std::fmt::Debug for TrafficKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrafficKeys").field("seal", &self.seal).field("open", &self.open).finish_non_exhaustive()
    }
}

/// The alerts that a peer's refusal comes with (RFC 8446, section 6).
fn alert_name(alert: u8) -> &'static str {
    match alert {
        10 => "unexpected_message",
        20 => "bad_record_mac",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        80 => "internal_error",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "unnamed",
    }
}
