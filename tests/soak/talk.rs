//! What a client and an endpoint say to each other on one connection, and what is wrong with it.

use crate::{
    dice::Dice,
    restarts::Served,
    server::{Wish, head},
    tally::Fault,
};
use isthmus_tests::{
    End, Pattern, Received,
    client::{self, STALL_BOUND},
};
use std::{
    io::{self, ErrorKind},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Of what kind it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Short,
    Chat,
    Download,
    Slowly,
    Upload,
    Both,
    /// The first part of it: the client resets it afterwards.
    ResetByClient,
    ResetByEndpoint,
}

/// A connection of a client's.
#[derive(Debug)]
pub(crate) struct Talk {
    stream: TcpStream,
    /// Who has answered.
    served: Option<Served>,
}

impl Talk {
    /// Nothing has been said.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, served: None }
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Who has answered, also where the reset of `told` came before that was read.
    pub(crate) async fn served(&mut self, told: &Result<u64, Fault>) -> Option<Served> {
        if matches!(told, Err(Fault::Reset)) {
            // There is nothing to wait for on a socket that has failed.
            let _ = timeout(Duration::from_secs(1), self.hear()).await;
        }
        self.served
    }

    /// All of it; the bytes that were compared.
    pub(crate) async fn tell(&mut self, kind: Kind, dice: &mut Dice) -> Result<u64, Fault> {
        let seed = dice.next();
        match kind {
            Kind::Short => {
                let length = dice.between(1, 4 * KIB);
                self.echo(&[length], seed, dice).await
            }
            Kind::Chat => {
                let lengths: Vec<_> = (0..dice.between(20, 200)).map(|_| dice.between(1, 2 * KIB)).collect();
                self.echo(&lengths, seed, dice).await
            }
            Kind::Both => {
                let length = dice.of_any_size(64 * KIB, 8 * MIB);
                self.echo(&[length], seed, dice).await
            }
            Kind::Download => {
                let length = dice.of_any_size(KIB, 16 * MIB);
                self.download(seed, length, (u64::MAX, 0)).await
            }
            Kind::Slowly => {
                let length = dice.of_any_size(KIB, 4 * MIB);
                let pace = (dice.between(16, 512) * KIB, dice.between(1, 30));
                self.download(seed, length, pace).await
            }
            Kind::Upload => {
                let length = dice.of_any_size(KIB, 16 * MIB);
                self.upload(seed, length).await
            }
            Kind::ResetByClient => {
                self.stream.write_all(&head(Wish::Echo, seed, 0)).await?;
                let bytes = taken(seed, dice.of_any_size(1, 256 * KIB));
                self.exchange(&bytes).await.map(|()| bytes.len() as u64)
            }
            Kind::ResetByEndpoint => {
                let length = dice.of_any_size(1, 256 * KIB);
                self.be_reset(seed, length).await
            }
        }
    }

    /// Says these many bytes after each other, each when those before have come back; then both end.
    async fn echo(&mut self, lengths: &[u64], seed: u64, dice: &mut Dice) -> Result<u64, Fault> {
        self.stream.write_all(&head(Wish::Echo, seed, 0)).await?;
        let mut pattern = Pattern::new(seed);
        for length in lengths {
            self.exchange(&pattern.take(usize::try_from(*length).unwrap_or_default())).await?;
            if dice.between(0, 16) == 0 {
                sleep(Duration::from_millis(dice.between(1, 50))).await;
            }
        }
        self.stream.shutdown().await?;
        self.ended().await?;
        Ok(lengths.iter().sum())
    }

    /// Takes so many bytes, with a pause of milliseconds after so many of them.
    async fn download(&mut self, seed: u64, length: u64, (burst, pause): (u64, u64)) -> Result<u64, Fault> {
        self.stream.write_all(&head(Wish::Source, seed, length)).await?;
        self.hear().await?;
        let received = client::receive_slowly(&mut self.stream, burst, Duration::from_millis(pause)).await;
        whole(&received, seed, length)
    }

