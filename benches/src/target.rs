//! What isthmus must reach, and whether it did.

use crate::metric::{Better, Metric};
use crate::samples::Samples;
use crate::setup::Setup;
use crate::stats::Spread;

/// One line of what must be reached.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What is judged.
    pub metric: Metric,
    /// Whose value.
    pub subject: Setup,
    /// Against what, and where the limit is.
    pub limit: Limit,
}

/// Where a limit is.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// The subject's median over the best median of these.
    OfBest(&'static [Setup], f64),
    /// The median itself.
    Value(f64),
}

/// A target, judged.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The target.
    pub target: Target,
    /// The ratio of the medians, or the median itself where the limit is a value.
    pub found: f64,
    /// The same within each round: how far the verdict can be trusted.
    pub range: Option<Spread>,
    /// The setup that was the best of those compared with.
    pub against: Option<Setup>,
    /// How many of those to be compared with were measured.
    pub measured: usize,
    /// Whether it was reached.
    pub pass: bool,
}

const ENVOYS: &[Setup] = &[Setup::EnvoyTcp, Setup::EnvoyHbone];
const HBONE: &[Setup] = &[Setup::EnvoyHbone];
const PEERS: &[Setup] = &Setup::PEERS;

/// What the proxies are compared with over a WAN.
const WAN_PEERS: &[Setup] = &[Setup::EnvoyTcp, Setup::EnvoyHbone, Setup::Haproxy];
const LEGACY: &[Setup] = &[Setup::Legacy];
/// As good as the best peer, as far as such a run can tell.
const AS_GOOD_LOWER: Limit = Limit::OfBest(WAN_PEERS, 1.05);
const AS_GOOD_HIGHER: Limit = Limit::OfBest(WAN_PEERS, 0.95);

/// Targets over the emulated WAN, of transport auto, which is the default: those that can be judged are, leg by leg.
pub const WAN_TARGETS: [Target; 13] = [
    auto(Metric::ManyRate, AS_GOOD_HIGHER),
    auto(Metric::ManyP50, AS_GOOD_LOWER),
    auto(Metric::ManyP99, AS_GOOD_LOWER),
    auto(Metric::CloseRate, AS_GOOD_HIGHER),
    auto(Metric::CloseP99, AS_GOOD_LOWER),
    // What Cilium claims over this path is 1.75 and 0.6.
    auto(Metric::CloseRate, Limit::OfBest(LEGACY, 1.75)),
    auto(Metric::CloseP99, Limit::OfBest(LEGACY, 0.6)),
    auto(Metric::FirstRoundTrips, Limit::Value(1.1)),
    auto(Metric::FirstP99, AS_GOOD_LOWER),
    auto(Metric::BulkDown1, AS_GOOD_HIGHER),
    auto(Metric::BulkDown8, AS_GOOD_HIGHER),
    auto(Metric::GapWorst, Limit::Value(1000.0)),
    tls(Metric::GapWorst, Limit::Value(1000.0)),
];

/// Targets where one endpoint of eight is slow.
pub const SLOW_TARGETS: [Target; 1] = [tls(Metric::FirstP99, Limit::OfBest(WAN_PEERS, 1.0))];

/// Targets on loopback: all of transport tls, and those of h2.
pub const TARGETS: [Target; 18] = [
    tls(Metric::OneP50, Limit::OfBest(ENVOYS, 0.75)),
    tls(Metric::OneP50, Limit::OfBest(PEERS, 1.0)),
    tls(Metric::OneP99, Limit::OfBest(ENVOYS, 0.75)),
    tls(Metric::OneP99, Limit::OfBest(PEERS, 1.0)),
    tls(Metric::ManyRate, Limit::OfBest(PEERS, 1.5)),
    tls(Metric::ManyP99, Limit::OfBest(PEERS, 0.6)),
    tls(Metric::CloseRate, Limit::OfBest(PEERS, 2.2)),
    tls(Metric::BulkDown1, Limit::OfBest(PEERS, 1.3)),
    tls(Metric::BulkDown8, Limit::OfBest(PEERS, 1.3)),
    tls(Metric::BulkUp1, Limit::OfBest(PEERS, 1.3)),
    tls(Metric::BulkUp8, Limit::OfBest(PEERS, 1.3)),
    tls(Metric::CpuPerRequests, Limit::OfBest(PEERS, 0.55)),
    tls(Metric::CpuPerGib, Limit::OfBest(PEERS, 0.7)),
    tls(Metric::MemoryConnection, Limit::Value(4.0)),
    tls(Metric::MemoryIdle, Limit::Value(20.0)),
    tls(Metric::StalledRatio, Limit::Value(1.1)),
    h2(Metric::ManyRate, Limit::OfBest(HBONE, 1.25)),
    h2(Metric::StalledRatio, Limit::Value(1.1)),
];

