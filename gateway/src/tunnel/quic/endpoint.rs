//! How QUIC is run here: its bounds and its timers.

use quinn::{ServerConfig, TransportConfig, VarInt, congestion::BbrConfig};
use std::{sync::Arc, time::Duration};

/// What a new connection sends before it has heard of the path: 32 packets. RFC 9002, section 7.2, has 10, quinn's BBR 200, which is
/// more than a narrow path's queue holds.
const INITIAL_WINDOW: u64 = 32 * 1200;
/// Streams that a peer may have at once when a tunnel begins, as QUIC counts them. QUIC's state grows with it, so it is raised
/// when half of them are in use, up to what `limits.streamsPerPeer` says.
pub(super) const FIRST_STREAMS: u64 = 4096;
/// What a connection may hold that was sent and is not acknowledged: 100 ms at 1.3 Gbit/s.
const UNACKNOWLEDGED: u64 = 16 << 20;
/// The largest window of a stream: of it an eighth may be on its way back, and a sender of ours has no more unacknowledged than the half.
pub(super) const LARGEST_WINDOW: usize = 32 << 20;
/// Bytes of datagrams that came in before the driver had its turn; older ones give way.
const DATAGRAMS_IN: usize = 1 << 20;
/// Bytes of datagrams that wait for the path before their flows have to: what a datagram may have to wait behind.
const DATAGRAMS_OUT: usize = 128 * 1024;
/// QUIC's own end of a connection that nothing came in on. The driver asks sooner, and gives up sooner.
const IDLE: Duration = Duration::from_secs(60);

/// What a peer may have us hold on a connection before it has opened a stream: behind a hole, for example, where we cannot see it.
pub(super) const FIRST_WINDOW: usize = 4 << 20;
/// The steps of a connection's window. It is kept two above what its streams have been granted, for OPENs and what is on its way.
const STEP: usize = 2 << 20;
/// What somebody who dials may have sent before we look at it: a CRYPTO flight.
const EARLY: u64 = 64 * 1024;
/// Who dials within one turn of a core's tasks is looked at one by one; so many wait for it at least.
const QUEUE: usize = 16;

/// Bounds what those hold whose handshake has not been looked at, where `handshakes` may be under way.
pub fn bound_handshakes(server: &mut ServerConfig, handshakes: usize) {
    let waiting = handshakes.max(QUEUE);
    server.max_incoming(waiting).incoming_buffer_size(EARLY).incoming_buffer_size_total(EARLY * waiting as u64);
}

/// What all our connections are run with.
///
/// QUIC's flow control is set so that it does not come to hold back a peer that keeps to our own credit: a stream's window is the
/// largest that credit can be, a connection's follows what its streams have been granted, see [`connection_window`]. A peer that
/// does not keep to it locks itself out, or is noticed as soon as its bytes are read.
pub fn transport_config() -> Arc<TransportConfig> {
    let mut congestion = BbrConfig::default();
    congestion.initial_window(INITIAL_WINDOW);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(super::driver::streams(FIRST_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32((LARGEST_WINDOW + 64 * 1024) as u32))
        .receive_window(VarInt::from_u32(FIRST_WINDOW as u32))
        .send_window(UNACKNOWLEDGED)
        .max_idle_timeout(IDLE.try_into().ok())
        // Our PING goes every 20 s on an idle tunnel.
        .keep_alive_interval(None)
        // Cubic takes each lost packet for congestion: at 0.5% loss and 40 ms it moved a hundredth of what this moves (0012).
        .congestion_controller_factory(Arc::new(congestion))
        .datagram_receive_buffer_size(Some(DATAGRAMS_IN))
        .datagram_send_buffer_size(DATAGRAMS_OUT)
        .allow_spin(false);
    Arc::new(transport)
}

/// The window of a connection whose streams have been granted so much, together. It only ever grows: what a peer may send cannot be
/// taken back.
pub(super) fn connection_window(granted: usize) -> usize {
    granted.saturating_add(2 * STEP).next_multiple_of(STEP).max(FIRST_WINDOW)
}
