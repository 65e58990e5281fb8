//! The task that drives one h2 connection.

use super::{
    Order, Shared,
    chunk::Chunk,
    gather::{Flusher, Gathered},
    request,
    stream::H2Stream,
    windows::MOST_WAITING,
};
use crate::{
    busy,
    tunnel::{
        Ingress, PeerIdentity, Refusal, TunnelHealth,
        driver::{LINGER, TunnelEnd},
        mux::liveness::{Liveness, Verdict},
    },
};
use h2::{Ping, PingPong};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Sleep,
};
use tokio_util::sync::DropGuard;

/// Drives a tunnel's connection; see [`Self::run`].
#[derive(Debug)]
pub struct Driver<IO: AsyncRead + AsyncWrite + Unpin> {
    connection: Connection<IO>,
    flusher: Flusher<IO>,
    shared: Rc<Shared>,
    peer: Rc<PeerIdentity>,
    ingress: Option<Rc<dyn Ingress>>,
    pings: Option<PingPong>,
    /// The question that the PING under way asks.
    asked: Option<u64>,
    liveness: Liveness,
    said_goodbye: bool,
    /// Streams of the peer that wait for room, [`MOST_WAITING`] at most, and since when each has.
    waiting: VecDeque<(Instant, Offered)>,
    /// Tells that it has ended, however it does.
    _ended: DropGuard,
}

/// How long a stream of the peer waits for room; it is looked at whenever the tunnel is, for its liveness at least.
const PATIENCE: Duration = Duration::from_secs(1);

/// A stream that the peer opens.
type Offered = (http::request::Parts, H2Stream);

/// Either end of an HTTP/2 connection.
#[derive(Debug)]
pub(super) enum Connection<IO: AsyncRead + AsyncWrite + Unpin> {
    Dialled(h2::client::Connection<Gathered<IO>, Chunk>),
    Accepted(h2::server::Connection<Gathered<IO>, Chunk>),
}

