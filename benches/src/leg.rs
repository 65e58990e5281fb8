//! The legs of a run over the emulated WAN: how bad the path is, and what is measured on it.

use isthmus_wan::Impairments;

use crate::case::Case;
use crate::error::{Error, Result};
use crate::setup::Setup;

/// Those that are compared on every leg.
const SETUPS: [Setup; 7] = [
    Setup::Direct,
    Setup::IsthmusAuto,
    Setup::IsthmusTls,
    Setup::IsthmusQuic,
    Setup::EnvoyTcp,
    Setup::EnvoyHbone,
    Setup::Haproxy,
];
/// The same beside what has no proxy at the client.
const SETUPS_AND_LEGACY: [Setup; 8] = [
    Setup::Direct,
    Setup::IsthmusAuto,
    Setup::IsthmusTls,
    Setup::IsthmusQuic,
    Setup::EnvoyTcp,
    Setup::EnvoyHbone,
    Setup::Haproxy,
    Setup::Legacy,
];
const FAR: [Case; 3] = [Case::Many, Case::First, Case::Bulk];

/// A path, and what is measured on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leg {
    /// On the command line and in wan.json.
    pub key: &'static str,
    /// At the head of its table.
    pub title: &'static str,
    /// How bad each direction is, in the words of docs/wan.md.
    pub spec: &'static str,
    /// What is compared.
    pub setups: &'static [Setup],
    /// Which loads.
    pub kind: Kind,
}

/// What is done on a leg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Loads, round by round.
    Loads(&'static [Case]),
    /// Requests at a fixed rate, while this happens again and again.
    Faults(Fault),
}

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One of two paths to east is a black hole; then the other, in turn.
    Path,
    /// UDP is a black hole.
    Udp,
}

/// All of them. The line's rate is far below what the emulator and the machine can do, so that it is the path that is
/// measured; at 80 ms it holds 5 MB, more than the fixed windows of many proxies.
pub const LEGS: [Leg; 6] = [
    Leg {
        key: "5ms",
        title: "5 ms",
        spec: "5ms,500mbit",
        setups: &SETUPS_AND_LEGACY,
        kind: Kind::Loads(&[Case::Many, Case::Close, Case::First]),
    },
    Leg { key: "80ms", title: "80 ms", spec: "80ms,500mbit", setups: &SETUPS, kind: Kind::Loads(&FAR) },
    Leg {
        key: "80ms-0.1",
        title: "80 ms, 0.1% loss each way",
        spec: "80ms,500mbit,0.1%",
        setups: &SETUPS,
        kind: Kind::Loads(&FAR),
    },
    Leg {
        key: "80ms-1",
        title: "80 ms, 1% loss each way",
        spec: "80ms,500mbit,1%",
        setups: &SETUPS,
        kind: Kind::Loads(&FAR),
    },
    Leg {
        key: "path-dies",
        title: "20 ms, one of two paths dies",
        spec: "20ms,500mbit",
        setups: &[
            Setup::IsthmusAuto,
            Setup::IsthmusTls,
            Setup::IsthmusQuic,
            Setup::EnvoyTcp,
            Setup::EnvoyHbone,
            Setup::Haproxy,
        ],
        kind: Kind::Faults(Fault::Path),
    },
    Leg {
        key: "udp-dies",
        title: "20 ms, 2% loss each way, UDP dies",
        spec: "20ms,500mbit,2%",
        setups: &[Setup::IsthmusAuto],
        kind: Kind::Faults(Fault::Udp),
    },
];

impl Leg {
    /// Those of a run that measures more than the WAN.
    pub fn short() -> Vec<&'static Self> {
        LEGS.iter().filter(|leg| ["5ms", "80ms-1", "path-dies"].contains(&leg.key)).collect()
    }

    /// Its loads.
    pub fn cases(&self) -> &'static [Case] {
        match self.kind {
            Kind::Loads(cases) => cases,
            Kind::Faults(_) => &[],
        }
    }

    /// How many rounds of its own it makes of one of the run.
    pub fn faults_a_round(&self) -> u32 {
        match self.kind {
            Kind::Loads(_) => 1,
            Kind::Faults(_) => 4,
        }
    }

    /// How many paths there are to east.
    pub fn paths(&self) -> usize {
        if self.kind == Kind::Faults(Fault::Path) { 2 } else { 1 }
    }

    /// By its key, for the command line.
    pub fn parse(text: &str) -> std::result::Result<&'static Self, String> {
        let keys = || LEGS.map(|leg| leg.key).join(", ");
        let found = LEGS.iter().find(|leg| leg.key == text);
        found.ok_or_else(|| format!("found {text:?}, expected one of {}", keys()))
    }

    /// How bad each direction is.
    pub fn impairments(&self) -> Result<Impairments> {
        self.spec.parse().map_err(|error| Error::Load(format!("leg {}: {error}", self.key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leg_is_found_by_its_key_and_says_something_that_the_emulator_understands() {
        for leg in &LEGS {
            assert_eq!(Leg::parse(leg.key), Ok(leg));
            assert!(leg.impairments().is_ok(), "{}", leg.spec);
        }
        assert!(Leg::parse("7ms").unwrap_err().contains("expected one of 5ms, 80ms"));
    }
}
