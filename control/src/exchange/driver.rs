//! Moves the frames of a [`Sender`] and of a [`Receiver`] over a stream, with a limit on every wait.

use super::{
    ExchangeError, Hello, Message, PATIENCE, Receiver, Sender, Summaries,
    frame::{self, FrameReader},
};
use std::{sync::Arc, time::Duration, time::Instant};
use tokio::{
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::watch,
    time::{sleep, sleep_until, timeout},
};

/// Between two messages of one peer: one that floods is slowed down by not being read.
const PACE: Duration = Duration::from_millis(5);

/// Sends `exports`, and every change of them, until the stream fails. `report` hears after every exchange whether the peer has all.
/// `Ok`: whoever owned `exports` is gone.
pub(crate) async fn send(
    stream: UnixStream,
    hello: Hello,
    mut exports: watch::Receiver<Arc<Summaries>>,
    mut report: impl FnMut(bool),
) -> Result<(), ExchangeError> {
    let (read, mut write) = stream.into_split();
    let mut reader = FrameReader::new(read);
    let first = exports.borrow_and_update().clone();
    let mut sender = Sender::new(hello, first, now());
    loop {
        while let Some(message) = sender.poll(now()) {
            put(&mut write, &message).await?;
        }
        tokio::select! {
            changed = exports.changed() => match changed {
                Ok(()) => sender.update(exports.borrow_and_update().clone(), now()),
                Err(_) => return Ok(()),
            },
            answer = reader.next() => {
                sender.answer(answer?)?;
                report(sender.is_synced());
            }
            () = sleep_until(sender.deadline().into()) => {
                if sender.expired(now()) {
                    return Err(ExchangeError::Silent);
                }
            }
        }
    }
}

/// Receives a peer's exports until the stream fails. `report` hears after every message what is known, and whether this stream has
/// brought a snapshot yet.
pub(crate) async fn receive(
    stream: UnixStream,
    mut receiver: Receiver,
    mut report: impl FnMut(&Receiver),
) -> ExchangeError {
    let (read, mut write) = stream.into_split();
    let mut reader = FrameReader::new(read);
    loop {
        match step(&mut reader, &mut write, &mut receiver).await {
            Ok(()) => report(&receiver),
            Err(error) => {
                // So that the other side's log says why, too. It may be gone: then there is nobody to tell.
                let farewell = Message::Nack { version: 0, reason: error.to_string() };
                let _ = timeout(PACE, frame::write(&mut write, &farewell)).await;
                return error;
            }
        }
        sleep(PACE).await;
    }
}

async fn step(
    reader: &mut FrameReader<tokio::net::unix::OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    receiver: &mut Receiver,
) -> Result<(), ExchangeError> {
    let message = timeout(PATIENCE, reader.next()).await.map_err(|_| ExchangeError::Silent)??;
    match receiver.receive(message)?.answer {
        Some(answer) => put(write, &answer).await,
        None => Ok(()),
    }
}

async fn put(stream: &mut OwnedWriteHalf, message: &Message) -> Result<(), ExchangeError> {
    Ok(timeout(PATIENCE, frame::write(stream, message)).await.map_err(|_| ExchangeError::Silent)??)
}

/// The runtime's clock, which is the one that its timers go by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