impl<IO> Driver<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    pub(super) fn new(
        mut connection: Connection<IO>,
        flusher: Flusher<IO>,
        shared: Rc<Shared>,
        peer: Rc<PeerIdentity>,
        ingress: Option<Rc<dyn Ingress>>,
    ) -> Self {
        let pings = match &mut connection {
            Connection::Dialled(connection) => connection.ping_pong(),
            Connection::Accepted(connection) => connection.ping_pong(),
        };
        let liveness = Liveness::new(Instant::now());
        let _ended = shared.ended.clone().drop_guard();
        Self {
            connection,
            flusher,
            shared,
            peer,
            ingress,
            pings,
            asked: None,
            liveness,
            said_goodbye: false,
            waiting: VecDeque::new(),
            _ended,
        }
    }

    /// Runs the tunnel to its end.
    pub async fn run(mut self) -> TunnelEnd {
        let mut timer = Box::pin(tokio::time::sleep_until(self.liveness.next().into()));
        let end = poll_fn(|cx| match self.poll(cx, timer.as_mut()) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        })
        .await;
        // Streams see it before they are woken by what follows from dropping the connection.
        self.shared.set_health(TunnelHealth::Closed);
        self.shared.sender.take();
        if matches!(end, TunnelEnd::Drained) {
            // Courtesy only: the peer may be gone.
            let _ = tokio::time::timeout(LINGER, self.flusher.linger()).await;
        }
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Result<(), TunnelEnd> {
        match self.shared.order.get() {
            Order::Close => return Err(TunnelEnd::Closed),
            Order::Drain => self.say_goodbye(),
            Order::Run => {}
        }
        if let Some(end) = self.poll_connection(cx) {
            return Err(end);
        }
        take_waiting(&mut self.waiting, &self.shared, (&self.peer, self.ingress.as_ref()), cx);
        self.tell_window(cx);
        let now = Instant::now();
        busy::worked(now);
        if self.shared.sent.take() {
            self.liveness.sent(now);
        }
        if self.flusher.take_read() {
            self.liveness.received(now, self.shared.received.take());
            self.notice_goodbye();
        }
        self.watch(cx, now, timer)?;
        if let Poll::Ready(Err(e)) = self.flusher.poll_flush(cx) {
            return Err(e.into());
        }
        *self.shared.driver.borrow_mut() = Some(cx.waker().clone());
        Ok(())
    }

    /// Reads, writes, and hands on new streams until nothing more is to be done; how the connection ended, if it did.
    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Option<TunnelEnd> {
        let polled = match &mut self.connection {
            Connection::Dialled(connection) => Pin::new(connection).poll(cx),
            Connection::Accepted(connection) => loop {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let offered = H2Stream::offered(self.shared.clone(), request.into_parts(), respond);
                        self.waiting.push_back((Instant::now(), offered));
                        if self.waiting.len() > MOST_WAITING {
                            let (shared, ingress) = (&self.shared, self.ingress.as_ref());
                            take_waiting(&mut self.waiting, shared, (&self.peer, ingress), cx);
                        }
                    }
                    Poll::Ready(Some(Err(e))) => break Poll::Ready(Err(e)),
                    Poll::Ready(None) => break Poll::Ready(Ok(())),
                    Poll::Pending => break Poll::Pending,
                }
            },
        };
        match polled {
            Poll::Pending => None,
            Poll::Ready(Ok(())) if self.shared.health() == TunnelHealth::Draining => Some(TunnelEnd::Drained),
            Poll::Ready(Ok(())) => Some(TunnelEnd::PeerClosed),
            Poll::Ready(Err(e)) => Some(e.into()),
        }
    }

    /// Tells the peer the streams' window, if it has changed. While it has not acknowledged the last change, the next one waits.
    fn tell_window(&mut self, cx: &Context<'_>) {
        let mut windows = self.shared.windows.borrow_mut();
        let Some(size) = windows.news() else { return };
        // At most windows::MAX.
        let size = size as u32;
        let told = match &mut self.connection {
            Connection::Dialled(connection) => connection.set_initial_window_size(size),
            Connection::Accepted(connection) => connection.set_initial_window_size(size),
        };
        if told.is_ok() {
            windows.told();
            // The connection writes it when it is polled next.
            cx.waker().wake_by_ref();
        }
    }

    /// Sends GOAWAY where HTTP/2 has use for it: a server's says that streams already under way are still taken. A client just opens
    /// no more, and `h2` ends the connection with the last one.
    fn say_goodbye(&mut self) {
        if let (false, Connection::Accepted(connection)) = (self.said_goodbye, &mut self.connection) {
            connection.graceful_shutdown();
        }
        self.said_goodbye = true;
    }

    /// A server that said goodbye lets no more streams be opened.
    fn notice_goodbye(&self) {
        let mut sender = self.shared.sender.borrow_mut();
        let gone = sender.as_mut().is_some_and(|sender| {
            matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
        });
        if gone {
            *sender = None;
            self.shared.set_health(TunnelHealth::Draining);
        }
    }

    /// Asks, doubts and gives up as [`Liveness`] says.
    fn watch(&mut self, cx: &mut Context<'_>, now: Instant, mut timer: Pin<&mut Sleep>) -> Result<(), TunnelEnd> {
        self.poll_answer(cx, now);
        loop {
            match self.liveness.verdict(now) {
                Verdict::Live => self.believe(),
                Verdict::Ask(question) => self.ask(question, cx),
                Verdict::Doubt => self.doubt(),
                Verdict::GiveUp => return Err(TunnelEnd::Unresponsive),
            }
            let next = self.liveness.next().max(now + Duration::from_millis(1));
            if next < timer.deadline().into_std() || timer.is_elapsed() {
                timer.as_mut().reset(next.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }

    fn ask(&mut self, question: u64, cx: &mut Context<'_>) {
        if self.shared.streams_out.get() + self.shared.streams_in.get() == 0 {
            self.shared.pool.shrink();
        }
        let sent = self.pings.as_mut().is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok());
        // A PING that is still under way has been asked before: its answer says nothing of this question's round trip.
        if sent {
            self.asked = Some(question);
            // The connection writes it when it is polled next.
            cx.waker().wake_by_ref();
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(pings) = &mut self.pings else { return };
        if let Poll::Ready(Ok(_)) = pings.poll_pong(cx) {
            if let Some(question) = self.asked.take() {
                self.liveness.answered(question, now);
                self.shared.rtt.set(self.liveness.rtt());
            }
            // Wait for the next one.
            let _ = pings.poll_pong(cx);
        }
    }

    fn doubt(&self) {
        if self.shared.health() == TunnelHealth::Live {
            self.shared.set_health(TunnelHealth::Unresponsive);
        }
    }

    fn believe(&self) {
        if self.shared.health() == TunnelHealth::Unresponsive {
            self.shared.set_health(TunnelHealth::Live);
        }
    }
}

/// Hands on the streams for which there is room, and refuses those for which none comes: in time, or for so many.
fn take_waiting(
    waiting: &mut VecDeque<(Instant, Offered)>,
    shared: &Shared,
    (peer, ingress): (&Rc<PeerIdentity>, Option<&Rc<dyn Ingress>>),
    cx: &Context<'_>,
) {
    while let Some((since, (_, stream))) = waiting.front_mut() {
        let windowed = stream.windowed();
        if windowed.is_err() && since.elapsed() <= PATIENCE && waiting.len() <= MOST_WAITING {
            let room = shared.windows.borrow_mut().poll_room(true, cx);
            if room == Poll::Ready(true) {
                // Another core has given some back just now.
                cx.waker().wake_by_ref();
            }
            if room != Poll::Ready(false) {
                return;
            }
        }
        if windowed.is_err() {
            shared.windows.borrow().note_refused();
        }
        if let Some((_, offered)) = waiting.pop_front() {
            offer(offered, windowed, peer, ingress);
        }
    }
}

/// Hands a stream that the peer opened to the ingress, or refuses it: there is no window for it, or it cannot be read.
fn offer(
    (head, mut stream): Offered,
    windowed: Result<(), Refusal>,
    peer: &Rc<PeerIdentity>,
    ingress: Option<&Rc<dyn Ingress>>,
) {
    use crate::tunnel::TunnelStream;
    let Some(ingress) = ingress else { return };
    match windowed.and_then(|()| request::decode(&http::Request::from_parts(head, ()), peer)) {
        Ok(request) => ingress.incoming(peer, request, Box::new(stream)),
        Err(refusal) => stream.refuse(&refusal),
    }
}
