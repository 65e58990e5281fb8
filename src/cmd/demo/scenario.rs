//! What happens, in its order.

use super::{
    Args,
    breaking::Breaking,
    clusters::{Clusters, GATEWAYS, SERVICE},
    error::{Doing, Error},
    layout::{POD_A, POD_CIDR},
    narrator::Narrator,
    nginx::Nginx,
    place::Place,
    preflight::Tools,
    prober::{Prober, TIMEOUT},
    process::Crew,
    report::{LOOPBACK, Measurement, NAMESPACES, Path, Report, SetUp, grouped, milliseconds as readable},
    samples::milliseconds,
    stage::Stage,
    wrk::Wrk,
};
use isthmus_wan::Wan;
use std::{net::SocketAddr, path::Path as FilePath, sync::Arc, time::Duration};

/// How long a program may take until it answers.
const START: Duration = Duration::from_secs(15);
/// How often it is looked whether all programs still run while one is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// The numbers of connections that are measured.
const CONNECTIONS: [u32; 2] = [1, 64];

/// A run, with everything that it uses.
pub(super) struct Scenario<'a> {
    /// What was asked for.
    pub(super) args: &'a Args,
    /// The programs that it calls.
    pub(super) tools: &'a Tools,
    /// Those that it has started.
    pub(super) crew: &'a mut Crew,
    /// Where the emulated WAN is left for them: gateways that end say so over it.
    pub(super) wan: &'a mut Option<Arc<Wan>>,
    /// Where its files go.
    pub(super) scratch: &'a FilePath,
    /// Who tells about it.
    pub(super) tell: &'a Narrator,
}

/// Both clusters at work.
pub(super) struct Running {
    /// Where.
    pub(super) stage: Stage,
    /// What serves in east.
    pub(super) endpoints: [Nginx; 2],
    /// Their addresses, which is how their answers begin.
    pub(super) names: [String; 2],
}

