//! The table, the chart, the files.

use crate::{args::Args, load::Took, point::Point};
use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

/// What is said of a point while the run goes on.
pub(crate) fn line(point: Option<&Point>) -> String {
    point.map(row).unwrap_or_default()
}

const COLUMNS: [&str; 13] = [
    "services here",
    "peers × services",
    "whole after, s",
    "changes/s",
    "watch p50 / p99, ms",
    "table here p50 / p99, ms",
    "here : watch, p50",
    "table in east p50 / p99, ms",
    "missed",
    "bytes a change",
    "control CPU (idle), cores",
    "control, MiB",
    "gateway, MiB",
];

fn row(point: &Point) -> String {
    let took = |took: &Took| format!("{:.0} / {:.0}", took.p50, took.p99);
    let cells = [
        point.services.to_string(),
        format!("{} × {}", point.peers, point.shared),
        format!("{:.0}", point.settled_s),
        format!("{:.0}", point.rate),
        took(&point.watch),
        took(&point.local),
        format!("{:.1}", point.local.p50 / point.watch.p50.max(0.001)),
        took(&point.remote),
        (point.local.missed + point.remote.missed).to_string(),
        format!("{:.0}", point.bytes),
        format!("{:.2} ({:.2})", point.control_cpu, point.idle_cpu),
        format!("{:.0}", point.control_mib),
        format!("{:.0}", point.gateway_mib),
    ];
    format!("| {} |", cells.join(" | "))
}

/// The table and how it was made.
pub(crate) fn markdown(points: &[Point], args: &Args) -> String {
    let mut text = format!("| {} |\n|{}\n", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
    points.iter().for_each(|point| text += &format!("{}\n", row(point)));
    if let Some(per) = memory_per_summary(points) {
        let _ = writeln!(text, "\nMemory of control for each service of each peer: {per:.1} KiB.");
    }
    let (rate, seconds) = (args.rate, args.load_seconds());
    let _ = writeln!(
        text,
        "\n- services here: exported, ten endpoints each. Every peer is a process of its own that exports the same services, over a tunnel of its own.\n\
         - here: {rate} times a second for {seconds} s an endpoint of one service after the other gets another address, by a PATCH of its EndpointSlice; until a \
         gateway's client of push has the table with it. Counted from before the request is sent; *watch* is the same until a plain watch of the API server \
         has it, in the same run.\n\
         - in east: ten times a second all endpoints of a service cease to be ready, or are ready again; until a client of push of east's control has it. The two \
         clusters are on one machine: the round trip is nought.\n\
         - missed: changes that had not arrived a minute after the last one.\n\
         - bytes a change: of push, for each gateway, before HTTP/2 and TLS.\n\
         - API server, etcd, both controls, gateways, peers and the harness share the machine's CPUs."
    );
    text
}

/// The slope from the smallest to the largest number of services times peers, in KiB.
fn memory_per_summary(points: &[Point]) -> Option<f64> {
    let of_peers = || points.iter().filter(|point| point.peers > 0);
    let size = |point: &&Point| point.peers * point.shared;
    let (small, large) = (of_peers().min_by_key(size)?, of_peers().max_by_key(size)?);
    let more = size(&large).checked_sub(size(&small)).filter(|&more| more > 0)?;
    Some((large.control_mib - small.control_mib) * 1024.0 / more as f64)
}

/// Writes the files that are wanted.
///
/// # Errors
/// If one cannot be written.
pub(crate) fn write(points: &[Point], args: &Args) -> io::Result<Vec<PathBuf>> {
    let Some(dir) = &args.write else { return Ok(Vec::new()) };
    let commit = command("git", &["rev-parse", "--short=12", "HEAD"]);
    let dirty = if command("git", &["status", "--porcelain"]).is_empty() { "" } else { " with changes" };
    let kernel = command("uname", &["-sr"]);
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let today = time::OffsetDateTime::now_utc().date();
    let said: Vec<_> = std::env::args().skip(1).collect();
    let command = format!("make bench ARGS=\"{}\"", said.join(" "));
    let heading = format!(
        "# Results: control\n\nWritten by `{command}`; do not edit. {today}, commit {commit}{dirty}, {cpus} CPUs, {kernel}.\n\n\
         From an object's change to the tables of gateways, as clusters grow. Targets: p99 of 50 ms here, and of 250 ms over the link's round trip in east.\n\n\
         ![chart](control.svg)\n"
    );
    let files = [
        ("CONTROL.md", format!("{heading}\n{}", markdown(points, args))),
        ("control.json", serde_json::to_string_pretty(points).map_err(io::Error::other)? + "\n"),
        ("control.svg", chart(points)),
    ];
    files.into_iter().map(|(name, text)| put(dir, name, &text)).collect()
}

fn put(dir: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = dir.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

fn command(program: &str, args: &[&str]) -> String {
    let output = std::process::Command::new(program).args(args).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Bars of p99, here and in east, and of memory, a row a size.
fn chart(points: &[Point]) -> String {
    const STYLE: &str = "
  svg { background: #ffffff; }
  text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #3c4650; }
  .head { font-size: 13px; font-weight: 600; fill: #14191f; }
  .bar { fill: #0b7a75; } .target { stroke: #b3261e; stroke-width: 1.5; stroke-dasharray: 4 3; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0f1418; } text { fill: #b9c3cc; } .head { fill: #f1f5f8; } .bar { fill: #2cc4b8; } .target { stroke: #ff8a80; }
  }
";
    type Value = fn(&Point) -> f64;
    let panels: [(&str, Value, Option<f64>); 3] = [
        ("table here, p99, ms", |point| point.local.p99, Some(50.0)),
        ("table in east, p99, ms", |point| point.remote.p99, Some(250.0)),
        ("memory of control, MiB", |point| point.control_mib, None),
    ];
    let (names, longest, row) = (150.0, 190.0, 22);
    let (width, height) = (names as usize + panels.len() * 260, 70 + points.len() * row);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>Control as clusters grow</title>\n<style>{STYLE}</style>\n"
    );
    for (index, point) in points.iter().enumerate() {
        let y = 66 + index * row;
        let size = format!("{} · {} × {}", point.services, point.peers, point.shared);
        svg += &format!("<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{size}</text>\n", names - 8.0);
    }
    svg += "<text class=\"head\" x=\"12\" y=\"32\">services · peers</text>\n";
    for (index, (title, value, target)) in panels.into_iter().enumerate() {
        let x = names + index as f64 * 260.0;
        let largest = points.iter().map(value).chain(target).fold(1.0, f64::max);
        svg += &format!("<text class=\"head\" x=\"{x}\" y=\"32\">{title}</text>\n");
        for (index, point) in points.iter().enumerate() {
            let (value, y) = (value(point), 54 + index * row);
            let length = value / largest * longest;
            svg += &format!(
                "<rect class=\"bar\" x=\"{x}\" y=\"{y}\" width=\"{length:.1}\" height=\"15\" rx=\"2\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{value:.0}</text>\n",
                x + length + 5.0,
                y + 12
            );
        }
        if let Some(target) = target {
            let at = x + target / largest * longest;
            let end = 54 + points.len() * row;
            svg += &format!("<line class=\"target\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"44\" y2=\"{end}\"/>\n");
        }
    }
    svg + "</svg>\n"
}
