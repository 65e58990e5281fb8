//! Fuzz targets: every parser of bytes that come from outside, each a plain function of its input.
//!
//! ```text
//! corpus/<target>/*  ──▶ tests/corpus.rs     replays it, on any toolchain: `make test`
//!        ▲
//!        └── explore/                        finds new inputs with libFuzzer, on nightly: `make fuzz`
//! ```
//!
//! A target panics if the code under it breaks a promise; that it does not panic itself is the least of them. [`TARGETS`] lists
//! them. What an exploration finds worth keeping is committed to the corpus, a crash together with its fix.

#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "panicking is how a target says that a promise is broken")]

mod cursor;
pub mod dns;
pub mod exchange;
pub mod flow;
pub mod hello;
pub mod identity;
pub mod link;
pub mod mux;
pub mod proxy;
pub mod push;
pub mod quic;
pub mod text;
pub mod tls;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Runs it on one input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "certificate", run: identity::certificate },
    Target { name: "client_hello", run: hello::client },
    Target { name: "config", run: text::config },
    Target { name: "dns_query", run: dns::query },
    Target { name: "exchange", run: exchange::message },
    Target { name: "exchange_stream", run: exchange::stream },
    Target { name: "flow_frames", run: flow::frames },
    Target { name: "join_message", run: link::message },
    Target { name: "mux_hostile", run: mux::hostile },
    Target { name: "mux_pair", run: mux::pair },
    Target { name: "names", run: text::names },
    Target { name: "open", run: mux::open },
    Target { name: "proxy_header", run: proxy::header },
    Target { name: "push_updates", run: push::updates },
    Target { name: "quic_control", run: quic::control },
    Target { name: "quic_head", run: quic::head },
    Target { name: "tls_record", run: tls::record },
    Target { name: "token", run: link::token },
];