impl Scenario<'_> {
    /// Plays it from the first step to the last. Dropping this half-way leaves programs in the crew and files in the scratch.
    pub(super) async fn play(mut self) -> Result<Report, Error> {
        let running = self.set_up().await?;
        let throughput = self.measure(&running.stage).await?;
        let mut breaking = Breaking { running: &running, tools: self.tools, crew: self.crew, tell: self.tell };
        let endpoint_killed = breaking.kill_endpoint(self.args.seconds).await?;
        let link_cut = breaking.cut_link(self.args.seconds).await?;
        let set_up = SetUp {
            mode: if self.args.loopback { LOOPBACK } else { NAMESPACES },
            wan: self.args.wan.map(|each_way| each_way.to_string()),
            seconds: self.args.seconds,
        };
        Ok(Report::judge(set_up, throughput, endpoint_killed, link_cut))
    }

    async fn set_up(&mut self) -> Result<Running, Error> {
        let tell = self.tell;
        let stage = self.build().await?;
        let endpoints = self.serve(&stage).await?;
        let names = stage.layout.endpoints.map(|address| address.to_string());
        tell.step("east", format_args!("nginx serves at {} and {}", names[0], names[1]));
        self.serve_in_the_open(&stage).await?;
        let clusters = Clusters::prepare(self.scratch)?;
        tell.waiting("trust", "making identities", START, clusters.identify(self.crew)).await?;
        tell.step("trust", "west.demo and east.demo: a CA each, which the other knows; none is shared");
        clusters.start(self.crew, &stage)?;
        let dialled = stage.layout.dialled;
        tell.step("gateways", format_args!("one `isthmus run` in each; west dials {dialled} for mutual TLS 1.3"));
        let service = stage.layout.service;
        let took = readable(milliseconds(self.wait_answer(SERVICE, &stage, &stage.client, service).await?));
        tell.step("service", format_args!("a client in west gets {SERVICE} at {service}, after {took}"));
        Ok(Running { stage, endpoints, names })
    }

    async fn build(&mut self) -> Result<Stage, Error> {
        let tell = self.tell;
        if self.args.loopback {
            let stage = Stage::of_loopback()?;
            let [west, wan, east] =
                [stage.layout.west.tunnel, stage.layout.dialled, stage.layout.east.tunnel].map(|address| address.ip());
            tell.step("network", format_args!("west is {west}, east {east}, between them a relay, {wan}"));
            return Ok(stage);
        }
        let building = Stage::of_namespaces(self.tools, self.crew, self.args.wan);
        let stage = tell.waiting("network", "making namespaces", START, building).await?;
        *self.wan = stage.emulator();
        tell.step("network", format_args!("west and east both use {POD_CIDR}: {POD_A} is a pod in each"));
        if let Some(refusal) = stage.refusal_of_wan(self.tools, self.crew).await? {
            tell.step("network", format_args!("asked for {POD_A}, the WAN between them says \"{refusal}\""));
        }
        if let Some(wan) = self.args.wan {
            let rtt = readable(milliseconds(wan.round_trip()));
            tell.step("network", format_args!("the WAN is emulated, {wan}: a round trip takes {rtt}"));
        }
        Ok(stage)
    }

    async fn serve(&mut self, stage: &Stage) -> Result<[Nginx; 2], Error> {
        let (program, addresses) = (self.tools.path("nginx"), stage.layout.endpoints);
        let prepare = |n: usize| Nginx::prepare(&stage.pods[n], program, self.scratch, addresses[n]);
        let endpoints = [prepare(0)?, prepare(1)?];
        for (nginx, address) in endpoints.iter().zip(addresses) {
            nginx.start(self.crew)?;
            self.wait_answer(&format!("nginx at {address}"), stage, &stage.east, address).await?;
        }
        Ok(endpoints)
    }

    /// With an emulated WAN, an nginx that the WAN can reach: what direct TCP has over the same distance.
    async fn serve_in_the_open(&mut self, stage: &Stage) -> Result<(), Error> {
        if self.args.wan.is_none() {
            return Ok(());
        }
        let open = stage.layout.open;
        Nginx::prepare(&stage.east, self.tools.path("nginx"), self.scratch, open)?.start(self.crew)?;
        self.wait_answer(&format!("nginx at {open}"), stage, &stage.west, open).await?;
        self.tell.step("east", format_args!("to compare with, one more nginx is open to the WAN, at {open}"));
        Ok(())
    }

    /// Waits until `address` answers as seen from `place`, and tells how long that took.
    async fn wait_answer(
        &mut self,
        what: &str,
        stage: &Stage,
        place: &Place,
        address: SocketAddr,
    ) -> Result<Duration, Error> {
        let [a, b] = stage.layout.endpoints;
        let names = [a, b, stage.layout.open].map(|address| address.to_string());
        let prober = Prober::start(place, address, &names, TIMEOUT + stage.slack()).doing("start the prober")?;
        let begun = prober.begun();
        let (tell, crew) = (self.tell, &mut *self.crew);
        let looking = async {
            while begun.elapsed() < START {
                let answered = prober.success_after(begun, LOOK).await;
                if answered.is_some() {
                    return Ok(answered);
                }
                crew.check()?;
                stage.check()?;
            }
            Ok::<_, Error>(None)
        };
        if let Some(answered) = tell.waiting("wait", &format!("waiting for {what}"), START, looking).await? {
            return Ok(answered.duration_since(begun));
        }
        let last = prober.finish().await?.last().and_then(|sample| sample.outcome.err());
        let last = last.map_or("no answer", |fault| fault.name()).to_owned();
        Err(Error::Silent { what: what.to_owned(), seconds: START.as_secs(), last, log: self.crew.tails(GATEWAYS) })
    }

    async fn measure(&mut self, stage: &Stage) -> Result<Vec<Measurement>, Error> {
        let wrk = Wrk::new(self.tools.path("wrk"), self.scratch, stage.slack());
        let (endpoints, service, open) = (stage.layout.endpoints, [stage.layout.service], [stage.layout.open]);
        let gateways = (Path::Gateways, &stage.client, &service[..]);
        let direct = match self.args.wan {
            None => (Path::Direct, &stage.east, &endpoints[..]),
            Some(_) => (Path::Direct, &stage.west, &open[..]),
        };
        let length = Duration::from_secs(self.args.seconds);
        let mut measurements = Vec::new();
        for connections in CONNECTIONS {
            for (path, place, targets) in [direct, gateways] {
                let doing = format!("wrk {}, {connections} keep-alive", path.name());
                let work = wrk.run(self.crew, place, targets, connections, length);
                let figures = self.tell.during("measure", &doing, length, work).await?;
                let measurement = Measurement::new(path, connections, &figures);
                self.tell.step("measure", describe(&measurement));
                measurements.push(measurement);
                self.crew.check()?;
            }
        }
        Ok(measurements)
    }
}

/// A measurement in words.
fn describe(m: &Measurement) -> String {
    let rate = grouped(m.requests_per_second.round() as u64);
    let (p50, p99) = (m.p50_us as f64 / 1e3, m.p99_us as f64 / 1e3);
    let (path, n) = (if m.path == Path::Direct { "direct" } else { "gateways" }, m.connections);
    let what = format!("{path}, {n} connection{}:", if n == 1 { "" } else { "s" });
    let faults: String = m.faults.iter().map(|(kind, n)| format!(", {n} {kind} errors")).collect();
    format!("{what:<25} {rate:>8} requests/s, p50 {p50:.2} ms, p99 {p99:.2} ms{faults}")
}
