//! ● Which endpoint was stopped when, and which streams that excuses: those that it served then, and no others.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Where an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// In the client's cluster.
    West,
    /// Behind the tunnel.
    East,
}

impl Side {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::West, Self::East];

    /// Its cluster's name.
    pub(crate) const fn name(self) -> &'static str {
        ["west", "east"][self as usize]
    }
}

/// Endpoints of each cluster.
pub(crate) const HOSTS: usize = 3;

/// What an endpoint says first: who it is, and how often it had been stopped or started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) side: Side,
    pub(crate) host: usize,
    pub(crate) life: u64,
}

impl Served {
    /// How it is said.
    pub(crate) fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        // There are three hosts.
        (bytes[0], bytes[1]) = (self.side as u8, self.host as u8);
        bytes[2..].copy_from_slice(&self.life.to_be_bytes());
        bytes
    }

    /// Hears it.
    ///
    /// # Errors
    /// Those of the socket, and `InvalidData` if it is nobody's name.
    pub(crate) async fn hear(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = [0; 10];
        from.read_exact(&mut bytes).await?;
        let [side, host, life @ ..] = bytes;
        let known = Side::ALL.get(usize::from(side)).filter(|_| usize::from(host) < HOSTS);
        let nobody = || format!("endpoint {host} of cluster {side} has answered, which is nobody");
        let side = *known.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, nobody()))?;
        Ok(Self { side, host: host.into(), life: u64::from_be_bytes(life) })
    }
}

/// How often each endpoint has been stopped or started: odd while it is stopped.
#[derive(Debug, Default)]
pub(crate) struct Restarts([[u64; HOSTS]; 2]);

/// A client's connection, as far as restarts go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit {
    /// Where its endpoint is to be.
    pub(crate) side: Side,
    /// The lives of all endpoints there when it began.
    lives: [u64; HOSTS],
    /// Who has answered, if anybody has.
    pub(crate) served: Option<Served>,
}

impl Restarts {
    /// An endpoint is about to be stopped: what it serves is cut from now on.
    pub(crate) fn stop(&mut self, side: Side, host: usize) {
        self.0[side as usize][host] += 1;
    }

    /// It is about to be started again, and is this one then.
    pub(crate) fn start(&mut self, side: Side, host: usize) -> Served {
        let life = &mut self.0[side as usize][host];
        *life += 1;
        Served { side, host, life: *life }
    }

    /// A connection to one of the endpoints of a cluster begins.
    pub(crate) fn visit(&self, side: Side) -> Visit {
        Visit { side, lives: self.0[side as usize], served: None }
    }

    /// Whether `visit` may have been reset: the endpoint that has answered was stopped since. If none had, one that may have been about to.
    pub(crate) fn excuse(&self, visit: &Visit) -> bool {
        let lives = &self.0[visit.side as usize];
        match visit.served {
            Some(served) => self.0[served.side as usize][served.host] != served.life,
            None => *lives != visit.lives || lives.iter().any(|life| !life.is_multiple_of(2)),
        }
    }

    /// How often endpoints were stopped.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().flatten().map(|life| life.div_ceil(2)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(visit: Visit, side: Side, host: usize, life: u64) -> Visit {
        Visit { served: Some(Served { side, host, life }), ..visit }
    }

    #[test]
    fn only_what_the_stopped_endpoint_served_is_excused() {
        let mut restarts = Restarts::default();
        let visit = restarts.visit(Side::East);
        let [mine, others] = [0, 1].map(|host| served(visit, Side::East, host, 0));
        assert!(!restarts.excuse(&mine) && !restarts.excuse(&visit));
        restarts.stop(Side::East, 0);
        assert!(restarts.excuse(&mine));
        assert!(!restarts.excuse(&others), "another endpoint serves it");
        assert_eq!(restarts.start(Side::East, 0), Served { side: Side::East, host: 0, life: 2 });
        assert!(restarts.excuse(&mine), "however late it is seen");
        let next = served(restarts.visit(Side::East), Side::East, 0, 2);
        assert!(!restarts.excuse(&next), "the one that was started again has not been stopped");
        assert_eq!(restarts.count(), 1);
    }

    #[test]
    fn before_anybody_has_answered_any_endpoint_of_the_cluster_may_have_been_the_one() {
        let mut restarts = Restarts::default();
        let (before, elsewhere) = (restarts.visit(Side::East), restarts.visit(Side::West));
        restarts.stop(Side::East, 2);
        assert!(restarts.excuse(&before) && !restarts.excuse(&elsewhere));
        assert!(restarts.excuse(&restarts.visit(Side::East)), "its listener may still be closing");
        restarts.start(Side::East, 2);
        assert!(!restarts.excuse(&restarts.visit(Side::East)));
    }

    #[tokio::test]
    async fn names_are_heard_as_they_are_said() {
        let named = Served { side: Side::East, host: 2, life: 1 << 40 };
        assert_eq!(Served::hear(&mut &named.to_bytes()[..]).await.unwrap(), named);
        for nobody in [[2, 0], [0, 3]] {
            let mut said = named.to_bytes();
            said[..2].copy_from_slice(&nobody);
            assert_eq!(Served::hear(&mut &said[..]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
