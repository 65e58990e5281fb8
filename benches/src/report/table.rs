//! The tables of the terminal.

use crate::metric::{Better, Metric};
use crate::samples::Samples;
use crate::setup::Setup;
use crate::target::{Limit, Target, Verdict, judge};

/// Metrics as rows, setups as columns: medians, with how far the range reaches from them. The last column has the ratio
/// of `ours` to the best peer.
pub fn render(samples: &Samples, ours: Setup) -> String {
    let setups = samples.setups();
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(setups.iter().map(|setup| setup.key().to_owned()));
    rows[0].push(format!("{} : best peer", ours.key()));
    for metric in samples.metrics() {
        let info = metric.info();
        let mut row = vec![format!("{} [{}]", info.title, info.unit)];
        row.extend(setups.iter().map(|&setup| cell(samples, metric, setup)));
        row.push(ratio_to_best(samples, metric, ours).map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")));
        rows.push(row);
    }
    let mut text = aligned(&rows) + "medians, ± how far the range of all rounds reaches from them\n";
    for (setup, case, count) in samples.errors() {
        text += &format!("FAILED requests or streams: {} {}: {count}\n", setup.key(), case.key());
    }
    for failure in samples.failures() {
        // The log was shown when it happened.
        text += &format!("NOT DONE: {}\n", failure.lines().next().unwrap_or_default());
    }
    text
}

/// What must be reached, and whether it was.
pub fn targets(targets: &[Target], samples: &Samples) -> String {
    let mut rows = vec![["target", "of", "found", "must be", ""].map(str::to_owned).to_vec()];
    for verdict in judge(targets, samples) {
        let Verdict { target, .. } = &verdict;
        let name = format!("{} [{}]", target.metric.info().title, target.subject.key());
        let mark = if verdict.pass { "PASS" } else { "short of target" };
        rows.push(vec![name, compared(&verdict), found(&verdict), limit(&verdict), mark.into()]);
    }
    if rows.len() == 1 { String::new() } else { aligned(&rows) }
}

/// With what a verdict compares.
pub fn compared(verdict: &Verdict) -> String {
    match (verdict.target.limit, verdict.against) {
        (Limit::OfBest(of, _), Some(best)) if verdict.measured == of.len() && of.len() > 1 => {
            format!("{}, the best of {}", best.key(), of.len())
        }
        (Limit::OfBest(of, _), Some(best)) if of.len() > 1 => {
            format!("{}, the best of {} of {}", best.key(), verdict.measured, of.len())
        }
        (Limit::OfBest(..), Some(only)) => only.key().into(),
        _ => "itself".into(),
    }
}

/// What a verdict found, and its range over the rounds where there are several.
pub fn found(verdict: &Verdict) -> String {
    let metric = verdict.target.metric;
    let is_ratio = matches!(verdict.target.limit, Limit::OfBest(..));
    let show = |value: f64| if is_ratio { format!("{value:.2}") } else { metric.show(value) };
    let unit = if is_ratio { "x" } else { metric.info().unit };
    let range = match verdict.range {
        Some(range) if range.count > 1 => format!(" ({}–{})", show(range.min), show(range.max)),
        _ => String::new(),
    };
    format!("{} {unit}{range}", show(verdict.found))
}

/// What a verdict asks for.
pub fn limit(verdict: &Verdict) -> String {
    let sign = if verdict.target.direction() == Better::Lower { "≤" } else { "≥" };
    match verdict.target.limit {
        Limit::OfBest(_, limit) => format!("{sign} {limit} x"),
        Limit::Value(limit) => format!("{sign} {limit} {}", verdict.target.metric.info().unit),
    }
}

/// `ours` over the best peer, where both were measured and a ratio says something.
pub fn ratio_to_best(samples: &Samples, metric: Metric, ours: Setup) -> Option<f64> {
    if metric == Metric::StalledRatio || !is_compared(metric) {
        return None;
    }
    let best = samples.best(metric, &Setup::PEERS)?.1;
    samples.median(metric, ours).map(|value| value / best)
}

/// Whether one setup can be better at it than another.
pub fn is_compared(metric: Metric) -> bool {
    metric != Metric::RoundTrip
}

fn cell(samples: &Samples, metric: Metric, setup: Setup) -> String {
    match samples.spread(metric, setup) {
        None => "-".into(),
        Some(spread) if spread.count == 1 => metric.show(spread.median),
        Some(spread) => format!("{} ±{:.0}%", metric.show(spread.median), spread.percent()),
    }
}

/// Pads columns: the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            text += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::samples::Outcome;
    use crate::target::TARGETS;

    fn filled() -> Samples {
        let mut samples = Samples::default();
        for (setup, value) in [(Setup::IsthmusTls, 4500.0), (Setup::EnvoyHbone, 3000.0)] {
            for (round, factor) in [(1, 0.9), (2, 1.0), (3, 1.2)] {
                let values = vec![(Metric::ManyRate, value * factor)];
                samples.add(round, setup, Case::Many, &Outcome { values, errors: 0 });
            }
        }
        samples
    }

    #[test]
    fn medians_spread_and_ratio_are_shown() {
        let table = render(&filled(), Setup::IsthmusTls);
        assert!(table.contains("4,500 ±20%") && table.contains("3,000 ±20%") && table.contains("1.50"), "{table}");
    }

    #[test]
    fn targets_carry_their_verdict() {
        let text = targets(&TARGETS, &filled());
        assert!(text.contains("c=64 [isthmus-tls]") && text.contains("≥ 1.5 x") && text.contains("PASS"), "{text}");
        assert!(text.contains("1.50 x (1.50–1.50)") && text.contains("the best of 1 of 4"), "{text}");
        assert_eq!(targets(&TARGETS, &Samples::default()), "");
    }

    #[test]
    fn failures_are_not_hidden() {
        let mut samples = filled();
        samples.add(1, Setup::Nginx, Case::Close, &Outcome { values: Vec::new(), errors: 7 });
        samples.fail("nginx: it broke".into());
        let table = render(&samples, Setup::IsthmusTls);
        assert!(table.contains("nginx close: 7") && table.contains("NOT DONE: nginx: it broke"), "{table}");
    }

    #[test]
    fn columns_line_up_whatever_the_characters() {
        let rows = [vec!["µs".to_owned(), "1".into()], vec!["long".to_owned(), "1,000".into()]];
        assert_eq!(aligned(&rows), "µs        1\nlong  1,000\n");
    }
}
