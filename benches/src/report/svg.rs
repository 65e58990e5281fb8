//! `results.svg`: a panel of bars for each metric that has a target, readable on light and dark ground.

use std::fmt::Write;

use crate::metric::{Better, Metric};
use crate::samples::Samples;
use crate::setup::Setup;
use crate::stats::Spread;

/// What the chart shows, two panels a row. The others are in the tables.
const PANELS: [Metric; 12] = [
    Metric::ManyRate,
    Metric::CloseRate,
    Metric::OneP50,
    Metric::ManyP99,
    Metric::BulkDown1,
    Metric::BulkDown8,
    Metric::BulkUp1,
    Metric::BulkUp8,
    Metric::CpuPerRequests,
    Metric::CpuPerGib,
    Metric::MemoryConnection,
    Metric::StalledRatio,
];

const WIDTH: usize = 960;
const PANEL: usize = 460;
const GAP: usize = 40;
const TOP: usize = 50;
/// Where bars start: the names stand left of it.
const NAMES: f64 = 118.0;
/// The longest bar; the values stand right of it.
const LONGEST: f64 = 262.0;
const BAR: usize = 16;
const ROW: usize = 22;
const HEAD: usize = 30;

const STYLE: &str = "
  svg { background: #ffffff; }
  text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #3c4650; }
  .head { font-size: 13px; font-weight: 600; fill: #14191f; }
  .title { font-size: 17px; font-weight: 600; fill: #14191f; }
  .note, .unit { font-size: 11px; fill: #68737d; }
  .ours { fill: #0b7a75; } .h2 { fill: #62b6ae; } .peer { fill: #b4bec8; }
  .value { font-variant-numeric: tabular-nums; }
  .range { stroke: #14191f; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0f1418; }
    text { fill: #b9c3cc; } .head, .title { fill: #f1f5f8; } .note, .unit { fill: #8b96a0; }
    .ours { fill: #2cc4b8; } .h2 { fill: #1c7f78; } .peer { fill: #4b5763; }
    .range { stroke: #f1f5f8; }
  }
";

/// The whole picture. Setups without proxies are left out: their bars would leave no room for the others.
pub fn render(samples: &Samples) -> String {
    let setups: Vec<Setup> = samples.setups().into_iter().filter(|&setup| setup != Setup::Direct).collect();
    let measured = |metric: &Metric| setups.iter().any(|&setup| samples.spread(*metric, setup).is_some());
    let panels: Vec<Metric> = PANELS.into_iter().filter(measured).collect();
    let panel_height = HEAD + setups.len() * ROW + 22;
    let height = TOP + panels.len().div_ceil(2) * panel_height + 30;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>isthmus and its peers</title>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"12\" y=\"28\">isthmus and its peers, mutual TLS between two proxies</text>\n"
    );
    for (index, &metric) in panels.iter().enumerate() {
        let (x, y) = ((index % 2) * (PANEL + GAP), TOP + index / 2 * panel_height);
        svg += &panel(samples, metric, &setups, x, y);
    }
    let bottom = height - 12;
    let note =
        "bars: medians; lines: range of all rounds; one run, all setups interleaved, all programs on the same CPUs";
    // Writing to a String cannot fail.
    let _ = writeln!(svg, "<text class=\"note\" x=\"12\" y=\"{bottom}\">{note}</text>\n</svg>");
    svg
}

fn panel(samples: &Samples, metric: Metric, setups: &[Setup], x: usize, y: usize) -> String {
    let info = metric.info();
    let better = if info.better == Better::Lower { "lower is better" } else { "higher is better" };
    let mut svg = format!(
        "<g transform=\"translate({x} {y})\">\n<text class=\"head\" x=\"12\" y=\"16\">{} \
         <tspan class=\"unit\" dx=\"4\">{}, {better}</tspan></text>\n",
        info.title, info.unit
    );
    let spreads: Vec<(Setup, Option<Spread>)> =
        setups.iter().map(|&setup| (setup, samples.spread(metric, setup))).collect();
    let finite = |spread: &Spread| spread.max.is_finite().then_some(spread.max);
    let largest = spreads.iter().filter_map(|(_, spread)| spread.as_ref().and_then(finite)).fold(0.0, f64::max);
    for (index, (setup, spread)) in spreads.iter().enumerate() {
        let scale = if largest > 0.0 { LONGEST / largest } else { 0.0 };
        svg += &bar(metric, *setup, spread.as_ref(), scale, HEAD + index * ROW);
    }
    svg + "</g>\n"
}

fn bar(metric: Metric, setup: Setup, spread: Option<&Spread>, scale: f64, y: usize) -> String {
    let (text_y, middle) = (y + 12, y + BAR / 2);
    let name = format!("<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>\n", NAMES - 8.0, setup.key());
    let Some(spread) = spread else {
        return name + &format!("<text class=\"note\" x=\"{NAMES}\" y=\"{text_y}\">not measured</text>\n");
    };
    let length = |value: f64| (value * scale).clamp(0.0, LONGEST);
    let (min, max) = (NAMES + length(spread.min), NAMES + length(spread.max));
    let mut svg = name;
    let class = match setup {
        Setup::IsthmusTls => "ours",
        setup if setup.is_ours() => "h2",
        _ => "peer",
    };
    let width = length(spread.median);
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{NAMES}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
    );
    if max - min >= 1.0 {
        let _ =
            writeln!(svg, "<line class=\"range\" x1=\"{min:.1}\" x2=\"{max:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>");
    }
    let value = metric.show(spread.median);
    let x = max.max(NAMES + width) + 7.0;
    let _ = writeln!(svg, "<text class=\"value\" x=\"{x:.1}\" y=\"{text_y}\">{value}</text>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::samples::Outcome;

    #[test]
    fn a_panel_for_what_was_measured_and_only_that() {
        let mut samples = Samples::default();
        for (setup, value) in [(Setup::IsthmusTls, 40_200.0), (Setup::Nginx, 21_800.0), (Setup::Direct, 102_000.0)] {
            samples.add(1, setup, Case::Many, &Outcome { values: vec![(Metric::ManyRate, value)], errors: 0 });
        }
        let svg = render(&samples);
        assert_eq!(svg.matches("<rect").count(), 2, "{svg}");
        assert!(svg.contains("40,200") && !svg.contains("102,000") && !svg.contains("close"), "{svg}");
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    }

    #[test]
    fn a_lock_out_has_a_full_bar_and_says_so() {
        let mut samples = Samples::default();
        for (setup, value) in [(Setup::Nginx, f64::INFINITY), (Setup::Haproxy, 1.0)] {
            samples.add(1, setup, Case::Stalled, &Outcome { values: vec![(Metric::StalledRatio, value)], errors: 0 });
        }
        let svg = render(&samples);
        assert!(svg.contains("locked out") && !svg.contains("inf") && !svg.contains("NaN"), "{svg}");
    }
}
