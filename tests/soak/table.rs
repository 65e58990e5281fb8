//! What gateways take, from look to look, for people.

use crate::{
    judge::{self, DISK, DOORS, GRANTED, LOG, MEMORY, POOL, Taken},
    stage::Stage,
    tally::Tally,
};
use isthmus_tests::Gateway;
use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
/// The maps of the local hop whose entries can be counted.
const MAPS: [&str; 4] = ["ends", "sockets", "knocks", "doors"];
/// How long gateways may take to come to rest: idle connections, threads and memory go by the minute.
const REST: Duration = Duration::from_secs(90);
/// Between two looks at whether they have.
const PAUSE: Duration = Duration::from_millis(500);

/// One look.
#[derive(Debug)]
pub(crate) struct Sample {
    name: &'static str,
    at: Instant,
    /// West's and east's.
    pub(crate) gateways: [Taken; 2],
}

impl Sample {
    /// Of both gateways, now.
    pub(crate) fn take(stage: &Stage<'_>, name: &'static str) -> Self {
        Self { name, at: Instant::now(), gateways: stage.gateways().map(taken) }
    }

    /// At rest: no streams, and nothing of them in the kernel.
    pub(crate) fn at_rest(stage: &Stage<'_>, name: &'static str) -> Self {
        let nothing = [("streams", 0), ("entries of ends", 0), ("entries of sockets", 0)];
        let rests = |sample: &Self| {
            sample.gateways.iter().all(|of| nothing.iter().all(|(what, none)| of.get(*what) == Some(none)))
        };
        Self::settled(stage, name, rests)
    }

    /// Once it is `as_wanted`, or has had its time for that.
    fn settled(stage: &Stage<'_>, name: &'static str, as_wanted: impl Fn(&Self) -> bool) -> Self {
        let deadline = Instant::now() + REST;
        loop {
            let sample = Self::take(stage, name);
            if as_wanted(&sample) || sample.at > deadline {
                return sample;
            }
            sleep(PAUSE);
        }
    }

    /// What there is more of than at the `start`.
    fn grown(&self, start: &Self, churned: u64) -> Vec<String> {
        let [west, east] = [("west", 0), ("east", 1)]
            .map(|(name, at)| judge::grown(name, &start.gateways[at], &self.gateways[at], churned));
        [west, east].concat()
    }
}

/// What a gateway has.
fn taken(gateway: &Gateway<'_>) -> Taken {
    // Before it is asked anything, which takes a descriptor.
    let mut taken: Taken = gateway.descriptors_by_kind().into_iter().map(|(kind, of)| (kind, of as u64)).collect();
    let descriptors = taken.values().sum();
    let metrics = gateway.metrics();
    // Whole numbers, far from where these end.
    let sum = |name: &str| metrics.sum(name, &[]) as u64;
    let threads = gateway.threads_by_name();
    let in_pools = threads.get("pool").copied().unwrap_or(0);
    let dir = gateway.cluster().dir();
    let logged = written(dir, &|name| name.ends_with(".log"));
    let numbers = [
        ("descriptors", descriptors),
        (MEMORY, gateway.resident() / KIB),
        (GRANTED, sum("isthmus_memory_granted_bytes") / KIB),
        ("streams", sum("isthmus_streams_active")),
        ("tunnels", sum("isthmus_tunnels")),
        ("threads", threads.values().sum::<u64>() - in_pools),
        (POOL, in_pools),
        (LOG, logged / KIB),
        (DISK, (written(dir, &|_| true) - logged) / KIB),
    ];
    taken.extend(numbers.map(|(what, number)| (what.to_owned(), number)));
    taken.extend(MAPS.map(|map| (format!("entries of {map}"), gateway.map(map).entries() as u64)));
    taken
}

/// Bytes of the files below a directory whose names are as wanted. Those that go meanwhile have none.
fn written(dir: &Path, is_wanted: &dyn Fn(&str) -> bool) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => written(&entry.path(), is_wanted),
        _ if is_wanted(&entry.file_name().to_string_lossy()) => entry.metadata().map_or(0, |file| file.len()),
        _ => 0,
    });
    sizes.sum()
}

/// All looks.
#[derive(Debug)]
pub(crate) struct Table {
    start: Sample,
    others: Vec<Sample>,
    churned: u64,
}

impl Table {
    /// With the first one, at rest.
    pub(crate) fn new(start: Sample) -> Self {
        Self { start, others: Vec::new(), churned: 0 }
    }

    pub(crate) fn add(&mut self, sample: Sample) {
        self.others.push(sample);
    }

    /// A file was changed, or an endpoint restarted.
    pub(crate) fn churned(&mut self) {
        self.churned += 1;
    }

    /// Looks a last time, when gateways have come to rest: what they have more of than at the start.
    pub(crate) fn end(&mut self, stage: &Stage<'_>) -> Vec<String> {
        let end = Sample::settled(stage, "end", |end| end.grown(&self.start, self.churned).is_empty());
        let grown = end.grown(&self.start, self.churned);
        self.add(end);
        grown
    }

    /// For people.
    pub(crate) fn print(&self, tally: &Tally) {
        println!(
            "\n| streams | | MiB | cut by a restart | of these before an answer | wrong |\n|---|---|---|---|---|---|"
        );
        let (mut streams, mut bytes, mut cut, mut early, mut wrong) = (0, 0, 0, 0, 0);
        for (name, kind) in tally.kinds() {
            let mib = kind.bytes / MIB;
            println!("| {name} | {} | {mib} | {} | {} | {} |", kind.streams, kind.cut, kind.cut_early, kind.wrong);
            streams += kind.streams;
            bytes += kind.bytes;
            cut += kind.cut;
            early += kind.cut_early;
            wrong += kind.wrong;
        }
        println!("| all | {streams} | {} | {cut} | {early} | {wrong} |", bytes / MIB);
        let restarts = tally.restarts();
        println!("\n{} changes; endpoints of both clusters were restarted {restarts} times\n", self.churned);
        println!(
            "| after | | memory, MiB | descriptors | threads | streams | ends | knocks | doors | log, KiB |\n\
             |---|---|---|---|---|---|---|---|---|---|"
        );
        for sample in std::iter::once(&self.start).chain(&self.others) {
            let after = sample.at.duration_since(self.start.at).as_secs();
            let [west, east] = sample.gateways.each_ref().map(row);
            let both: Vec<_> = west.iter().zip(east).map(|(west, east)| format!("{west}, {east}")).collect();
            println!("| {after} s | {} | {} |", sample.name, both.join(" | "));
        }
        println!("\n(west, east)");
    }
}

fn row(taken: &Taken) -> [u64; 8] {
    let of = |what: &str| taken.get(what).copied().unwrap_or(0);
    [
        of(MEMORY) / KIB,
        of("descriptors"),
        of("threads") + of(POOL),
        of("streams"),
        of("entries of ends"),
        of("entries of knocks"),
        of(DOORS),
        of(LOG),
    ]
}
