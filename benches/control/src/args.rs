//! The command line.

use std::path::PathBuf;

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
    /// The most peers
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=200))]
    most_peers: u16,
    /// The most services that each peer exports
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(8..=5000))]
    most_services: u16,
    /// Writes CONTROL.md, control.json and control.svg into this directory
    #[arg(long)]
    pub(crate) write: Option<PathBuf>,
}

impl Args {
    /// How many local services, of ten endpoints each, one after the other.
    pub(crate) fn services(&self) -> Vec<usize> {
        if self.quick { vec![50, 100] } else { vec![125, 250, 500, 1000] }
    }

    /// How many peers with how many services each, one after the other.
    pub(crate) fn peers(&self) -> Vec<(usize, usize)> {
        if self.quick {
            return vec![(2, 50), (4, 50)];
        }
        let (peers, services) = (usize::from(self.most_peers), usize::from(self.most_services));
        let grow_services = [8, 4, 2, 1].map(|part| (peers.div_ceil(8), services / part));
        let grow_peers = [4, 2, 1].map(|part| (peers.div_ceil(part), services));
        grow_services.into_iter().chain(grow_peers).collect()
    }

    /// How long each load lasts, in seconds.
    pub(crate) fn load_seconds(&self) -> u32 {
        if self.quick { self.seconds.min(5) } else { self.seconds }
    }
}
