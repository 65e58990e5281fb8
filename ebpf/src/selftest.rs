//! Whether this kernel redirects as it should, through the programs that are loaded, over its loopback.
//!
//! Bytes are compared one by one with what was sent. Every wait has a limit: what is slow is wrong, too.

mod bound;
mod cases;
mod pair;
mod withdrawn;

use crate::{Programs, Room, Withdrawal};
use pair::{Pair, Side};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    time::{Duration, Instant},
};

/// What a test has found.
#[derive(Debug, thiserror::Error)]
#[error("self-test: {during}: {what}")]
pub struct Fault {
    /// What was being tested.
    pub during: String,
    /// What was found there.
    pub what: Wrong,
}

/// What can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// A system call failed, a wait for longer than [`LOST`] among them.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was waited for came after all, but later than [`PATIENCE`]: as anything may on a machine that is busy.
    #[error("it came only after {} ms", .0.as_millis())]
    Slow(Duration),
    /// Another byte arrived than was sent.
    #[error("byte {at} is {found}, expected {expected}")]
    Byte {
        /// Its place.
        at: u64,
        /// What arrived.
        found: u8,
        /// What was sent.
        expected: u8,
    },
    /// It ended early, or late.
    #[error("{found} bytes, expected {expected}")]
    Length {
        /// How many arrived.
        found: u64,
        /// How many were sent.
        expected: u64,
    },
    /// A reset arrived as an end.
    #[error("a reset arrived as an end")]
    ResetLost,
    /// Ends did not join.
    #[error("the connection was not taken in")]
    NotJoined,
    /// Nothing went the short way.
    #[error("nothing was redirected")]
    NotRedirected,
    /// A connection of others was taken in.
    #[error("a connection of others was taken in")]
    Stranger,
    /// A sender was not stopped.
    #[error("a sender whose reader had stopped could write {0} bytes")]
    NotBound(u64),
    /// The kernel holds more for a reader than it may.
    #[error("the kernel held {0} bytes for a reader that had stopped")]
    TooMuchHeld(u64),
    /// The kernel does not tell what a reader has unread.
    #[error("the kernel says that there is room for {found:?}, expected {expected:?}")]
    Room {
        /// What it says.
        found: Room,
        /// What there is.
        expected: Room,
    },
    /// A connection was taken out when it should not be, or was not when it should.
    #[error("a connection could be taken out: {found:?}, expected {expected:?}")]
    Withdrawal {
        /// What was said of it.
        found: Withdrawal,
        /// What should be.
        expected: Withdrawal,
    },
    /// Something stayed behind.
    #[error("{0} ends stayed behind")]
    LeftBehind(usize),
}

impl Fault {
    /// Whether it is only that something took too long, and nothing was lost.
    pub fn is_slowness(&self) -> bool {
        matches!(self.what, Wrong::Slow(_))
    }
}

/// How long anything may take that takes microseconds where all is well.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// What has not come by then does not come any more.
pub const LOST: Duration = Duration::from_secs(15);

/// Runs all of it: about a second.
///
/// # Errors
/// The first thing that is wrong.
pub fn run(programs: &Programs) -> Result<(), Fault> {
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    for address in &addresses[..if v6 { 2 } else { 1 }] {
        for side in [Side::Accepts, Side::Connects] {
            let kind = Kind { programs, address: *address, side };
            for (name, case) in CASES {
                case(kind).map_err(|what| Fault { during: format!("{name}, {kind}"), what })?;
            }
        }
    }
    let left = || -> Result<(), Wrong> {
        let deadline = Instant::now() + LOST;
        loop {
            match programs.ends()? {
                0 => return Ok(()),
                left if Instant::now() > deadline => return Err(Wrong::LeftBehind(left)),
                // Closed connections linger for a moment.
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    };
    left().map_err(|what| Fault { during: "what stays behind".into(), what })
}

/// Which connections a case is run over.
#[derive(Clone, Copy)]
struct Kind<'a> {
    programs: &'a Programs,
    address: IpAddr,
    side: Side,
}

impl fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.address.is_ipv4() { "IPv4" } else { "IPv6" };
        write!(f, "the gateway {} over {family}", if self.side == Side::Accepts { "accepting" } else { "connecting" })
    }
}

type Case = fn(Kind<'_>) -> Result<(), Wrong>;

const CASES: &[(&str, Case)] = &[
    ("one byte after the other", cases::tiny),
    ("what there is room for", cases::room),
    ("both ways at once, readers late", cases::both_ways),
    ("an end with data queued", cases::half_close),
    ("a reset", cases::reset),
    ("many at once", cases::many),
    ("taken out, step by step", withdrawn::step_by_step),
    ("taken out while both ends write", withdrawn::busy),
    ("a reader that has stopped", bound::stopped_reader),
    ("connections of others", cases::strangers),
];

impl Kind<'_> {
    /// A connection of this kind, both of whose ends have joined.
    fn pair(self) -> Result<Pair, Wrong> {
        let pair = Pair::make(self.programs, self.address, self.side)?;
        pair.check_joined(self.programs)?;
        Ok(pair)
    }
}
