//! Two-ended tests over the loopback device, with real sockets.

mod by_hand;
mod datagrams;
mod ends;
mod pair;
mod tunnel;

use super::*;
use pair::*;