const fn tls(metric: Metric, limit: Limit) -> Target {
    Target { metric, subject: Setup::IsthmusTls, limit }
}

const fn auto(metric: Metric, limit: Limit) -> Target {
    Target { metric, subject: Setup::IsthmusAuto, limit }
}

const fn h2(metric: Metric, limit: Limit) -> Target {
    Target { metric, subject: Setup::IsthmusH2, limit }
}

impl Target {
    /// Judges it, if what it compares was measured.
    pub fn judge(self, samples: &Samples) -> Option<Verdict> {
        let value = samples.median(self.metric, self.subject)?;
        let (found, range, against, limit) = match self.limit {
            Limit::Value(limit) => (value, samples.spread(self.metric, self.subject), None, limit),
            Limit::OfBest(setups, limit) => {
                let (setup, best) = samples.best(self.metric, setups)?;
                (value / best, samples.ratios(self.metric, self.subject, setup), Some(setup), limit)
            }
        };
        let pass = match self.direction() {
            Better::Lower => found <= limit,
            Better::Higher => found >= limit,
        };
        let measured = match self.limit {
            Limit::OfBest(setups, _) => {
                setups.iter().filter(|&&setup| samples.median(self.metric, setup).is_some()).count()
            }
            Limit::Value(_) => 0,
        };
        Some(Verdict { target: self, found, range, against, measured, pass })
    }

    /// Which way is better.
    pub fn direction(self) -> Better {
        self.metric.info().better
    }
}

/// Those of `targets` that can be judged.
pub fn judge(targets: &[Target], samples: &Samples) -> Vec<Verdict> {
    targets.iter().filter_map(|target| target.judge(samples)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::samples::Outcome;

    fn samples(values: &[(Setup, Metric, f64)]) -> Samples {
        let mut samples = Samples::default();
        for &(setup, metric, value) in values {
            samples.add(1, setup, Case::Many, &Outcome { values: vec![(metric, value)], errors: 0 });
        }
        samples
    }

    #[test]
    fn a_ratio_is_to_the_best_of_those_named() {
        let rate = Metric::ManyRate;
        let samples = samples(&[
            (Setup::IsthmusTls, rate, 45.0),
            (Setup::Direct, rate, 1000.0),
            (Setup::Haproxy, rate, 20.0),
            (Setup::EnvoyHbone, rate, 30.0),
        ]);
        let verdicts = judge(&TARGETS, &samples);
        assert_eq!(verdicts.len(), 1);
        assert!(verdicts[0].pass && verdicts[0].found == 1.5 && verdicts[0].against == Some(Setup::EnvoyHbone));
    }

    #[test]
    fn lower_is_better_where_it_is() {
        let both = |ours| [(Setup::IsthmusTls, Metric::ManyP99, ours), (Setup::Nginx, Metric::ManyP99, 10.0)];
        assert!(judge(&TARGETS, &samples(&both(6.0)))[0].pass);
        assert!(!judge(&TARGETS, &samples(&both(6.1)))[0].pass);
    }

    #[test]
    fn absolute_limits_need_no_peer_and_ratios_do() {
        let alone =
            samples(&[(Setup::IsthmusTls, Metric::MemoryIdle, 20.5), (Setup::IsthmusTls, Metric::ManyRate, 9.0)]);
        let verdicts = judge(&TARGETS, &alone);
        assert!(verdicts.len() == 1 && !verdicts[0].pass && verdicts[0].against.is_none());
    }

    #[test]
    fn a_lock_out_is_short_of_the_target() {
        assert!(!judge(&TARGETS, &samples(&[(Setup::IsthmusTls, Metric::StalledRatio, f64::INFINITY)]))[0].pass);
    }
}
