//! A stream that stays in its cluster: from one local socket to another, with no tunnel. What is little is copied; bulk is spliced.

pub(crate) mod pipe;

use super::{
    early::Early,
    paced::{self, Failed},
};
use crate::{busy, close::Closed, core::Core, meter::StreamMeter, socket::Socket, tunnel::StreamError};
use pipe::{NoPipe, Pipe};
use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll, ready},
    time::Instant,
};

/// Moves each way before the other way and the other tasks of the core have their turn.
const ROUNDS: usize = 4;

impl Failed {
    fn endpoint(error: io::Error) -> Self {
        Self { is_far: true, error: StreamError::Socket(error) }
    }

    fn client(error: io::Error) -> Self {
        Self { is_far: false, error: StreamError::Socket(error) }
    }
}

/// One way of a local stream: bytes read that the other socket has not taken yet, and whether the reading side has ended.
#[derive(Default)]
struct Way {
    waiting: Vec<u8>,
    at: usize,
    /// There while it moves bulk.
    pipe: Option<Pipe>,
    /// Whether it is never to have one: one was not worth it.
    only_copies: bool,
    ended: bool,
    done: bool,
    moved: u64,
}

/// Copies between the client and the endpoint until both ways have ended. `early`: what the client has said before.
pub(crate) async fn copy(
    core: &Core,
    (client, endpoint): (&Socket, &Socket),
    early: Early,
    meter: &mut StreamMeter<'_>,
) -> Closed {
    let result = match meter.held.pace() {
        Some(pace) => Box::pin(paced::copy(&pace, client, &mut paced::Local::far(endpoint), early, meter)).await,
        None => copy_all(core, (client, endpoint), early, meter).await,
    };
    match result {
        Ok(()) => Closed::Fin,
        Err(Failed { is_far, error }) => {
            // Whichever failed: the other one must not see a clean end.
            client.reset_on_close();
            endpoint.reset_on_close();
            let closed = Closed::from(&error);
            if is_far && closed == Closed::ResetLocal {
                meter.endpoint_reset();
            }
            closed
        }
    }
}

async fn copy_all(
    core: &Core,
    (client, endpoint): (&Socket, &Socket),
    early: Early,
    meter: &mut StreamMeter<'_>,
) -> Result<(), Failed> {
    let mut up = Way { waiting: early.bytes, ended: early.ended, ..Way::default() };
    let mut down = Way::default();
    meter.up(up.waiting.len() as u64);
    let (mut client_failed, mut endpoint_failed) = (pin!(client.failed()), pin!(endpoint.failed()));
    poll_fn(|cx| {
        let first = up.poll(cx, core, (client, Failed::client), (endpoint, Failed::endpoint))?;
        let second = down.poll(cx, core, (endpoint, Failed::endpoint), (client, Failed::client))?;
        if up.moved + down.moved > 0 {
            busy::moved(std::ptr::from_ref(client).addr());
            busy::worked(Instant::now());
        }
        meter.up(std::mem::take(&mut up.moved));
        meter.down(std::mem::take(&mut down.moved));
        if first.is_ready() && second.is_ready() {
            return Poll::Ready(Ok::<_, Failed>(()));
        }
        // A socket that is read tells of its reset by itself; one that is not is asked.
        if !up.reads() && client_failed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Failed::client(client.take_error())));
        }
        if !down.reads() && endpoint_failed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Failed::endpoint(endpoint.take_error())));
        }
        Poll::Pending
    })
    .await
}

/// A socket, and what its failure is.
type Side<'a> = (&'a Socket, fn(io::Error) -> Failed);

impl Way {
    /// Whether it waits for its reading side.
    fn reads(&self) -> bool {
        !self.ended && self.at == self.waiting.len() && self.pipe.as_ref().is_none_or(Pipe::is_empty)
    }

    /// Copies again, and for good where the pipe was not worth its making.
    fn give_up_pipe(&mut self) {
        self.only_copies |= self.pipe.take().is_some_and(|pipe| !pipe.was_worth());
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        core: &Core,
        (from, from_failed): Side<'_>,
        (to, to_failed): Side<'_>,
    ) -> Poll<Result<(), Failed>> {
        for _ in 0..ROUNDS {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            while self.at < self.waiting.len() {
                self.at += ready!(to.poll_send(cx, &self.waiting[self.at..])).map_err(to_failed)?;
            }
            (self.waiting, self.at) = (Vec::new(), 0);
            if let Some(pipe) = &mut self.pipe {
                ready!(pipe.poll_empty(cx, to)).map_err(to_failed)?;
                if !pipe.is_worth() {
                    self.give_up_pipe();
                }
            }
            if self.ended {
                to.finish();
                self.done = true;
                continue;
            }
            let mut scratch = core.scratch.borrow_mut();
            let read = match &mut self.pipe {
                // A pipe that is full says nothing of what the socket has, so no read counts as short.
                Some(pipe) => from.poll_read_with(cx, |fd| Ok((pipe.fill(fd, &mut scratch)?, false))),
                None => from.poll_recv(cx, &mut scratch),
            };
            if read.is_pending() && self.pipe.as_ref().is_some_and(Pipe::is_wanted) {
                self.give_up_pipe();
            }
            let n = ready!(read).map_err(from_failed)?;
            self.ended = n == 0;
            self.moved += n as u64;
            if self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty()) {
                continue;
            }
            let sent = if n > 0 { to.try_send(&scratch[..n]) } else { 0 };
            self.waiting.extend_from_slice(&scratch[sent..n]);
            if n >= pipe::MUCH && !self.only_copies && self.pipe.is_none() {
                match Pipe::between(&core.counters, from, to) {
                    Ok(pipe) => self.pipe = Some(pipe),
                    Err(why) => self.only_copies = why == NoPipe::Ever,
                }
            }
        }
        // The other way has its turn, and the core's other tasks.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
