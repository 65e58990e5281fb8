//! How QUIC is run here: its bounds and its timers.

use crate::tunnel::{driver::MuxConfig, mux::window};
use quinn::{TransportConfig, VarInt, congestion::BbrConfig};
use std::{sync::Arc, time::Duration};

/// Streams that a peer may have at once when a tunnel begins, as QUIC counts them. QUIC's state grows with it, so it is raised
/// when half of them are in use, up to what `limits.streamsPerPeer` says.
pub(super) const FIRST_STREAMS: u64 = 4096;
/// What a connection may hold that was sent and is not acknowledged: 100 ms at 1.3 Gbit/s.
const UNACKNOWLEDGED: u64 = 16 << 20;
/// QUIC's own end of a connection that nothing came in on. The driver asks sooner, and gives up sooner.
const IDLE: Duration = Duration::from_secs(60);

/// What all our connections are run with.
///
/// QUIC's flow control is set so that it never comes to hold back a peer that keeps to our own credit: a stream's window is the
/// largest that credit can be, a connection's is the whole memory budget, which bounds the sum of all credit. A peer that does not
/// keep to it locks itself out, or is noticed as soon as its bytes are read.
pub fn transport_config(config: &MuxConfig) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let heads = FIRST_STREAMS * 1024;
    let connection = (config.budget.limit() as u64).saturating_add(heads).min(VarInt::MAX.into_inner());
    transport
        .max_concurrent_bidi_streams(super::driver::streams(FIRST_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32((window::MAX + 64 * 1024) as u32))
        .receive_window(VarInt::from_u64(connection).unwrap_or(VarInt::MAX))
        .send_window(UNACKNOWLEDGED)
        .max_idle_timeout(IDLE.try_into().ok())
        // Our PING goes every 20 s on an idle tunnel.
        .keep_alive_interval(None)
        // Cubic takes each lost packet for congestion: at 0.5% loss and 40 ms it moved a hundredth of what this moves (0012).
        .congestion_controller_factory(Arc::new(BbrConfig::default()))
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    Arc::new(transport)
}
