//! A client: one stream after the other, of all kinds, each looked at to its end.

use crate::{
    dice::Dice,
    restarts::{Side, Visit},
    talk::{Kind, Talk, taken},
    tally::{Fault, Tally},
};
use isthmus_tests::{Netns, client, endpoint};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

/// No stream takes as long: the slowest one pauses for eight seconds in all.
const LONGEST: Duration = Duration::from_secs(180);

/// Where clients are, and what they may use.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    pub(crate) pods: Arc<Netns>,
    /// Through the tunnel.
    pub(crate) far: SocketAddr,
    /// To an endpoint of the client's own cluster.
    pub(crate) near: SocketAddr,
}

impl Ways {
    async fn connect(&self, side: Side) -> Result<TcpStream, Fault> {
        let to = match side {
            Side::West => self.near,
            Side::East => self.far,
        };
        Ok(client::connect(&self.pods, to).await?)
    }
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
        let side = if dice.between(0, 4) == 0 { Side::West } else { Side::East };
        tally.begin();
        let mut visit = tally.visit(side);
        let result = timeout(LONGEST, stream(&ways, *kind, &mut dice, &tally, &mut visit)).await;
        let late = || Err(Fault::Wrong(format!("it was not over after {} s", LONGEST.as_secs())));
        tally.end(names[usize::from(side == Side::West)], &visit, result.unwrap_or_else(|_| late()));
        sleep(Duration::from_millis(dice.between(0, 20))).await;
    }
}

/// One stream, from its beginning to its end; the bytes that were compared.
async fn stream(ways: &Ways, kind: Kind, dice: &mut Dice, tally: &Tally, visit: &mut Visit) -> Result<u64, Fault> {
    let mut talk = Talk::new(ways.connect(visit.side).await?);
    let told = talk.tell(kind, dice).await;
    visit.served = talk.served(&told).await;
    let bytes = checked(told, visit)?;
    if !matches!(kind, Kind::ResetByClient) {
        return Ok(bytes);
    }
    // The rest is under way when it is reset.
    let mut gone = talk.into_stream();
    gone.write_all(&taken(dice.next(), dice.of_any_size(1, 32 << 10))).await?;
    *visit = tally.visit(visit.side);
    let mut next = Talk::new(ways.connect(visit.side).await?);
    endpoint::reset(gone);
    // The next one of the same client is not touched by it.
    let told = next.tell(Kind::Short, dice).await;
    visit.served = next.served(&told).await;
    checked(told, visit).map(|more| more + bytes)
}

/// Whoever answers is where he is to be.
fn checked(told: Result<u64, Fault>, visit: &Visit) -> Result<u64, Fault> {
    match visit.served {
        Some(served) if served.side != visit.side => {
            Err(Fault::Wrong(format!("{} has answered, expected {}", served.side.name(), visit.side.name())))
        }
        _ => told,
    }
}
