//! ● Draws the state.

use super::state::{State, Streams, Tab};
use isthmus_gateway::status::{LinkStatus, LinkWord, ServiceKind, ServiceStatus, Status};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row, Table},
};

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let rows =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]);
    let [head, tabs, body, foot] = rows.areas(frame.area());
    frame.render_widget(Paragraph::new(title(state)), head);
    frame.render_widget(Paragraph::new(names(state)), tabs);
    if let Some(status) = &state.status {
        table(frame, body, state, status);
    }
    frame.render_widget(Paragraph::new(keys(state)), foot);
}

fn title(state: &State) -> Line<'static> {
    let Some(status) = &state.status else { return Line::from(clean(&state.admin)) };
    let ready = status.not_ready.as_ref().map_or_else(|| "ready".to_owned(), |why| format!("not ready: {why}"));
    let text = format!("{} of {} at {}: {ready}", status.cluster, status.clusterset, state.admin);
    Line::from(Span::styled(clean(&text), if status.ready { Style::new() } else { WRONG }))
}

fn names(state: &State) -> Line<'static> {
    let of = |(n, tab): (usize, Tab)| {
        let style = if tab == state.tab { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Span::styled(format!(" {n} {} ", tab.name()), style), Span::raw(" ")]
    };
    Line::from_iter((1..).zip(Tab::ALL).flat_map(of))
}

fn keys(state: &State) -> Line<'static> {
    match &state.missed {
        Some(why) => Line::from(Span::styled(clean(&format!("no news: {why}")), WRONG)),
        None if state.is_stopped() => Line::from("stopped: space goes on, q ends"),
        None => Line::from("Tab next  ↑↓ move  space stop  q end"),
    }
}

/// What is wrong.
const WRONG: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
/// What may be.
const DOUBTFUL: Style = Style::new().fg(Color::Yellow);

fn table(frame: &mut Frame<'_>, area: Rect, state: &State, status: &Status) {
    use Constraint::{Fill, Length};
    let (headings, widths, rows): (&[&'static str], &[Constraint], Vec<Row<'static>>) = match state.tab {
        Tab::Links => (
            &["CLUSTER", "STATE", "TRANSPORT", "RTT", "IN", "OUT", "GATEWAYS", "MESSAGE"],
            &[Length(16), Length(12), Length(10), Length(10), Length(6), Length(6), Length(9), Fill(1)],
            status.links.iter().map(link).collect(),
        ),
        Tab::Services => (
            &["SERVICE", "KIND", "LISTEN", "READY ENDPOINTS", "STREAMS", "MESSAGE"],
            &[Length(26), Length(7), Length(21), Length(24), Length(8), Fill(1)],
            status.services.iter().map(|of| service(of, &state.streams)).collect(),
        ),
        Tab::Streams => (
            &["SERVICE", "PEER", "DIRECTION", "ACTIVE", "OPENED/s", "BROKEN/s", "UP/s", "DOWN/s"],
            &[Length(26), Length(16), Length(10), Length(8), Length(9), Length(9), Length(10), Length(10)],
            state.streams.iter().map(streams).collect(),
        ),
    };
    let heading = Row::new(headings.iter().copied()).style(Style::new().add_modifier(Modifier::BOLD));
    let rows = rows.into_iter().skip(state.top);
    frame.render_widget(Table::new(rows, widths.iter().copied()).header(heading).column_spacing(1), area);
}

fn link(link: &LinkStatus) -> Row<'static> {
    let (state, style) = match (link.state, link.degraded) {
        (LinkWord::Up, false) => ("up", Style::new()),
        (LinkWord::Up, true) => ("degraded", DOUBTFUL),
        (state, _) => (state.as_str(), WRONG),
    };
    let cells = [
        clean(&link.cluster),
        state.to_owned(),
        or_dash(link.transport.as_deref()),
        link.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.1} ms")),
        link.streams_in.to_string(),
        link.streams_out.to_string(),
        format!("{}/{}", link.gateways.reached, link.gateways.known),
        or_dash(link.message.as_deref()),
    ];
    Row::new(cells).style(style)
}

fn service(service: &ServiceStatus, streams: &[Streams]) -> Row<'static> {
    let name = service.name();
    let (kind, direction, ready) = match service.kind {
        ServiceKind::Import => {
            let clusters: Vec<_> = service.clusters.iter().map(|(name, ready)| format!("{name} {ready}")).collect();
            ("import", "egress", clusters.join(", "))
        }
        ServiceKind::Export => ("export", "ingress", service.endpoints.len().to_string()),
    };
    let of_it = streams.iter().filter(|of| of.whose.0 == name && of.whose.2 == direction);
    let active: f64 = of_it.map(|of| of.active).sum();
    let cells = [
        clean(&name),
        kind.to_owned(),
        or_dash(service.listen.as_deref()),
        or_dash(Some(&ready)),
        format!("{active:.0}"),
        or_dash(service.message.as_deref()),
    ];
    Row::new(cells).style(if service.message.is_some() { WRONG } else { Style::new() })
}

fn streams(of: &Streams) -> Row<'static> {
    let (service, peer, direction) = &of.whose;
    let cells = [
        clean(service),
        or_dash(Some(peer)),
        clean(direction),
        format!("{:.0}", of.active),
        format!("{:.1}", of.opened),
        format!("{:.1}", of.broken),
        bytes(of.up),
        bytes(of.down),
    ];
    Row::new(cells).style(if of.broken > 0.0 { DOUBTFUL } else { Style::new() })
}

/// Bytes, with a unit.
fn bytes(count: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut count, mut unit) = (count, 0);
    while count >= 1024.0 && unit + 1 < units.len() {
        (count, unit) = (count / 1024.0, unit + 1);
    }
    format!("{count:.1} {}", units[unit])
}

fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map_or_else(|| "-".to_owned(), clean)
}

/// What comes from a gateway goes to a terminal.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
