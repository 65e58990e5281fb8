//! What gateways took, from look to look, and what there is to say in the end.

use crate::{stage::Stage, tally::Tally};
use isthmus_tests::Gateway;
use std::time::Instant;

const MIB: u64 = 1 << 20;
/// What a gateway may have grown from the middle, under load, to the end, at rest: more is a leak.
const GROWTH: u64 = 32 * MIB;
/// Descriptors that it may have more than before any stream: tunnels that came anew.
const DESCRIPTORS: usize = 16;

/// One look.
#[derive(Debug)]
pub(crate) struct Sample {
    name: &'static str,
    at: Instant,
    /// West's and east's.
    gateways: [Taken; 2],
}

#[derive(Debug)]
struct Taken {
    resident: u64,
    descriptors: usize,
    streams: f64,
    ends: usize,
    knocks: usize,
    doors: usize,
}

impl Sample {
    /// Of both gateways, now.
    pub(crate) fn take(stage: &Stage<'_>, name: &'static str) -> Self {
        Self { name, at: Instant::now(), gateways: stage.gateways().map(Taken::of) }
    }
}

impl Taken {
    fn of(gateway: &Gateway<'_>) -> Self {
        let entries = |map| gateway.map(map).entries();
        Self {
            resident: gateway.resident(),
            descriptors: gateway.descriptors(),
            streams: gateway.metrics().sum("isthmus_streams_active", &[]),
            ends: entries("ends"),
            knocks: entries("knocks"),
            doors: entries("doors"),
        }
    }
}

/// All looks.
#[derive(Debug, Default)]
pub(crate) struct Table {
    samples: Vec<Sample>,
    churned: u64,
}

impl Table {
    pub(crate) fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// A file was changed, or an endpoint restarted.
    pub(crate) fn churned(&mut self) {
        self.churned += 1;
    }

    pub(crate) fn has_middle(&self) -> bool {
        self.named("middle").is_some()
    }

    fn named(&self, name: &str) -> Option<&Sample> {
        self.samples.iter().find(|sample| sample.name == name)
    }

    /// For people.
    pub(crate) fn print(&self, tally: &Tally) {
        println!("\n| streams | | MiB | cut by a restart | wrong |\n|---|---|---|---|---|");
        let (mut streams, mut bytes, mut cut, mut wrong) = (0, 0, 0, 0);
        for (name, kind) in tally.kinds() {
            println!("| {name} | {} | {} | {} | {} |", kind.streams, kind.bytes / MIB, kind.cut, kind.wrong);
            streams += kind.streams;
            bytes += kind.bytes;
            cut += kind.cut;
            wrong += kind.wrong;
        }
        println!("| all | {streams} | {} | {cut} | {wrong} |", bytes / MIB);
        let restarts = tally.restarts() / 2;
        println!("\n{} changes of files and restarts of endpoints, {restarts} of these restarts\n", self.churned);
        println!(
            "| after | | resident, MiB | descriptors | streams | ends | knocks | doors |\n|---|---|---|---|---|---|---|---|"
        );
        for sample in &self.samples {
            let after = self.samples.first().map_or(0, |first| sample.at.duration_since(first.at).as_secs());
            let both = |of: fn(&Taken) -> String| sample.gateways.each_ref().map(of).join(", ");
            println!(
                "| {after} s | {} | {} | {} | {} | {} | {} | {} |",
                sample.name,
                both(|taken| format!("{}", taken.resident / MIB)),
                both(|taken| taken.descriptors.to_string()),
                both(|taken| taken.streams.to_string()),
                both(|taken| taken.ends.to_string()),
                both(|taken| taken.knocks.to_string()),
                both(|taken| taken.doors.to_string()),
            );
        }
        println!("\n(west, east)");
    }

    /// What a gateway has kept.
    pub(crate) fn faults(&self) -> Vec<String> {
        let [start, middle, end] = ["start", "middle", "end"].map(|name| self.named(name));
        let (Some(start), Some(end)) = (start, end) else { return vec!["it was not looked at".to_owned()] };
        let mut faults = Vec::new();
        for (at, name) in ["west", "east"].into_iter().enumerate() {
            let (start, end) = (&start.gateways[at], &end.gateways[at]);
            let middle = middle.map_or(start, |middle| &middle.gateways[at]);
            if end.resident > middle.resident + GROWTH {
                let grown = (end.resident - middle.resident) / MIB;
                faults.push(format!("{name} grew by {grown} MiB from the middle to the end"));
            }
            if end.descriptors > start.descriptors + DESCRIPTORS {
                faults.push(format!("{name} has {} descriptors, {} at the start", end.descriptors, start.descriptors));
            }
        }
        faults
    }
}
