//! A gateway's admin endpoints, asked from inside its namespace.

use crate::netns::Netns;
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Where every gateway has its admin endpoints, inside its own namespace.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15020);
/// The same of a control, which may be in a gateway's.
pub const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15021);

/// Answers later than this are none.
const ANSWER_BOUND: Duration = Duration::from_secs(10);

/// Asks what is at `address` for a path; status code and body.
///
/// # Errors
/// If there is no whole answer.
pub fn get(netns: &Netns, address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = netns.connect(address)?;
    stream.set_read_timeout(Some(ANSWER_BOUND))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let not_http = || io::Error::other(format!("{path}: this is no HTTP: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(not_http)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(not_http)?;
    Ok((code, body.to_owned()))
}

/// One scrape of /metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the Prometheus text format.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Self(samples.filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?))).collect())
    }

    /// The sum of all samples of `name` whose labels contain every one of `labels`, written `key="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name = |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        let wanted = |key: &str| of_name(key) && labels.iter().all(|label| key.contains(label));
        self.0.iter().filter(|(key, _)| wanted(key)).map(|(_, value)| value).sum()
    }

    /// All samples of `name`, with their labels.
    pub fn of(&self, name: &str) -> Vec<(&str, f64)> {
        let of_name = self.0.iter().filter(|(key, _)| key.split('{').next() == Some(name));
        of_name.map(|(key, value)| (key.as_str(), *value)).collect()
    }

    /// Whether there is any sample of `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.keys().any(|key| key.split('{').next() == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_label() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 4\nab 5\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a", &[]), 7.0);
        assert_eq!(metrics.sum("a", &["x=\"1\""]), 3.0);
        assert_eq!(metrics.sum("c", &[]), 0.0);
        assert!(metrics.has("ab") && !metrics.has("b"));
    }
}