    async fn upload(&mut self, seed: u64, length: u64) -> Result<u64, Fault> {
        self.stream.write_all(&head(Wish::Sink, seed, length)).await?;
        client::send(&mut self.stream, seed, length).await?;
        self.stream.shutdown().await?;
        self.hear().await?;
        let mut digest = [0; 32];
        self.stream.read_exact(&mut digest).await?;
        if &digest != Pattern::digest(seed, length).as_bytes() {
            return Err(Fault::Wrong(format!("the endpoint had other bytes than the {length} that were sent")));
        }
        self.ended().await?;
        Ok(length)
    }

    /// Takes so many bytes, and has the endpoint reset the connection then.
    async fn be_reset(&mut self, seed: u64, length: u64) -> Result<u64, Fault> {
        self.stream.write_all(&head(Wish::Reset, seed, length)).await?;
        self.hear().await?;
        let mut came = vec![0; usize::try_from(length).unwrap_or_default()];
        self.stream.read_exact(&mut came).await?;
        if came != taken(seed, length) {
            return Err(Fault::Wrong(format!("of {length} bytes before a reset some are wrong")));
        }
        self.stream.write_all(b"!").await?;
        match client::receive(&mut self.stream).await {
            Received { bytes: 0, end: End::Error(ErrorKind::ConnectionReset), .. } => Ok(length),
            Received { bytes, end, .. } => {
                Err(Fault::Wrong(format!("found {bytes} more bytes and {end:?}, expected a reset")))
            }
        }
    }

    /// Who answers, if that has not been heard yet.
    async fn hear(&mut self) -> Result<(), Fault> {
        if self.served.is_none() {
            let heard = timeout(STALL_BOUND, Served::hear(&mut self.stream)).await;
            let heard = heard.map_err(|_| io::Error::from(ErrorKind::TimedOut))?;
            self.served = Some(heard.map_err(unheard)?);
        }
        Ok(())
    }

    /// Sends `bytes` and reads as many back, behind who answers.
    async fn exchange(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Self { stream, served } = self;
        let (mut reader, mut writer) = stream.split();
        let mut back = vec![0; bytes.len()];
        let reading = async {
            if served.is_none() {
                *served = Some(Served::hear(&mut reader).await.map_err(unheard)?);
            }
            reader.read_exact(&mut back).await
        };
        let both = async { tokio::try_join!(writer.write_all(bytes), reading) };
        timeout(STALL_BOUND, both).await.map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
        if back == bytes { Ok(()) } else { Err(Fault::Wrong(format!("of {} bytes other ones came back", bytes.len()))) }
    }

    /// Nothing more comes but the end.
    async fn ended(&mut self) -> Result<(), Fault> {
        let rest = client::receive(&mut self.stream).await;
        whole(&rest, 0, 0).map(drop)
    }
}

/// A clean end before that is as bad as any, and says itself no more than "early eof".
fn unheard(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it ended in order, and no endpoint had answered"),
        _ => error,
    }
}

pub(crate) fn taken(seed: u64, length: u64) -> Vec<u8> {
    Pattern::new(seed).take(usize::try_from(length).unwrap_or_default())
}

/// Whether it is all of the pattern, or, where it was reset, the beginning of it.
fn whole(received: &Received, seed: u64, length: u64) -> Result<u64, Fault> {
    let Received { bytes, digest, end } = *received;
    if bytes > length || digest != Pattern::digest(seed, bytes) {
        return Err(Fault::Wrong(format!("{bytes} bytes of {length} came, and not the right ones")));
    }
    match end {
        End::Fin if bytes == length => Ok(length),
        End::Error(ErrorKind::ConnectionReset) => Err(Fault::Reset),
        end => Err(Fault::Wrong(format!("{bytes} bytes of {length} came, then {end:?}"))),
    }
}

#[cfg(test)]
mod tests;
