//! A client: one stream after the other, of all kinds, each looked at to its end.

use crate::{
    dice::Dice,
    server::{Wish, head},
    tally::{Fault, Tally},
};
use isthmus_tests::{End, Netns, Pattern, Received, client, endpoint};
use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

/// Where clients are, and what they may use.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    pub(crate) pods: Arc<Netns>,
    /// Through the tunnel.
    pub(crate) far: SocketAddr,
    /// To an endpoint of the client's own cluster.
    pub(crate) near: SocketAddr,
}

/// The kinds of streams, and how many of 32 are of each: through the tunnel, and in the cluster.
const KINDS: [(Kind, u64, [&str; 2]); 8] = [
    (Kind::Short, 10, ["short", "short, near"]),
    (Kind::Chat, 6, ["chat", "chat, near"]),
    (Kind::Download, 4, ["download", "download, near"]),
    (Kind::Slowly, 2, ["slow download", "slow download, near"]),
    (Kind::Upload, 4, ["upload", "upload, near"]),
    (Kind::Both, 2, ["both ways", "both ways, near"]),
    (Kind::ResetByClient, 2, ["reset by the client", "reset by the client, near"]),
    (Kind::ResetByEndpoint, 2, ["reset by the endpoint", "reset by the endpoint, near"]),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Short,
    Chat,
    Download,
    Slowly,
    Upload,
    Both,
    ResetByClient,
    ResetByEndpoint,
}

/// Goes on until then.
pub(crate) async fn run(ways: Ways, mut dice: Dice, until: Instant, tally: Arc<Tally>) {
    while Instant::now() < until {
        let mut which = dice.between(0, 32);
        let (kind, _, names) = KINDS
            .iter()
            .find(|(_, share, _)| {
                let found = which < *share;
                which = which.saturating_sub(*share);
                found
            })
            .unwrap_or(&KINDS[0]);
        let is_near = dice.between(0, 4) == 0;
        let restarts = tally.restarts();
        let result = stream(&ways, *kind, is_near, &mut dice).await;
        tally.add(names[usize::from(is_near)], restarts, result);
        sleep(Duration::from_millis(dice.between(0, 20))).await;
    }
}

/// One stream, from its beginning to its end; the bytes that were compared.
async fn stream(ways: &Ways, kind: Kind, is_near: bool, dice: &mut Dice) -> Result<u64, Fault> {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let seed = dice.next();
    let to = if is_near { ways.near } else { ways.far };
    let mut stream = client::connect(&ways.pods, to).await?;
    let stream = &mut stream;
    match kind {
        Kind::Short => {
            let length = dice.between(1, 4 * KIB);
            echo(stream, &[length], seed, dice).await
        }
        Kind::Chat => {
            let lengths: Vec<_> = (0..dice.between(20, 200)).map(|_| dice.between(1, 2 * KIB)).collect();
            echo(stream, &lengths, seed, dice).await
        }
        Kind::Both => {
            let length = dice.of_any_size(64 * KIB, 8 * MIB);
            echo(stream, &[length], seed, dice).await
        }
        Kind::Download | Kind::Slowly => {
            let is_slow = matches!(kind, Kind::Slowly);
            let length = dice.of_any_size(KIB, if is_slow { 4 * MIB } else { 16 * MIB });
            stream.write_all(&head(Wish::Source, seed, length)).await?;
            let (burst, pause) =
                if is_slow { (dice.between(16, 512) * KIB, dice.between(1, 30)) } else { (u64::MAX, 0) };
            let received = client::receive_slowly(stream, burst, Duration::from_millis(pause)).await;
            whole(&received, seed, length)
        }
        Kind::Upload => {
            let length = dice.of_any_size(KIB, 16 * MIB);
            stream.write_all(&head(Wish::Sink, seed, length)).await?;
            client::send(stream, seed, length).await?;
            stream.shutdown().await?;
            let mut digest = [0; 32];
            stream.read_exact(&mut digest).await?;
            if &digest != Pattern::digest(seed, length).as_bytes() {
                return Err(Fault::Wrong(format!("the endpoint had other bytes than the {length} that were sent")));
            }
            ended(stream).await?;
            Ok(length)
        }
        Kind::ResetByClient => {
            stream.write_all(&head(Wish::Echo, seed, 0)).await?;
            let bytes = taken(seed, dice.of_any_size(1, 256 * KIB));
            client::exchange(stream, &bytes).await?;
            // The rest is under way when it is reset.
            stream.write_all(&taken(seed, dice.of_any_size(1, 32 * KIB))).await?;
            let gone = std::mem::replace(stream, client::connect(&ways.pods, to).await?);
            endpoint::reset(gone);
            // The next one of the same client is not touched by it.
            echo(stream, &[100], seed, dice).await.map(|more| more + bytes.len() as u64)
        }
        Kind::ResetByEndpoint => {
            let length = dice.of_any_size(1, 256 * KIB);
            stream.write_all(&head(Wish::Reset, seed, length)).await?;
            let mut came = vec![0; usize::try_from(length).unwrap_or_default()];
            stream.read_exact(&mut came).await?;
            if came != taken(seed, length) {
                return Err(Fault::Wrong(format!("of {length} bytes before a reset some are wrong")));
            }
            stream.write_all(b"!").await?;
            match client::receive(stream).await {
                Received { bytes: 0, end: End::Error(ErrorKind::ConnectionReset), .. } => Ok(length),
                Received { bytes, end, .. } => {
                    Err(Fault::Wrong(format!("found {bytes} more bytes and {end:?}, expected a reset")))
                }
            }
        }
    }
}

/// Says these many bytes after each other, each when those before have come back; then both ends.
async fn echo(stream: &mut TcpStream, lengths: &[u64], seed: u64, dice: &mut Dice) -> Result<u64, Fault> {
    stream.write_all(&head(Wish::Echo, seed, 0)).await?;
    let mut pattern = Pattern::new(seed);
    for length in lengths {
        client::exchange(stream, &pattern.take(usize::try_from(*length).unwrap_or_default())).await?;
        if dice.between(0, 16) == 0 {
            sleep(Duration::from_millis(dice.between(1, 50))).await;
        }
    }
    stream.shutdown().await?;
    ended(stream).await?;
    Ok(lengths.iter().sum())
}

fn taken(seed: u64, length: u64) -> Vec<u8> {
    Pattern::new(seed).take(usize::try_from(length).unwrap_or_default())
}

async fn ended(stream: &mut TcpStream) -> Result<(), Fault> {
    let rest = client::receive(stream).await;
    whole(&rest, 0, 0).map(drop)
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
