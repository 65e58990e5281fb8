//! Moving a flow's datagrams both ways until it is over.

use super::{Ended, idle::Idle};
use crate::{busy, close::Closed, core::Core, meter::StreamMeter, metrics::reasons::Dropped};
use bytes::Bytes;
use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Instant,
};

pub(crate) mod client;
pub(crate) mod endpoint;
pub(crate) mod stream;

/// Datagrams moved each way before the other tasks of the core have their turn.
const ROUNDS: usize = 64;

/// One end of a flow in this gateway: its client, its stream, or its endpoint.
pub(crate) trait End {
    /// The next datagram from there. `scratch` is 64 KiB to read into.
    fn poll_next(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Result<Bytes, Ended>>;

    /// Takes a datagram there; `Pending`, and it is asked with the same one again, while that takes no more.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, datagram: &Bytes) -> Poll<Result<Delivery, Ended>>;

    /// Takes in what has come from there while the other end takes nothing, so that it does not get old unseen.
    fn hold(&mut self, _: &mut Context<'_>, _scratch: &mut [u8]) -> Result<(), Ended> {
        Ok(())
    }

    /// Sends what was taken and has not gone yet, as far as it goes now.
    fn flush(&mut self, _: &mut Context<'_>) -> Result<(), Ended> {
        Ok(())
    }

    /// The flow is over: how many datagrams that leaves behind here. Those that may open it again stay.
    fn abandon(&mut self) -> u64 {
        0
    }

    /// How many datagrams from there were dropped, since this was last asked, because nobody asked for them in time.
    fn take_dropped(&mut self) -> u64 {
        0
    }
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is on its way.
    Done,
    /// It is on its way on the stream, since beside it there go no more than so many bytes.
    Framed(usize),
    /// It was dropped.
    Dropped(Dropped),
}

/// Moves datagrams between `client`'s side and `upstream`'s until one of them ends, nothing moves any more, or `stop` says why.
pub(crate) async fn copy(
    core: &Core,
    client: &mut impl End,
    upstream: &mut impl End,
    idle: &mut Idle,
    meter: &mut StreamMeter<'_>,
    stop: impl Future<Output = Ended>,
) -> Ended {
    let (mut up, mut down) = (Way::default(), Way::default());
    let (mut stop, mut draining) = (pin!(stop), pin!(core.common.draining.cancelled()));
    let mut drains = false;
    let mut timer = pin!(tokio::time::sleep_until(idle.deadline(drains).into()));
    let ended = poll_fn(|cx| {
        if let Poll::Ready(why) = stop.as_mut().poll(cx) {
            return Poll::Ready(why);
        }
        let mut tally = Tally { core, idle, meter, one: up_one };
        let moved = up.pass(cx, client, upstream, &mut tally).and_then(|first| {
            tally.one = down_one;
            Ok(down.pass(cx, upstream, client, &mut tally)? || first)
        });
        meter.datagrams_dropped(Dropped::Slow, client.take_dropped() + upstream.take_dropped());
        match moved {
            Err(ended) => return Poll::Ready(ended),
            Ok(true) => cx.waker().wake_by_ref(),
            Ok(false) => {}
        }
        drains = drains || draining.as_mut().poll(cx).is_ready();
        let deadline = idle.deadline(drains);
        // An answer and a drain make it earlier. Every datagram makes it later, and for that the timer is not touched each time.
        if deadline < timer.deadline().into_std() {
            timer.as_mut().reset(deadline.into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(Ended::Closed(Closed::Idle));
            }
            timer.as_mut().reset(deadline.into());
        }
        Poll::Pending
    })
    .await;
    let left = [up.0, down.0].iter().flatten().count() as u64 + upstream.abandon();
    meter.datagrams_dropped(Dropped::Ended, left);
    ended
}

/// One way of a flow: a datagram that the other end has not taken.
#[derive(Debug, Default)]
struct Way(Option<Bytes>);

impl Way {
    /// Moves what there is, up to [`ROUNDS`] datagrams; whether there may be more at once.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl End,
        to: &mut impl End,
        tally: &mut Tally<'_, '_>,
    ) -> Result<bool, Ended> {
        let (core, mut moved) = (tally.core, 0);
        while moved < ROUNDS {
            let datagram = match self.0.take() {
                Some(datagram) => datagram,
                None => match from.poll_next(cx, &mut core.scratch.borrow_mut()) {
                    Poll::Ready(datagram) => datagram?,
                    Poll::Pending => break,
                },
            };
            // Beyond its rate a flow loses datagrams, as on a path that is too narrow: late ones are worth less.
            let delivered = if tally.meter.held.has_room() {
                to.poll_deliver(cx, &datagram)
            } else {
                Poll::Ready(Ok(Delivery::Dropped(Dropped::Rate)))
            };
            match delivered {
                Poll::Ready(delivery) => tally.note(delivery?, datagram.len()),
                Poll::Pending => {
                    self.0 = Some(datagram);
                    from.hold(cx, &mut core.scratch.borrow_mut())?;
                    break;
                }
            }
            moved += 1;
        }
        to.flush(cx)?;
        if moved > 0 {
            busy::worked(Instant::now());
        }
        Ok(moved == ROUNDS)
    }
}

/// Who counts what passes one way.
struct Tally<'t, 'm> {
    core: &'t Core,
    idle: &'t mut Idle,
    meter: &'t mut StreamMeter<'m>,
    one: fn(&Core, &mut Idle, &mut StreamMeter<'_>, Delivery, usize),
}

impl Tally<'_, '_> {
    fn note(&mut self, delivery: Delivery, size: usize) {
        (self.one)(self.core, self.idle, self.meter, delivery, size);
    }
}

/// Counts a datagram from the client.
pub(super) fn up_one(core: &Core, idle: &mut Idle, meter: &mut StreamMeter<'_>, delivery: Delivery, size: usize) {
    idle.up(Instant::now());
    if moved(core, meter, delivery, size) {
        meter.datagram_up(size);
    }
}

/// Counts a datagram from the endpoint.
fn down_one(core: &Core, idle: &mut Idle, meter: &mut StreamMeter<'_>, delivery: Delivery, size: usize) {
    idle.down(Instant::now());
    if moved(core, meter, delivery, size) {
        meter.datagram_down(size);
    }
}

/// Notes what became of a datagram besides; whether it is on its way.
fn moved(core: &Core, meter: &mut StreamMeter<'_>, delivery: Delivery, size: usize) -> bool {
    match delivery {
        Delivery::Done => true,
        Delivery::Framed(limit) => {
            tracing::trace!(service = %meter.service(), size, limit, "too large for a datagram of the tunnel");
            meter.datagram_framed();
            true
        }
        Delivery::Dropped(why) => {
            meter.datagrams_dropped(why, 1);
            if why == Dropped::TooLarge && core.may_warn_too_large(Instant::now()) {
                let hint = "IPv4 takes no more than 65507 bytes";
                tracing::warn!(service = %meter.service(), size, hint, "a datagram was too large to be delivered");
            }
            false
        }
    }
}
