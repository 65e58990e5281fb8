//! Two-ended tests in memory.

mod ends;
mod foreign;
mod pair;
mod tunnel;

use super::*;
use pair::*;
