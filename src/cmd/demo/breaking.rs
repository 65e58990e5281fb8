//! Breaking things while requests are sent: an endpoint, then the link.

use super::{
    error::{Doing, Error},
    narrator::Narrator,
    preflight::Tools,
    prober::{KEPT, KEPT_RATE, Prober, SINGLE_RATE, TIMEOUT},
    process::Crew,
    report::{LinkCut, grouped, milliseconds as readable},
    samples::{Outcome, Span, milliseconds},
    scenario::Running,
};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long the link is cut: long enough for both gateways to give the tunnels up, which TCP alone would not.
const CUT: Duration = Duration::from_secs(3);
/// How long it may take until requests are answered again.
const RECOVERY: Duration = Duration::from_secs(10);

/// Both clusters at work, and what it takes to disturb them.
pub(super) struct Breaking<'a> {
    /// The clusters.
    pub(super) running: &'a Running,
    /// The programs that it calls.
    pub(super) tools: &'a Tools,
    /// Those that have been started.
    pub(super) crew: &'a mut Crew,
    /// Who tells about it.
    pub(super) tell: &'a Narrator,
}

impl Breaking<'_> {
    /// Kills the endpoint that has answered the most, and starts it again, while requests are sent.
    pub(super) async fn kill_endpoint(&mut self, seconds: u64) -> Result<Outcome, Error> {
        let (tell, third) = (self.tell, Duration::from_secs(seconds) / 3);
        let prober = self.load()?;
        let work = async {
            sleep(third).await;
            let busiest = prober.busiest();
            let (victim, name) = (&self.running.endpoints[busiest], &self.running.names[busiest]);
            let from = Instant::now();
            victim.kill(self.crew).await?;
            let broken = Span { from, to: Instant::now() };
            tell.step("endpoint", format_args!("killed nginx at {name}; its port refuses connections"));
            sleep(third).await;
            victim.start(self.crew)?;
            tell.step("endpoint", format_args!("started nginx at {name} again"));
            sleep(third).await;
            Ok::<_, Error>(broken)
        };
        let broken = tell.during("endpoint", &load_in_words(), third * 3, work).await?;
        let outcome = self.count(prober, broken).await?;
        tell.step("endpoint", outcome_in_words(&outcome));
        Ok(outcome)
    }

    /// Cuts the WAN, and restores it, while requests are sent.
    pub(super) async fn cut_link(&mut self, seconds: u64) -> Result<LinkCut, Error> {
        let (tell, stage) = (self.tell, &self.running.stage);
        let calm = (Duration::from_secs(seconds) / 3).max(Duration::from_secs(1));
        let prober = self.load()?;
        let work = async {
            sleep(calm).await;
            let from = Instant::now();
            stage.cut(self.tools, self.crew).await?;
            let cut = Instant::now();
            tell.step(
                "link",
                format_args!("cut for {} s: the WAN drops everything, and closes nothing", CUT.as_secs()),
            );
            sleep(CUT).await;
            // Before the call: an answer that comes after this moment has come through.
            let restored = Instant::now();
            stage.restore(self.tools, self.crew).await?;
            tell.step("link", "restored");
            let back = prober.success_after(restored, RECOVERY).await;
            let later = |back| format!("first answer {} after that", readable(milliseconds(back - restored)));
            tell.step("link", back.map_or_else(|| format!("no answer for {} s", RECOVERY.as_secs()), later));
            sleep(calm).await;
            Ok::<_, Error>(([from, cut, restored], back))
        };
        let ([from, cut, restored], back) = tell.during("link", &load_in_words(), calm * 2 + CUT, work).await?;
        let outcome = self.count(prober, Span { from, to: back.unwrap_or(restored) }).await?;
        tell.step("link", outcome_in_words(&outcome));
        let recovery_ms = back.map(|back| milliseconds(back - restored));
        Ok(LinkCut { outcome, cut_ms: milliseconds(restored - cut), recovery_ms })
    }

    fn load(&self) -> Result<Prober, Error> {
        let stage = &self.running.stage;
        let names = &self.running.names;
        Prober::start(&stage.client, stage.layout.service, names, TIMEOUT + stage.slack()).doing("start the prober")
    }

    async fn count(&mut self, prober: Prober, broken: Span) -> Result<Outcome, Error> {
        let phase = Span { from: prober.begun(), to: Instant::now() };
        let samples = prober.finish().await?;
        self.crew.check()?;
        self.running.stage.check()?;
        Ok(Outcome::of(&samples, phase, broken, &self.running.names))
    }
}

/// How many failed, and for how long.
fn outcome_in_words(outcome: &Outcome) -> String {
    let kinds: Vec<_> = outcome.faults.iter().map(|(fault, n)| format!("{} {fault}", grouped(*n))).collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    let (failed, requests, gap) =
        (grouped(outcome.failed), grouped(outcome.requests), readable(outcome.longest_gap_ms));
    format!("{failed} of {requests} requests failed{kinds}; longest gap {gap}")
}

/// The load meanwhile.
fn load_in_words() -> String {
    format!("sending {} requests/s", SINGLE_RATE + KEPT * KEPT_RATE)
}
