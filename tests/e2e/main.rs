//! Two clusters, end to end: what a sceptic would try. On real kernels, as root; nothing here is ever skipped.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

mod affinity;
mod apart;
mod bad_days;
mod balancing;
mod bench;
mod bulk;
mod check;
mod checks;
mod drain;
mod endpoints;
mod envoys;
mod failover;
mod far;
mod garbage;
mod half_close;
mod limits;
mod linking;
mod local_hop;
mod local_streams;
mod many_streams;
mod names;
mod peers;
mod policy;
mod proxy_protocol;
mod punch;
mod quic;
mod relay;
mod reload;
mod reset;
mod rotation;
mod server_names;
mod several;
mod shared_listener;
mod strangers;
mod transparent_source;
mod trust;
mod two_clusters;
mod udp;
mod udp_flows;
mod walk;
mod wan;

/// Makes each test once for each transport: over our multiplexer, over HTTP/2 and over QUIC.
macro_rules! over_each_transport {
    ($($test:ident),+ $(,)?) => {
        mod over_tls {
            $(#[test] fn $test() { super::$test(isthmus_tests::Transport::Tls); })+
        }
        mod over_h2 {
            $(#[test] fn $test() { super::$test(isthmus_tests::Transport::H2); })+
        }
        mod over_quic {
            $(#[test] fn $test() { super::$test(isthmus_tests::Transport::Quic); })+
        }
    };
}
use over_each_transport;

/// Makes each test once more with the local hop of both gateways in the kernel.
macro_rules! and_over_the_local_hop {
    ($($test:ident),+ $(,)?) => {
        mod over_the_local_hop {
            $(#[test] fn $test() { super::$test(isthmus_tests::Transport::TlsAndLocalHop); })+
        }
    };
}
use and_over_the_local_hop;

/// Makes each test once over our multiplexer, without and with the local hop.
macro_rules! over_tls_and_the_local_hop {
    ($($test:ident),+ $(,)?) => {
        mod over_tls {
            $(#[test] fn $test() { super::$test(isthmus_tests::Transport::Tls); })+
        }
        crate::and_over_the_local_hop!($($test),+);
    };
}
use over_tls_and_the_local_hop;

/// Tests that need the machine for themselves take turns.
fn heavy() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A test that failed in its turn has left nothing that could harm the next.
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
