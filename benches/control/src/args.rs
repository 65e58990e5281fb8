//! The command line.

use std::{fmt, path::PathBuf, str::FromStr};

/// Measures how control follows changes, as clusters grow
#[derive(Debug, clap::Parser)]
pub(crate) struct Args {
    /// A word that `make bench` has for this; without meaning
    #[arg(hide = true, value_parser = ["control"])]
    _control: Option<String>,
    /// Small clusters and short loads: to see that it works
    #[arg(long)]
    pub(crate) quick: bool,
    /// Changes a second of local endpoints
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rate: u32,
    /// How long each load lasts, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// Sizes to measure one after the other: local services of ten endpoints each
    #[arg(long, value_delimiter = ',', default_values_t = [125, 250, 500, 1000], value_name = "N,…")]
    services: Vec<usize>,
    /// … and then peers, and how many services each of them exports; neither may shrink
    #[arg(long, value_delimiter = ',', default_values_t = GROWTH, value_name = "PEERSxSERVICES,…")]
    peers: Vec<Size>,
    /// Writes CONTROL.md, control.json and control.svg into this directory
    #[arg(long)]
    pub(crate) write: Option<PathBuf>,
}

/// How many peers, and how many services each of them exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) peers: usize,
    pub(crate) services: usize,
}

const fn size(peers: usize, services: usize) -> Size {
    Size { peers, services }
}

/// First the services grow, and then the peers.
const GROWTH: [Size; 7] =
    [size(13, 125), size(13, 250), size(13, 500), size(13, 1000), size(25, 1000), size(50, 1000), size(100, 1000)];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.peers, self.services)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.split_once('x').and_then(|(peers, services)| {
            let size = Self { peers: peers.parse().ok()?, services: services.parse().ok()? };
            ((1..=200).contains(&size.peers) && (1..=5000).contains(&size.services)).then_some(size)
        });
        size.ok_or_else(|| format!("found {text:?}, expected as 10x100: 1 to 200 peers, 1 to 5000 services"))
    }
}

impl Args {
    /// How many local services, of ten endpoints each, one after the other.
    pub(crate) fn services(&self) -> Vec<usize> {
        if self.quick { vec![50, 100] } else { self.services.clone() }
    }

    /// How many peers with how many services each, one after the other.
    pub(crate) fn peers(&self) -> Vec<Size> {
        if self.quick { vec![size(2, 50), size(4, 50)] } else { self.peers.clone() }
    }

    /// How long each load lasts, in seconds.
    pub(crate) fn load_seconds(&self) -> u32 {
        if self.quick { self.seconds.min(5) } else { self.seconds }
    }
}
