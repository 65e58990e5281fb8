//! The end of a core: nothing new is taken, and what there is may finish.

use super::{Core, Mail};
use crate::{listener::Listeners, peer::Links, stream};
use std::{
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::Interval};

/// Between the last SYN that is taken and the goodbye to the peers: for clients to be accepted, here or by another core, and to
/// open their streams. A tunnel that has said goodbye opens none.
const SETTLE: Duration = Duration::from_millis(100);

impl Core {
    /// Takes nothing new, lets streams finish, says goodbye to the peers; all of it until the deadline.
    pub(super) async fn drain(
        self: &Rc<Self>,
        listeners: Listeners,
        links: Links,
        mut mail: mpsc::Receiver<Mail>,
        mut tick: Interval,
    ) {
        listeners.begin_no_more();
        drop(links);
        let mut listeners = Some(listeners);
        let ending = self.common.ending.clone();
        let (mut settling, mut settled) = (pin!(tokio::time::sleep(SETTLE)), false);
        loop {
            tokio::select! {
                biased;
                () = ending.cancelled() => break,
                () = settling.as_mut(), if !settled => {
                    settled = true;
                    if let Some(listeners) = listeners.take() {
                        listeners.close(self);
                    }
                    self.peers.drain();
                    self.streams.close();
                }
                () = self.finished(), if settled => break,
                Some(mail) = mail.recv() => match mail {
                    Mail::Client(client) => stream::start(self, client),
                    Mail::Report(query) => self.report(query, &Listeners::default()),
                    Mail::Tunnel(..) | Mail::Exchange(..) | Mail::Datagram(_) | Mail::Relay(..) | Mail::Probe(_) => {}
                },
                // A core that drains is alive: nobody is to restart it for that.
                _ = tick.tick() => self.counters.beat(Instant::now()),
            }
        }
    }

    /// Waits until every stream has ended, here and for the peers; those, too, that a peer had opened before it heard of the drain,
    /// and that come in while others are being flushed.
    async fn finished(&self) {
        loop {
            self.streams.wait().await;
            self.peers.flushed().await;
            if self.streams.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        core::tests::{East, exporting, idle, linked},
        tunnel::{
            Tunnel as _,
            driver::tests::pair::{self, opened},
        },
    };
    use std::pin::pin;

    #[tokio::test(flavor = "local")]
    async fn what_a_peer_had_opened_before_it_heard_of_a_drain_is_served() {
        let (east, (address, _listener)) = (East::new(), idle().await);
        east.apply(exporting(linked(), &[address]));
        let west = east.peer(pair::SETTINGS).await;
        let mut crossing = west.tunnel.open(&pair::request("west")).unwrap();
        east.core.peers.drain();
        east.core.streams.close();
        let mut finished = pin!(east.core.finished());
        tokio::select! {
            biased;
            () = &mut finished => panic!("a stream has not come in"),
            answer = opened(&mut crossing) => answer.unwrap(),
        }
        drop(crossing);
        finished.await;
    }
}
