//! ● What /metrics says of streams.

use std::collections::BTreeMap;

/// Whose streams: service, peer, direction.
pub(super) type Whose = (String, String, String);

/// What was counted of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) active: f64,
    pub(super) opened: f64,
    /// Closed in another way than whole.
    pub(super) broken: f64,
    pub(super) up: f64,
    pub(super) down: f64,
}

/// Reads the text format, as far as it is about streams.
pub(super) fn parse(text: &str) -> BTreeMap<Whose, Counters> {
    let mut found: BTreeMap<Whose, Counters> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = sample(line) else { continue };
        let label = |name: &str| label(line, name).unwrap_or_default().to_owned();
        let whose = || (label("service"), label("peer"), label("direction"));
        match name {
            "isthmus_streams_active" => found.entry(whose()).or_default().active += value,
            "isthmus_streams_opened_total" => found.entry(whose()).or_default().opened += value,
            "isthmus_streams_closed_total" if !matches!(&*label("reason"), "fin" | "idle") => {
                found.entry(whose()).or_default().broken += value;
            }
            "isthmus_stream_bytes_total" if label("flow") == "up" => found.entry(whose()).or_default().up += value,
            "isthmus_stream_bytes_total" => found.entry(whose()).or_default().down += value,
            _ => {}
        }
    }
    found
}

/// Its name and value.
fn sample(line: &str) -> Option<(&str, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    Some((series.split('{').next()?, value.parse().ok()?))
}

/// The value of a label. None that we write has a quote in it.
fn label<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let (_, labels) = line.split_once('{')?;
    let mut labels = labels.split("\",").map(|label| label.trim_start_matches('{'));
    labels.find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.split('"').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_by_service_peer_and_direction() {
        let text = "# TYPE isthmus_streams_active gauge\n\
            isthmus_streams_active{service=\"shop/api:80\",peer=\"east\",direction=\"egress\"} 3\n\
            isthmus_streams_opened_total{service=\"shop/api:80\",peer=\"east\",direction=\"egress\"} 12\n\
            isthmus_streams_closed_total{service=\"shop/api:80\",peer=\"east\",direction=\"egress\",reason=\"fin\"} 8\n\
            isthmus_streams_closed_total{service=\"shop/api:80\",peer=\"east\",direction=\"egress\",reason=\"reset_peer\"} 1\n\
            isthmus_stream_bytes_total{service=\"shop/api:80\",peer=\"east\",direction=\"egress\",flow=\"up\"} 10\n\
            isthmus_stream_bytes_total{service=\"shop/api:80\",peer=\"east\",direction=\"egress\",flow=\"down\"} 20\n\
            isthmus_other 1\nno number\n";
        let found = parse(text);
        let whose = ("shop/api:80".to_owned(), "east".to_owned(), "egress".to_owned());
        let expected = Counters { active: 3.0, opened: 12.0, broken: 1.0, up: 10.0, down: 20.0 };
        assert_eq!(found, [(whose, expected)].into());
    }
}
